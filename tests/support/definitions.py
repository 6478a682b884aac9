"""Definition repositories of tests: examples, and where they are tried."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.definitions.trial.trial import Trials
from tests.support.installations import Installation
from tests.support.tenants import isolation_of, settings_of

EXAMPLES = Path(__file__).parents[1] / "repositories"


def trials_of(installation: Installation, *, time_limit_seconds: float = 300) -> Trials:
    """Trials in an installation with roles."""
    settings = settings_of(installation.ledger_url)
    isolation = isolation_of(installation.ledger_url)
    return Trials(
        installation.ledger, isolation, DbtConnection.from_settings(settings), time_limit_seconds=time_limit_seconds
    )


def all_examples(side: str, into: Path) -> Path:
    """Every rule's wrong, or right, example in one repository."""
    for example in sorted((EXAMPLES / "rules").glob(f"*/{side}")):
        shutil.copytree(example, into, dirs_exist_ok=True)
    return into


def repository(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A repository of these files, by their paths."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
