"""Validating a definition repository: read, judged, built, its dashboards looked at; all problems at once.

```
read_repository → tried (policy, dbt, Postgres) → check_dashboards
```
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.dashboards.checks import check_dashboards
from kiket_worker.definitions.dashboards.preparing import relations_of
from kiket_worker.definitions.problem import Problem, Severity
from kiket_worker.definitions.reading import read_repository
from kiket_worker.definitions.trial.trial import Trials


@dataclass(frozen=True)
class Validation:
    """The overlay that was read, and what is wrong with it, sorted by place.

    `unread` are the texts of files that are not part of it, because they cannot be read as what they should be.
    """

    overlay: Overlay
    problems: tuple[Problem, ...]
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        """Whether it may be published: warnings do not keep it from that."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)

    @property
    def texts(self) -> dict[str, str]:
        """Every text that a problem can be about."""
        return {**self.overlay.files, **self.unread}


def validate(root: Path, trials: Trials, *, name: str, others: Mapping[str, Overlay]) -> Validation:
    """Validate the repository in a folder, to be published under a name beside an organisation's other overlays.

    Raises `UsageError` where there is no such folder, and `DefinitionsUntried`.
    """
    repository = read_repository(root)
    problems = set(repository.problems)
    if repository.files:
        unread = {problem.file for problem in problems if problem.severity is Severity.ERROR}
        with trials.tried(repository.overlay.without(unread), name, others, unread) as tried:
            problems |= set(tried.problems)
            relations = relations_of(tried.session, tried.schema)
            problems |= set(
                check_dashboards(
                    repository.overlay.without(unread),
                    relations,
                    unbuilt=tried.unbuilt - relations.keys(),
                    session=tried.session,
                    schema=tried.schema,
                )
            )
    return Validation(repository.overlay, tuple(sorted(problems)), repository.unread)
