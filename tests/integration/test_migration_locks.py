"""Migrations on a live system: nobody is held up for longer than a lock's time-out, and in the end they are applied."""

import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

import kiket_worker
from kiket_worker.dev import platform
from kiket_worker.errors import PostgresUnreachable
from kiket_worker.ledger.migrate import migrate
from kiket_worker.ledger.patience import LOCK_TIMEOUT_SECONDS, Patience
from kiket_worker.tenants import roles
from kiket_worker.tenants.gates import load_gates
from kiket_worker.tenants.roles import RolesSetUp
from tests.support.installations import Installation

SHIPPED = Path(kiket_worker.__file__).parent / "ledger" / "migrations"
with zipfile.ZipFile(next((Path(__file__).parents[1] / "previous_release").glob("*.whl"))) as _wheel:
    PREVIOUS = sorted(Path(name).stem for name in _wheel.namelist() if "/ledger/migrations/" in name)
LAST = sorted(SHIPPED.glob("*.sql"))[-1].stem


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """This release's migrations, and one more that asks for the table of settings alone."""
    shutil.copytree(SHIPPED, tmp_path / "migrations")
    (tmp_path / "migrations" / "9999-later.sql").write_text(
        f"-- depends: {LAST}\nalter table kiket_analytics.analytics_settings add column later integer;\n"
    )
    return tmp_path / "migrations"


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def write_now(database: Any) -> float:
    """Enable an organisation's analytics, as the command line does; how long that took."""
    began = time.monotonic()
    database.execute(
        "insert into kiket_analytics.analytics_settings (organization_id, enabled) values (1, true)"
        " on conflict (organization_id) do update set enabled = true"
    )
    return time.monotonic() - began


def waits(database: Any) -> bool:
    return bool(
        database.rows(
            "select from pg_locks where not granted and relation = 'kiket_analytics.analytics_settings'::regclass"
            " and mode = 'AccessExclusiveLock'"
        )
    )


def test_a_migration_that_waits_for_a_lock_lets_writers_go_on(database: Any, later: Path) -> None:
    applied: list[str] = []
    gave_way, go_on = threading.Event(), threading.Event()

    def pause(_seconds: float) -> None:
        gave_way.set()
        go_on.wait(60)

    patience = Patience(seconds=600, pause_seconds=0, sleep=pause)
    migrating = threading.Thread(
        target=lambda: applied.extend(migrate(database.url, patience=patience, folder=later)), daemon=True
    )
    with database.connect() as reader:
        # A report that takes long: whoever wants the table alone waits for it, and everybody else for them.
        reader.execute("begin")
        reader.execute("select count(*) from kiket_analytics.analytics_settings")
        migrating.start()
        until(lambda: waits(database))
        behind_it = write_now(database)
        assert gave_way.wait(30)
        without_it = write_now(database)
        assert not applied
        reader.execute("commit")
        go_on.set()
        migrating.join(60)
    # The machine of the tests may be slow; the report took as long as the test.
    assert behind_it < LOCK_TIMEOUT_SECONDS + 5
    assert without_it < 5
    assert applied == ["9999-later"]
    assert database.rows("select later from kiket_analytics.analytics_settings") == [{"later": None}]


# What a worker of the release before does meanwhile, each as one statement.
WORK = {
    "renew a lease": (
        "update kiket_analytics.leases as lease set expires_at = now() + interval '1 minute' where worker is not null"
        " returning exists (select from kiket_analytics.runs as run where run.run_id = lease.run_id"
        " and run.cancel_requested_at is not null)"
    ),
    "write a run": "update kiket_analytics.runs set attempt = attempt where organization_id = 1",
    "write a model": "update kiket_analytics.run_models set status = status",
    "write usage": (
        "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit) values (1, 'x', 1, 'u')"
    ),
    "write settings": "update kiket_analytics.analytics_settings set enabled = true where organization_id = 1",
    "read runs": "select from kiket_analytics.runs where organization_id = 1",
    "read settings": "select from kiket_analytics.analytics_settings where organization_id = 1",
}
# Until the end of each migration since that release; its header tells operators for how long.
HELD_UP = {
    "0009-changelog-evaluations": set[str](),
    "0010-tokens": set[str](),
    "0011-console": {"write a run", "write usage"},
    "0012-due-index": {"renew a lease", "write settings", "read settings"},
    "0013-run-models": {"renew a lease", "write a run", "write a model", "write usage", "read runs"},
    "0014-failures": {"write a run"},
}


def test_each_migration_holds_up_what_its_header_says_and_nothing_else(empty_database: Any, tmp_path: Path) -> None:
    """Each waits at its end, with all that it has locked, until it was tried what goes on beside it."""
    with empty_database.connect() as connection:
        platform.create_tables(connection)
    since = [name.stem for name in sorted(SHIPPED.glob("*.sql")) if name.stem not in PREVIOUS]
    assert since == list(HELD_UP)
    earlier, gated = tmp_path / "earlier", tmp_path / "gated"
    for folder, names in ((earlier, PREVIOUS), (gated, [*PREVIOUS, *since])):
        folder.mkdir()
        for name in names:
            shutil.copyfile(SHIPPED / f"{name}.sql", folder / f"{name}.sql")
    for number, name in enumerate(since):
        with (gated / f"{name}.sql").open("a") as file:
            file.write(f"\nselect pg_advisory_xact_lock(14, {number});\n")
    migrate(empty_database.url, folder=earlier)
    empty_database.execute("insert into kiket_analytics.analytics_settings (organization_id, enabled) values (1, true)")
    with ExitStack() as gates:
        held = [gates.enter_context(empty_database.connect()) for _ in since]
        for number, gate in enumerate(held):
            gate.execute("select pg_advisory_lock(14, %s)", [number])
        migrating = threading.Thread(target=migrate, args=(empty_database.url,), kwargs={"folder": gated}, daemon=True)
        migrating.start()
        found = {}
        for number, name in enumerate(since):
            until(lambda number=number: at_gate(empty_database, number))
            found[name] = {what for what, query in WORK.items() if is_held_up(empty_database, query)}
            held[number].execute("select pg_advisory_unlock_all()")
        migrating.join(60)
    assert found == HELD_UP


def at_gate(database: Any, number: int) -> bool:
    return bool(
        database.rows("select from pg_locks where locktype = 'advisory' and objid = %s and not granted", number)
    )


def is_held_up(database: Any, query: str) -> bool:
    with database.connect() as connection:
        connection.execute("set lock_timeout = '50ms'")
        try:
            connection.execute(query)
        except psycopg.errors.LockNotAvailable:
            return True
    return False


def test_a_migration_that_gets_no_lock_at_all_ends_and_leaves_nothing(database: Any, later: Path) -> None:
    with database.connect() as reader:
        reader.execute("begin")
        reader.execute("select count(*) from kiket_analytics.analytics_settings")
        with pytest.raises(PostgresUnreachable, match="lock timeout"):
            migrate(database.url, patience=Patience(seconds=0), folder=later)
    marked = "select from kiket_analytics._yoyo_migration where migration_id = '9999-later'"
    assert database.rows(marked) == []
    with pytest.raises(psycopg.errors.UndefinedColumn):
        database.rows("select later from kiket_analytics.analytics_settings")
    assert migrate(database.url, folder=later) == ["9999-later"]


def test_roles_that_are_set_up_let_readers_of_gates_go_on(installation: Installation) -> None:
    done: list[RolesSetUp] = []
    gave_way, go_on = threading.Event(), threading.Event()

    def pause(_seconds: float) -> None:
        gave_way.set()
        go_on.wait(60)

    def set_up() -> None:
        patience = Patience(pause_seconds=0, sleep=pause)
        url = installation.database.url
        done.append(roles.set_up(url, load_gates(None), shared_schema="analytics_shared", patience=patience))

    # Somebody has changed a gate, and a model reads it for long.
    installation.execute("alter view analytics_raw.issues reset (security_barrier)")
    setting_up = threading.Thread(target=set_up, daemon=True)
    with installation.database.connect() as reader:
        reader.execute("begin")
        reader.execute("select from analytics_raw.issues")
        setting_up.start()
        assert gave_way.wait(60)
        began = time.monotonic()
        installation.rows("select from analytics_raw.issues")
        assert time.monotonic() - began < 5
        assert not done
        reader.execute("commit")
        go_on.set()
        setting_up.join(60)
    assert "issues" in done[0].gates


def test_sessions_of_migrations_have_limits(empty_database: Any, tmp_path: Path) -> None:
    (tmp_path / "0001-limits.sql").write_text(
        "create table kiket_analytics.limits as"
        " select current_setting('lock_timeout') as of_locks, current_setting('statement_timeout') as of_statements;\n"
    )
    migrate(empty_database.url, folder=tmp_path)
    assert empty_database.rows("select * from kiket_analytics.limits") == [{"of_locks": "2s", "of_statements": "1min"}]
