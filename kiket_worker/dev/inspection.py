"""Looking at what a refresh has left: the ledger, the tenant's schema and the raw tables have to tell the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from kiket_worker.ledger.runs import Run, RunModel, Status
from kiket_worker.tenants.schema import schema_name

DictConnection = psycopg.Connection[DictRow]


@dataclass(frozen=True)
class Refreshed:
    """One organisation after the demo: whether it was due, and the run that came of it."""

    slug: str
    plan: str
    due: bool
    run: Run | None
    models: list[RunModel]
    usage_events: int

    @property
    def duration_seconds(self) -> float | None:
        """From the attempt's start to the run's end."""
        if not self.run or not self.run.started_at or not self.run.finished_at:
            return None
        return round((self.run.finished_at - self.run.started_at).total_seconds(), 2)

    @property
    def status(self) -> str:
        """The run's status; what is not due has none and stays as it was."""
        return self.run.status if self.run else "not due"


def faults_of(organization: Refreshed, raw: DictConnection, reader: DictConnection | None) -> Iterator[str]:
    """What is wrong with one organisation, as the ledger, the tenant's schema and the raw tables tell together.

    `reader` is a session of the organisation's read-only twin: nobody with more rights selects from its relations, as a
    view may call functions with the rights of whoever reads it.
    """
    slug, run = organization.slug, organization.run
    schema = schema_name(slug)
    relations = _relations(raw, schema)
    if run is None:
        if relations:
            yield f"{slug} was not due, but its schema has {', '.join(relations)}"
        return
    if run.status is not Status.SUCCEEDED:
        yield f"{slug}: the run is {run.status}: {run.error_message}"
        return
    assert reader is not None
    if not organization.models or organization.usage_events != len(organization.models):
        yield f"{slug}: {organization.usage_events} usage events for {len(organization.models)} models"
    built = {model.model_id.rpartition(".")[2] for model in organization.models}
    if built != set(relations):
        yield f"{slug}: built {sorted(built)}, but the schema has {sorted(relations)}"
    for relation, columns in relations.items():
        owned = [column for column in columns if column in _OWNED_BY]
        if not owned and relation not in _WITHOUT_OWNER:
            yield f"{slug}: nothing in {relation} tells whose rows it has"
        for column in owned:
            strangers = _strangers(raw, reader, run.organization_id, schema, relation, column)
            if strangers:
                yield f"{slug}: {relation} has {strangers} rows of another organisation"
    if "fct_throughput" in relations and (difference := _missing_issues(raw, reader, run.organization_id, schema)):
        yield f"{slug}: fct_throughput differs from the raw table by {difference} issues"
    if "fct_usage_events" in relations and (quantity := _strange_usage(raw, reader, run, schema)):
        yield f"{slug}: fct_usage_events differs from the organisation's own usage by {quantity}"


# Which raw table tells the owner of a row, by the column that refers to it.
_OWNED_BY = {
    "organization_id": "organizations",
    "project_id": "projects",
    "user_id": "users",
    "issue_id": "issues",
    "epic_id": "issues",
    "release_id": "releases",
}
# Usage that belongs to no project has no owner among its columns; the mart's sum is compared instead.
_WITHOUT_OWNER = {"stg_usage_events"}


def _relations(connection: DictConnection, schema: str) -> dict[str, list[str]]:
    rows = connection.execute(
        "select relname, array_agg(attname::text) as columns from pg_class"
        " join pg_namespace on pg_namespace.oid = relnamespace join pg_attribute on attrelid = pg_class.oid"
        " where nspname = %s and relkind in ('r', 'v', 'm') and attnum > 0 and not attisdropped"
        " group by relname order by relname",
        [schema],
    ).fetchall()
    return {row["relname"]: row["columns"] for row in rows}


def _strangers(
    raw: DictConnection, reader: DictConnection, organization_id: int, schema: str, relation: str, column: str
) -> int:
    counted = sql.SQL("select {column} as id, count(*) as rows from {relation} where {column} is not null group by 1")
    rows = reader.execute(
        counted.format(relation=sql.Identifier(schema, relation), column=sql.Identifier(column))
    ).fetchall()
    table = _OWNED_BY[column]
    owned = sql.SQL("select id from {table} where {owner} = %s and id = any(%s)").format(
        table=sql.Identifier("public", table),
        owner=sql.Identifier("id" if table == "organizations" else "organization_id"),
    )
    own = {row["id"] for row in raw.execute(owned, [organization_id, [row["id"] for row in rows]]).fetchall()}
    return sum(row["rows"] for row in rows if row["id"] not in own)


def _missing_issues(raw: DictConnection, reader: DictConnection, organization_id: int, schema: str) -> int:
    done = raw.execute(
        "select count(*) as issues from public.issues where organization_id = %s and status = 'done'"
        " and issue_type <> 'epic' and completed_at is not null",
        [organization_id],
    ).fetchone()
    counted = sql.SQL("select coalesce(sum(issues_completed), 0) as issues from {}")
    mart = reader.execute(counted.format(sql.Identifier(schema, "fct_throughput"))).fetchone()
    return int(done["issues"] - mart["issues"]) if done and mart else 0


def _strange_usage(raw: DictConnection, reader: DictConnection, run: Run, schema: str) -> Decimal:
    """How much more the mart has than the ledger had of this organisation when the attempt began."""
    summed = sql.SQL("select coalesce(sum(total_quantity), 0) as quantity from {}")
    mart = reader.execute(summed.format(sql.Identifier(schema, "fct_usage_events"))).fetchone()
    ledger = raw.execute(
        "select coalesce(sum(quantity), 0) as quantity from kiket_analytics.usage_events"
        " where organization_id = %s and recorded_at < %s",
        [run.organization_id, run.started_at],
    ).fetchone()
    return Decimal(mart["quantity"] - ledger["quantity"]) if mart and ledger else Decimal()
