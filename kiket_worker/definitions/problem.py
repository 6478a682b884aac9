"""A problem of a definition repository: what is wrong where, by which rule, and what helps."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error keeps a repository from being published; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Problem:
    """Sorted by place. `file` is the path in the repository, empty for the whole of it; lines are counted from 1."""

    file: str
    line: int
    rule: str
    severity: Severity
    message: str
    hint: str


@dataclass(frozen=True)
class Rule:
    """One rule. `why` says in a sentence or two what it is for; `name` is what problems are found by."""

    name: str
    severity: Severity
    title: str
    why: str

    def problem(self, file: str, line: int, message: str, hint: str = "") -> Problem:
        """A problem by this rule; `message` names the thing, and `hint` says what helps."""
        return Problem(file, max(1, line), self.name, self.severity, message, hint)
