"""An installation whose workers replay dbt for organisations that have rows, each as a process of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.services import BenchmarkFailed, Installation, Process, Services
from kiket_worker.events import ENGINE_COMPILED

_COMPILE_SECONDS = 600
# A project, five users and some issues for each organisation: enough that refreshes are work, and most of it SQL.
_ROWS = (
    "insert into public.users (id, organization_id, name, email, role, active, created_at)"
    " select organization.id * 5 + one, organization.id, 'U', 'u' || organization.id * 5 + one || '@example.org',"
    " 'member', true, now() from public.organizations as organization, generate_series(0, 4) as one",
    "insert into public.projects (id, organization_id, key, name, archived, created_at)"
    " select id, id, 'P', 'Project', false, now() from public.organizations",
    "insert into public.issues (id, organization_id, project_id, issue_type, title, status, priority, created_at,"
    " completed_at, updated_at)"
    " select organization.id * 10000 + one, organization.id, organization.id, 'story', 'Issue', 'done', 'low',"
    " now() - interval '90 days', now() - one %% 80 * interval '1 day', now()"
    " from public.organizations as organization, generate_series(1, {issues}) as one",
    "alter table analytics_shared.dim_dates owner to analytics_shared",
    "grant select on analytics_shared.dim_dates to analytics_tenants, analytics_readers",
    "analyze",
)


@contextmanager
def replaying(
    services: Services, name: str, *, organization_count: int, issues: int, stub: bool
) -> Iterator[Installation]:
    """An installation that replays dbt; its first worker records dbt, which takes a minute.

    With `stub`, dbt is a stub that takes no time: to see in seconds that a benchmark works.
    """
    if stub:
        with services.installation(name, organization_count=organization_count) as installation:
            installation.set_dbt_seconds(0)
            yield installation
        return
    engine = {"KIKET_DBT_ENGINE": "replay", "KIKET_DBT_EXECUTABLE": str(Path(sys.executable).parent / "dbt")}
    with services.installation(name, organization_count=organization_count, **engine) as installation:
        for statement in _ROWS:
            installation.rows(statement.format(issues=issues))
        yield installation


def wait_until_compiled(installation: Installation, worker: Process) -> None:
    """Wait until a worker that replays has recorded dbt. Raises `BenchmarkFailed` where that cannot be replayed."""
    if "KIKET_DBT_ENGINE" not in installation.variables:
        return

    def compiled() -> bool:
        return f'"{ENGINE_COMPILED.name}"' in worker.log.read_text()

    installation.wait(compiled, "a compiled bundle", seconds=_COMPILE_SECONDS)
    if '"replayable": true' not in worker.log.read_text():
        raise BenchmarkFailed("the core project cannot be replayed")
