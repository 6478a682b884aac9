"""What models leave that are gone: removed after a success by the organisation's own role, and nothing else ever."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import LeaseLost, PostgresUnreachable
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh import dropped
from kiket_worker.refresh.pipeline import refresh
from tests.support.installations import CONNECT, Installation
from tests.support.publications import model, publication, publish
from tests.support.refreshes import Refreshes
from tests.support.tenants import isolation_of

SCHEMA = "analytics_org_acme"

# Makes a relation for each file of the overlay that was published: a table of 1 row, or what its text says.
DBT = """
schema = json.loads(arguments[1 + arguments.index("--vars")])["organization_schema"]
project = Path(arguments[1 + arguments.index("--project-dir")])
nodes, results = {}, [result("own")]
with connect() as connection:
    if not connection.execute("select 1 from pg_namespace where nspname = %s", [schema]).fetchone():
        connection.execute("create schema " + schema)
    for path in sorted(project.glob("models/definitions/*/analytics/*.sql")):
        text, name = path.read_text().strip(), path.stem
        kind = text.partition(" ")[0] if text.split(" ")[0] in ("view", "incremental", "ephemeral") else "table"
        nodes["model.fake." + name] = {"unique_id": "model.fake." + name, "resource_type": "model", "schema": schema,
            "alias": name, "config": {"materialized": kind}}
        if any(item.startswith("--select=") and item != "--select=" + name for item in arguments):
            continue
        fails = "FAIL" in text
        if kind != "ephemeral" and not fails:
            made = "view" if kind == "view" else "table"
            query = text.partition(" ")[2] if kind == "view" else "select 1 as n"
            if made == "view":
                connection.execute(f'create or replace view {schema}."{name}" as {query.format(schema=schema)}')
            else:
                connection.execute(f'create table if not exists {schema}."{name}" as {query}')
        results.append(result(name, "error" if fails else "success"))
write({"results": results})
write({"nodes": nodes}, "manifest.json")
sys.exit(any(one["status"] == "error" for one in results))
"""


class Tenant:
    """acme's refreshes, and what there is in its schema."""

    def __init__(self, refreshes: Refreshes, isolation: Any) -> None:
        self.refreshes = refreshes
        self.services = refreshes.services(CONNECT + DBT, libraries=True, isolation=isolation)

    def publish(self, *names: str, **texts: str) -> None:
        files: dict[str, str] = {}
        for name, text in (dict.fromkeys(names, "table") | texts).items():
            files |= model(name, text)
        publish(self.refreshes, publication(files))

    def refresh(self, **options: Any) -> Status | None:
        return refresh(self.refreshes.request(**options), self.services, Cancellation())

    def built(self, *names: str, **texts: str) -> None:
        self.publish(*names, **texts)
        assert self.refresh() is Status.SUCCEEDED, str(self.refreshes.events()[-1])

    @property
    def relations(self) -> set[str]:
        query = "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v', 'm')"
        return {name for (name,) in self.refreshes.rows(query, SCHEMA)}

    @property
    def recorded(self) -> tuple[bool, set[str]]:
        """Whether nothing else can be there, and what the ledger knows of."""
        query = "select bundle_digest, relations from kiket_analytics.built_relations where schema_name = %s"
        ((digest, relations),) = self.refreshes.rows(query, SCHEMA)
        return digest is not None, set(relations)

    def told(self, name: str) -> list[str]:
        return [event["relation"] for event in self.refreshes.events() if event["event"] == f"relation.{name}"]


@pytest.fixture
def acme(installation: Installation, tmp_path: Path) -> Iterator[Tenant]:
    made = Refreshes.prepare(installation.database.url, installation.ledger, tmp_path)
    made.execute("grant insert on public.audit to kiket_ledger")
    yield Tenant(made, isolation_of(installation.ledger_url))
    made.execute(f"drop schema if exists {SCHEMA} cascade")


def test_a_models_relation_goes_after_the_next_success(acme: Tenant) -> None:
    acme.built("kept", "a", b="incremental", v="view select 1 as n", e="ephemeral")
    assert acme.relations == {"kept", "a", "b", "v"}
    assert acme.recorded == (True, {"kept", "a", "b", "v"})
    acme.publish("kept")
    assert acme.relations == {"kept", "a", "b", "v"}, "not by publishing"
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.relations == {"kept"}
    assert acme.told("dropped") == ["a", "b", "v"]
    assert acme.recorded == (True, {"kept"})
    # And everything where nothing is left of the definitions.
    publish(acme.refreshes, publication({}))
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.relations == set()


def test_relations_that_depend_on_each_other_go_together(acme: Tenant) -> None:
    acme.built("a", b="view select * from {schema}.a", c="view select * from {schema}.b", kept="view select 1 as n")
    acme.built(kept="view select 1 as n")
    assert acme.relations == {"kept"}


def test_what_dbt_did_not_make_is_never_touched(acme: Tenant) -> None:
    acme.built("mine", "taken", "turned", kept="view select 1 as n")
    acme.refreshes.execute(f"create table {SCHEMA}.of_a_module (n integer)")
    acme.refreshes.execute(f"create table {SCHEMA}.unknown (n integer); alter table {SCHEMA}.unknown owner to {SCHEMA}")
    # Known by name, and by now another's, or another thing.
    acme.refreshes.execute(f"alter table {SCHEMA}.taken owner to postgres")
    acme.refreshes.execute(
        f"drop table {SCHEMA}.turned; create view {SCHEMA}.turned as select 2 as n;"
        f" alter view {SCHEMA}.turned owner to {SCHEMA}"
    )
    acme.built(kept="view select 1 as n")
    assert acme.relations == {"kept", "of_a_module", "unknown", "taken", "turned"}
    assert acme.told("dropped") == ["mine"]
    assert acme.recorded == (True, {"kept"})


def test_what_somebody_depends_on_stays_is_told_and_tried_again(acme: Tenant) -> None:
    acme.built("a", "b", "kept")
    acme.refreshes.execute(f"create view public.report as select * from {SCHEMA}.a")
    acme.built("kept")
    assert acme.relations == {"a", "kept"}
    (event,) = [event for event in acme.refreshes.events() if event["event"] == "relation.retained"]
    assert (event["level"], event["relation"], event["organization"]) == ("warning", "a", "acme")
    assert "depend" in event["error"]
    assert acme.recorded == (False, {"a", "kept"})
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.told("retained") == ["a", "a"]
    acme.refreshes.execute("drop view public.report")
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.relations == {"kept"}
    assert acme.recorded == (True, {"kept"})


def test_a_relation_that_is_read_for_long_is_the_next_runs(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "_LOCK_SECONDS", 0.1)
    acme.built("a", "b", "kept")
    with psycopg.connect(acme.refreshes.url) as reading:
        reading.execute(f"select * from {SCHEMA}.a".encode())
        acme.built("kept")
    assert acme.relations == {"a", "kept"}
    assert acme.told("retained") == ["a"]
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.relations == {"kept"}


def test_a_run_that_fails_drops_nothing_and_what_it_has_made_goes_later(acme: Tenant) -> None:
    acme.built("a", "kept")
    acme.publish("kept", "new", z="FAIL")
    assert acme.refresh() is Status.FAILED
    assert acme.relations == {"a", "kept", "new"}
    assert acme.recorded == (False, {"a", "kept", "new"})
    acme.built("a", "kept")
    assert acme.relations == {"a", "kept"}
    assert acme.told("dropped") == ["new"]


def test_a_run_of_some_models_drops_nothing(acme: Tenant) -> None:
    acme.built("a", "kept")
    publish_new = {"kept": "table", "new": "table", "other": "table"}
    acme.refreshes.execute("update kiket_analytics.analytics_settings set enabled = false where organization_id = 1")
    acme.publish(**publish_new)
    assert acme.refresh(selection=["new"], forced=True) is Status.SUCCEEDED
    assert acme.relations == {"a", "kept", "new"}
    assert acme.recorded == (False, {"a", "kept", "new"})
    assert acme.refresh(forced=True) is Status.SUCCEEDED
    assert acme.relations == {"kept", "new", "other"}


def test_nothing_is_done_for_a_bundle_that_has_what_is_there(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.built("a")
    monkeypatch.setattr(dropped, "relations_of", lambda *_: pytest.fail("the manifest is read again"))
    assert acme.refresh() is Status.SUCCEEDED


def test_without_the_organisations_session_the_run_succeeds_and_the_rest_waits(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.built("a", "kept")

    def ended(*_: object) -> None:
        raise psycopg.OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(dropped, "_dropped", ended)
        acme.built("kept")
    assert acme.told("retained") == ["a"]
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.relations == {"kept"}


def test_after_a_crash_behind_the_archive_the_next_run_drops(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.built("a", "kept")
    acme.publish("kept", "new")

    def away(*_: object) -> None:
        raise PostgresUnreachable("it restarts")

    with monkeypatch.context() as patch:
        patch.setattr(dropped, "_drop", away)
        run_id = acme.refreshes.request()
        assert refresh(run_id, acme.services, Cancellation()) is Status.ARCHIVED
    acme.refreshes.execute("update kiket_analytics.runs set not_before = null where finished_at is null")
    # Only its usage is left to record: what it has built is not known to this attempt any more.
    assert refresh(run_id, acme.services, Cancellation()) is Status.SUCCEEDED
    assert acme.recorded == (False, {"a", "kept", "new"})
    assert acme.refresh() is Status.SUCCEEDED
    assert acme.relations == {"kept", "new"}
    assert acme.recorded == (True, {"kept", "new"})


def test_who_has_lost_the_lease_drops_nothing(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.built("a", "kept")
    acme.publish("kept")
    original = dropped._drop

    def late(*given: Any) -> dict[str, str]:
        acme.refreshes.execute("update kiket_analytics.leases set epoch = epoch + 1, worker = 'thief'")
        acme.refreshes.execute(
            "update kiket_analytics.runs set lease_epoch = lease_epoch + 1, attempt = attempt + 1"
            " where finished_at is null"
        )
        return original(*given)

    monkeypatch.setattr(dropped, "_drop", late)
    with pytest.raises(LeaseLost):
        acme.refresh()
    assert acme.relations == {"a", "kept"}
    assert acme.recorded[1] == {"a", "kept"}


def test_with_one_role_for_all_only_what_it_owns_and_dbt_made_goes(refreshes: Refreshes) -> None:
    shared = Tenant(refreshes, None)
    shared.built("a", "taken", "kept")
    refreshes.execute(f"create table {SCHEMA}.module (n integer); alter table {SCHEMA}.taken owner to pg_monitor")
    shared.built("kept")
    assert shared.relations == {"kept", "module", "taken"}


@pytest.mark.parametrize("left", ['{"nodes": []}', "{", json.dumps({"nodes": {"m": {"schema": SCHEMA}}}), None])
def test_a_manifest_that_tells_nothing_leads_to_nothing(refreshes: Refreshes, left: str | None) -> None:
    shared = Tenant(refreshes, None)
    shared.built("a")
    shared.publish("b")
    script = CONNECT + DBT.replace(
        'write({"nodes": nodes}, "manifest.json")', f"write({(left or '').encode()!r}, 'manifest.json')"
    )
    shared.services = refreshes.services(script if left else CONNECT + "build('b')", libraries=True)
    assert shared.refresh() is Status.SUCCEEDED
    assert shared.recorded == (True, {"a"})
    assert "a" in shared.relations
