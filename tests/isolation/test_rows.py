"""For random rows of many organisations: what an organisation can read is its own, and so is what is built from it."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from kiket_worker.ledger.runs import Status
from kiket_worker.tenants.gates import load_gates
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import schema_name
from tests.isolation.universe import Universe, owners_in, slug
from tests.support.installations import Installation
from tests.support.whole_refreshes import refresh_by_dbt

_RELATIONS = (
    "select relname, relkind from pg_class"
    " where relnamespace = %s::regnamespace and relkind in ('r', 'v', 'm') order by relname"
)


@pytest.fixture
def seed() -> int:
    """Another one each time. It is printed where a test fails: put it here to see that again."""
    chosen = random.SystemRandom().randrange(2**32)
    print(f"seed {chosen}")  # noqa: T201  # pytest shows it with a failure only
    return chosen


@pytest.fixture
def installation(database: Any) -> Iterator[Installation]:
    """The platform's tables, empty, with roles and gates."""
    with Installation.of(database) as made:
        yield made


def load(installation: Installation, universe: Universe, *, only: int | None = None) -> None:
    with installation.database.connect() as connection, connection.transaction():
        universe.load(connection, only=only)
    installation.made += [slug(owner) for owner in universe.organizations]


def content(installation: Installation, owner: int) -> dict[str, list[str]]:
    """Every row of every relation of an organisation's schema, as its role reads it, in an order of its own.

    But for what the run itself has recorded since.
    """
    with installation.tenant(slug(owner)) as session:
        names = [row["relname"] for row in session.execute(_RELATIONS, [schema_name(slug(owner))]).fetchall()]
        return {
            name: sorted(
                str(row)
                for row in session.execute(
                    sql.SQL("select * from {}").format(sql.Identifier(schema_name(slug(owner)), name))
                )
                if row.get("metric") != "analytics_dbt_run"
            )
            for name in names
        }


def test_a_gate_shows_each_of_many_organisations_all_of_its_rows_and_no_other(
    installation: Installation, seed: int
) -> None:
    universe = Universe(seed, 40)
    load(installation, universe)
    shown: dict[str, list[tuple[int, int]]] = {}
    for owner in universe.organizations:
        installation.provision(Candidate(owner, slug(owner)))
        with installation.tenant(slug(owner)) as session:
            for gate in load_gates(None):
                rows = session.execute(
                    sql.SQL("select * from {}").format(sql.Identifier("analytics_raw", gate.name))
                ).fetchall()
                shown.setdefault(gate.name, []).extend((owner, row["id"]) for row in rows)
                assert all(owners_in(row) <= {owner} for row in rows), (gate.name, owner)
    expected = {table: [(row.owner, row.values[0]) for row in rows] for table, rows in universe.rows.items()}
    usage = installation.rows("select organization_id, id from kiket_analytics.usage_events")
    expected["usage_events"] = [(row["organization_id"], row["id"]) for row in usage]
    assert {name: sorted(rows) for name, rows in shown.items()} == {
        name: sorted(rows) for name, rows in expected.items()
    }
    assert all(rows for rows in expected.values())


def test_every_relation_is_as_if_its_organisation_were_alone(
    installation: Installation, module_database: Any, seed: int, tmp_path: Path
) -> None:
    """dbt builds two among thirty; one of them is built again in a database that never had any other's rows."""
    universe = Universe(seed, 30)
    load(installation, universe)
    # Those with rows of the most tables, and of these with the most issues, so that every relation has rows.
    counts = {
        one: Counter(table for table, rows in universe.rows.items() for row in rows if row.owner == one)
        for one in universe.organizations
    }
    busy = sorted(universe.organizations, key=lambda one: (len(counts[one]), counts[one]["issues"]))[-2:]

    def refresh(place: Installation, owner: int) -> dict[str, list[str]]:
        run = refresh_by_dbt(place.ledger_url, place.ledger, slug(owner), tmp_path / "artifacts")
        assert (run.status, run.error_message) == (Status.SUCCEEDED, None)
        return content(place, owner)

    with ThreadPoolExecutor(2) as pool:
        among_others = dict(zip(busy, pool.map(lambda owner: refresh(installation, owner), busy), strict=True))
    for owner, relations in among_others.items():
        assert len(relations) == 12
        for name, rows in relations.items():
            assert {mark for row in rows for mark in owners_in(row)} <= {owner}, (name, owner)
    for name in among_others[busy[0]]:
        assert any(relations[name] for relations in among_others.values()), f"no row of {name} was looked at"

    installation.forget()
    with Installation.of(module_database) as alone:
        load(alone, universe, only=busy[0])
        assert refresh(alone, busy[0]) == among_others[busy[0]]
