"""`demo`: the main job on this machine, interrupted and begun again; and what it finds when something is wrong."""

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from psycopg import sql

from kiket_worker.dev import postgres
from kiket_worker.dev.service import alive
from kiket_worker.tenants.gates import Gate, Step
from tests.support import warm_dbt


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: each pytest that starts closes its parent to others, so also to the user that runs Postgres.
    path = Path(tempfile.mkdtemp(prefix="kiket-demo-", dir="/tmp"))
    yield path
    postgres.stop(path / "postgres")
    shutil.rmtree(path)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that works in the folder or names it."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [process.cwd(), *process.cmdline()]
        except psutil.Error:
            continue
        if alive(process) and any(str(folder) in word for word in told):
            found.append(process)
    return found


def arguments_of(process: psutil.Process) -> list[str]:
    """The command line of a process; none for one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.timeout(600)
def test_the_demo_is_consistent_also_after_it_was_interrupted(
    installation: Any, folder: Path, until: Callable[..., Any]
) -> None:
    demo = installation.start(
        "demo", "--json", "--directory", folder, DATABASE_URL="postgresql://not/used", KIKET_DBT_ENGINE="executable"
    )
    until(
        lambda: (
            demo.poll() is not None
            or any("run" in arguments_of(child) for child in psutil.Process(demo.pid).children(recursive=True))
        ),
        "dbt runs",
    )
    assert demo.poll() is None, "the demo has ended by itself"
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) != 0
    assert processes_of(folder) == []

    # Variables of a real installation are not for the demo.
    result = installation.run("demo", "--json", "--directory", folder, DBT_HOST="/nowhere", DBT_USER="nobody")
    assert result.code == 0, result.err
    document = result.document
    assert document["consistent"] is True
    by_slug = {organization["slug"]: organization for organization in document["organizations"]}
    assert len(by_slug) >= 8
    assert {organization["plan"] for organization in by_slug.values()} == {
        *("starter", "team", "business", "enterprise")
    }
    due = {slug: organization for slug, organization in by_slug.items() if organization["due"]}
    assert len(by_slug) - len(due) == 2, "one is paused, and one is not due yet"
    for organization in due.values():
        assert organization["status"] == "succeeded"
        assert organization["usage_events"] == organization["models"] == 12
        assert organization["duration_seconds"] > 0
    page = Path(document["report"]).read_text()
    assert all(slug in page for slug in by_slug)
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", ""), "the report needs nothing beside itself"
    assert processes_of(folder) == []


def test_the_demo_finds_what_is_wrong(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the isolation on purpose: models without a filter are none the worse for it, until the gates leak too."""
    from kiket_worker.dbt import bundle
    from kiket_worker.dev import demo, environment, sample

    project = tmp_path / "project"
    core = bundle.core_bundle().project_dir
    for path in core.rglob("*"):
        if path.is_file() and "target" not in path.parts:
            copy = project / path.relative_to(core)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for name in ("stg_projects", "stg_usage_events"):
        leaky = project / "models" / "staging" / f"{name}.sql"
        tight = leaky.read_text()
        leaky.write_text(tight.replace("{{ tenant_filter('organization_id') }}", "true"))
        assert leaky.read_text() != tight
    monkeypatch.setattr("kiket_worker.refresh.services.core_bundle", lambda: bundle.Bundle(project))
    monkeypatch.setattr(sample, "demo", lambda: (*sample.tiny()[:1], *_paused_and_fresh()))
    # Each time with other gates, for one organisation: recording dbt would take longer than running it.
    monkeypatch.setenv("KIKET_DBT_ENGINE", "executable")
    monkeypatch.setenv("KIKET_DBT_EXECUTABLE", str(warm_dbt.executable()))
    said: list[str] = []

    assert demo.run_demo(folder, said.append).faults == []

    tight_gates = environment.load_gates(None)
    monkeypatch.setattr(environment, "load_gates", lambda _: [LeakyGate(**vars(gate)) for gate in tight_gates])
    result = demo.run_demo(folder, said.append)

    for told in (
        "dim_projects has 2 rows of another organisation",
        "fct_usage_events differs from the organisation's own usage",
    ):
        assert any(fault.startswith(f"acme: {told}") for fault in result.faults), result.faults
    assert json.loads(json.dumps(result.document()))["consistent"] is False
    assert "Not consistent" in result.report.read_text()


class LeakyGate(Gate):
    def _condition(self, row: str, steps: tuple[Step, ...]) -> sql.Composed:
        return sql.Composed([sql.SQL("true")])


def _paused_and_fresh() -> tuple[Any, ...]:
    from kiket_worker.dev.demo import NOT_YET_DUE, PAUSED
    from kiket_worker.dev.sample import OrganizationSpec
    from kiket_worker.ledger.organizations import Plan

    return (
        OrganizationSpec(8, PAUSED, "Paused", Plan.TEAM, projects=1, users=1, issues=10),
        OrganizationSpec(9, NOT_YET_DUE, "Fresh", Plan.TEAM, projects=1, users=1, issues=10),
    )
