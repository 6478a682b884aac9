"""`python -m benchmarks` for tests of its short forms, which look at what is said and not at how long it takes.

Benchmarks of one process share their services, and what dbt was recorded with; dbt and the product's commands are
forked, but for the ticker's, whose own resources are a figure.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

# Much is imported where it is used only: each process that a benchmark starts of itself imports this module anew.
if TYPE_CHECKING:
    from benchmarks.services import Child, Services


def main() -> None:
    import benchmarks.__main__
    from benchmarks import definitions
    from tests.support import warm_dbt

    warm_dbt.use_everywhere()
    definitions._DBT = warm_dbt.executable()
    with ExitStack() as stack:
        _share_services(stack)
        _share_recordings(stack)
        benchmarks.__main__.main()


def _share_services(stack: ExitStack) -> None:
    from benchmarks import queue, services, soak, ticker, workers
    from tests.support import warm_command

    @cache
    def started() -> "Services":
        warm_command.executable()  # It is imported while services start.
        return stack.enter_context(services.running())

    @contextmanager
    def shared() -> "Iterator[Services]":
        yield started()

    @contextmanager
    def forking() -> "Iterator[Services]":
        yield replace(started(), launch=_fork)

    ticker.running = shared
    queue.running = workers.running = soak.running = forking


def _share_recordings(stack: ExitStack) -> None:
    """Compiled bundles are found in the same artifacts, by the same address and name of the database."""
    from benchmarks import replay, scale, services

    folder = cache(lambda: stack.enter_context(services.temporary_folder()))
    postgres = cache(lambda: stack.enter_context(services.postgres_in(folder() / "postgres")))

    @contextmanager
    def shared_folder() -> Iterator[Path]:
        yield folder()

    @contextmanager
    def shared_postgres(_folder: Path) -> Iterator[str]:
        yield postgres()

    replay.temporary_folder = scale.temporary_folder = shared_folder
    replay.postgres_in = scale.postgres_in = shared_postgres


def _fork(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: IO[bytes]) -> "Child":
    from tests.support import forks, warm_command

    return forks.start(warm_command.executable(), arguments, environment=environment, folder=folder, output=output)


if __name__ == "__main__":
    main()
