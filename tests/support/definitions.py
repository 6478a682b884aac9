"""Definition repositories of tests: examples, and where they are tried."""

import re
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
    """Every rule's wrong, or right, example in one repository. Dashboards and queries get names that do not meet."""
    for example in sorted((EXAMPLES / "rules").glob(f"*/{side}")):
        prefix = example.parent.name.replace("-", "_")
        for file in (path for path in example.rglob("*") if path.is_file()):
            place = into / file.relative_to(example)
            content = file.read_bytes()
            if place.parent.name in {"dashboards", "queries"}:
                place = place.with_name(f"{prefix}_{place.name}")
                content = re.sub(rb"(?m)^(  id|.* query): ((?!fct_|dim_)\w+)$", rf"\1: {prefix}_\2".encode(), content)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    return into


def repository(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A repository of these files, by their paths."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
