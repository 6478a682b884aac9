"""What refreshes and dashboards ask of the catalogs is found by index, however many tenants have relations."""

from collections.abc import Iterator
from typing import Any

import pytest

from kiket_worker.ledger.database import statement

# By package and name: the parameters of each statement that looks for what is in a schema.
STATEMENTS = {
    ("kiket_worker.dbt.replay", "relations"): {"schema_name": "kiket_analytics"},
    ("kiket_worker.dbt.replay", "room"): {"schema": '"kiket_analytics"'},
    ("kiket_worker.ledger", "has_relations"): {"schema_name": "kiket_analytics"},
    ("kiket_worker.tenants", "size_of_tenant"): {"schema_name": "kiket_analytics"},
    ("kiket_worker.definitions.dashboards", "relations_of"): {"schema": "kiket_analytics"},
}
# It has none on the schema alone: the one on names can be read from end to end for it, which is as bad.
INDEXES = {"pg_class_oid_index"}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


@pytest.mark.parametrize(("package", "name"), STATEMENTS)
def test_relations_of_a_schema_are_found_by_index(database: Any, package: str, name: str) -> None:
    parameters = STATEMENTS[package, name]
    with database.connect() as connection:
        assert connection.execute(statement(name, package), parameters).fetchone() is not None
        # In a small database it is cheaper to read everything.
        connection.execute("set enable_seqscan = off")
        explain = b"explain (format json, costs off) " + statement(name, package)
        (row,) = connection.execute(explain, parameters).fetchall()
    reads = [node for node in nodes(row["QUERY PLAN"][0]["Plan"]) if node.get("Relation Name") == "pg_class"]
    assert reads
    assert {node.get("Index Name") for node in reads} == INDEXES
