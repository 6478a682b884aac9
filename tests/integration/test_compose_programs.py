"""The programs that stand in deploy/compose.yaml itself, run as they stand, but for where their services are."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

import kiket_worker
from kiket_worker.dev import postgres
from tests.support.installations import Installation

SERVICES: dict[str, Any] = yaml.safe_load(
    (Path(kiket_worker.__file__).parent.parent / "deploy" / "compose.yaml").read_text()
)["services"]


def program(service: str) -> str:
    """What the service runs, as Compose hands it on: `$$` is a dollar sign."""
    (text,) = SERVICES[service]["command"]
    return str(text).replace("$$", "$")


def test_the_bucket_is_made_once_and_found_after_that(s3_bucket: str) -> None:
    name = f"compose-{uuid4().hex[:8]}"
    assert SERVICES["bucket"]["entrypoint"] == ["python", "-c"]
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", program("bucket")],
            env=os.environ | {"ARTIFACTS_URL": f"s3://{name}/artifacts"},
            check=True,
            timeout=60,
        )
    names = [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]
    assert names.count(name) == 1


def test_the_login_gets_the_password_of_the_file_whatever_is_in_it(installation: Installation, tmp_path: Path) -> None:
    parts = conninfo_to_dict(installation.ledger_url)
    password = f'it\'s \\a "password" $HOME {uuid4().hex}'
    (tmp_path / "postgres-password").write_text("of the superuser\n")
    (tmp_path / "ledger-password").write_text(f"{password}\n")
    text = program("login")
    for there, here in (
        ("/run/secrets/", f"{tmp_path}/"),
        ("--host=postgres", f"--host={parts['host']}"),
        ("--dbname=kiket", f"--dbname={parts['dbname']}"),
    ):
        assert there in text
        text = text.replace(there, here)
    try:
        done = subprocess.run(
            [*SERVICES["login"]["entrypoint"], text],
            env=os.environ | {"PATH": f"{postgres.programs_folder()}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert password not in done.stdout
        psycopg.connect(installation.ledger_url, password=password).close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(installation.ledger_url)
    finally:
        installation.execute(f"alter role kiket_ledger password '{parts['password']}'")
