"""Secrets of the development services: made once for a directory, and kept there for whoever may read it."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from kiket_worker.dev.service import locked

# Who works with the ledger, as in a real installation: no superuser.
LEDGER_ROLE = "kiket_ledger"


@dataclass(frozen=True)
class DevSecrets:
    """The password of `LEDGER_ROLE`, and the value of `KIKET_TENANT_KEYS`."""

    ledger_password: str
    tenant_keys: str


def secrets_of(directory: Path) -> DevSecrets:
    """The secrets kept in a directory, made if there are none."""
    path = directory / "secrets.json"
    with locked(directory / "secrets"):
        if not path.exists():
            made = DevSecrets(secrets.token_urlsafe(32), f"1:{secrets.token_urlsafe(32)}")
            unfinished = path.with_suffix(".part")
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(asdict(made), file)
            unfinished.rename(path)
        return DevSecrets(**json.loads(path.read_text()))
