"""What the ledger's tables refuse, whoever asks: every statement here is a superuser's, past all of the code."""

import itertools
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import DictRow

from kiket_worker.ledger.runs import Status

Superuser = psycopg.Connection[DictRow]

SHA256 = "0" * 64
ENDED = {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.SKIPPED}
EXECUTING = (Status.RUNNING, Status.BUILT, Status.ARCHIVED)
# How each status is reached, without the step that reaches it.
WAY_TO = {
    Status.QUEUED: (),
    Status.RUNNING: (),
    Status.BUILT: (Status.RUNNING,),
    Status.ARCHIVED: (Status.RUNNING, Status.BUILT),
    Status.SUCCEEDED: (Status.RUNNING, Status.BUILT, Status.ARCHIVED),
    Status.FAILED: (Status.RUNNING,),
    Status.CANCELLED: (),
    Status.SKIPPED: (),
}
LEGAL = {
    (Status.QUEUED, Status.RUNNING),
    (Status.QUEUED, Status.CANCELLED),
    (Status.QUEUED, Status.SKIPPED),
    (Status.RUNNING, Status.BUILT),
    (Status.RUNNING, Status.FAILED),
    (Status.RUNNING, Status.CANCELLED),
    (Status.BUILT, Status.RUNNING),
    (Status.BUILT, Status.ARCHIVED),
    (Status.BUILT, Status.FAILED),
    (Status.BUILT, Status.CANCELLED),
    (Status.ARCHIVED, Status.SUCCEEDED),
    (Status.ARCHIVED, Status.FAILED),
    (Status.ARCHIVED, Status.CANCELLED),
} | {(status, status) for status in (Status.QUEUED, *EXECUTING)}

_organizations = itertools.count(1)


@pytest.fixture
def superuser(module_database: Any) -> Iterator[Superuser]:
    with module_database.connect() as connection:
        yield connection


@pytest.fixture
def organization_id() -> int:
    return next(_organizations)


def move(connection: Superuser, run_id: uuid.UUID, status: str) -> None:
    """Change a run's status, with all that its other constraints ask for: only the transition is at stake."""
    connection.execute(
        "update kiket_analytics.runs set status = %(status)s,"
        " finished_at = case when %(ended)s then now() end,"
        " error_kind = case when %(faulty)s then 'kind' end, error_message = case when %(faulty)s then 'text' end"
        " where run_id = %(run_id)s",
        {
            "status": status,
            "ended": status in ENDED,
            "faulty": status in {Status.FAILED, Status.SKIPPED},
            "run_id": run_id,
        },
    )


def insert(connection: Superuser, organization_id: int, status: str = "queued") -> uuid.UUID:
    """A run with every column filled that any later status needs."""
    row = connection.execute(
        "insert into kiket_analytics.runs (organization_id, organization_slug, reason, status, attempt, lease_epoch,"
        " started_at, built_at, archived_at, artifacts_location, artifacts_index_sha256)"
        " values (%s, 'acme', 'manual', %s, 3, 7, now(), now(), now(), 's3://b/acme', %s) returning run_id",
        [organization_id, status, SHA256],
    ).fetchone()
    assert row is not None
    return uuid.UUID(str(row["run_id"]))


def run_as(connection: Superuser, organization_id: int, status: Status) -> uuid.UUID:
    """A run that has come to `status` by legal steps."""
    run_id = insert(connection, organization_id)
    for step in (*WAY_TO[status], status):
        move(connection, run_id, step)
    return run_id


def with_model(connection: Superuser, run_id: uuid.UUID, model_id: str = "model.kiket.fct") -> None:
    connection.execute(
        "insert into kiket_analytics.run_models (run_id, model_id, status) values (%s, %s, 'success')",
        [run_id, model_id],
    )


def charge(
    connection: Superuser, run_id: uuid.UUID | None, organization_id: int, model_id: str | None = "model.kiket.fct"
) -> None:
    connection.execute(
        "insert into kiket_analytics.usage_events (organization_id, metric, quantity, unit, run_id, model_id)"
        " values (%s, 'analytics_dbt_run', 1, 'model_run', %s, %s)",
        [organization_id, run_id, model_id],
    )


def charges(connection: Superuser, organization_id: int) -> int:
    row = connection.execute(
        "select count(*) as events from kiket_analytics.usage_events where organization_id = %s", [organization_id]
    ).fetchone()
    assert row is not None
    return int(row["events"])


def lease(connection: Superuser, schema: str, organization_id: int | None, worker: str | None = "worker-1") -> None:
    connection.execute(
        "insert into kiket_analytics.leases (schema_name, organization_id, epoch, worker, expires_at)"
        " values (%s, %s, 5, %s::text, case when %s::text is not null then now() + interval '1 hour' end)",
        [schema, organization_id, worker, worker],
    )


@pytest.mark.parametrize("first", EXECUTING)
def test_a_second_executing_run_of_an_organisation_is_refused(
    superuser: Superuser, organization_id: int, first: Status
) -> None:
    run_as(superuser, organization_id, first)
    second = insert(superuser, organization_id)
    with pytest.raises(errors.UniqueViolation, match="runs_one_executing_per_organization"):
        move(superuser, second, "running")
    other = insert(superuser, next(_organizations))
    move(superuser, other, "running")


def test_a_second_queued_run_of_an_organisation_is_refused(superuser: Superuser, organization_id: int) -> None:
    insert(superuser, organization_id)
    with pytest.raises(errors.UniqueViolation, match="runs_one_queued_per_organization"):
        insert(superuser, organization_id)
    insert(superuser, next(_organizations))


@pytest.mark.parametrize(("old", "new"), list(itertools.product(Status, Status)))
def test_a_run_goes_only_from_a_status_to_one_that_may_follow(
    superuser: Superuser, organization_id: int, old: Status, new: Status
) -> None:
    run_id = run_as(superuser, organization_id, old)
    if (old, new) in LEGAL:
        move(superuser, run_id, new)
    else:
        with pytest.raises(errors.CheckViolation) as refused:
            move(superuser, run_id, new)
        assert refused.value.diag.constraint_name == "runs_transition"
    found = superuser.execute("select status from kiket_analytics.runs where run_id = %s", [run_id]).fetchone()
    assert found == {"status": new if (old, new) in LEGAL else old}


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.QUEUED])
def test_a_run_begins_as_queued(superuser: Superuser, organization_id: int, status: Status) -> None:
    with pytest.raises(errors.CheckViolation, match="a run begins as queued"):
        insert(superuser, organization_id, status)


def test_no_other_status_exists(superuser: Superuser, organization_id: int) -> None:
    run_id = insert(superuser, organization_id)
    with pytest.raises(errors.CheckViolation):
        move(superuser, run_id, "paused")
    with pytest.raises(errors.NotNullViolation):
        superuser.execute("update kiket_analytics.runs set status = null where run_id = %s", [run_id])


@pytest.mark.parametrize(
    "change",
    [
        "error_message = 'better words'",
        "finished_at = now()",
        "artifacts_index_sha256 = repeat('1', 64)",
        "artifacts_location = null",
        "lease_epoch = 99",
        "published_at = now()",
        "organization_slug = 'other'",
    ],
)
@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_run_does_not_change(superuser: Superuser, organization_id: int, status: Status, change: str) -> None:
    run_id = run_as(superuser, organization_id, status)
    with pytest.raises(errors.CheckViolation, match="ended runs do not change"):
        superuser.execute(f"update kiket_analytics.runs set {change} where run_id = %s".encode(), [run_id])


@pytest.mark.parametrize(
    "change",
    ["lease_epoch = 6", "lease_epoch = null, status = 'cancelled', finished_at = now()", "attempt = 2"],
)
def test_a_run_does_not_go_back_to_an_earlier_attempt(superuser: Superuser, organization_id: int, change: str) -> None:
    run_id = run_as(superuser, organization_id, Status.RUNNING)
    with pytest.raises(errors.CheckViolation, match="does not go back to an earlier attempt"):
        superuser.execute(f"update kiket_analytics.runs set {change} where run_id = %s".encode(), [run_id])
    superuser.execute(
        "update kiket_analytics.runs set lease_epoch = 8, attempt = 4 where run_id = %s returning 1", [run_id]
    )


@pytest.mark.parametrize("change", ["organization_id = -1", "run_id = gen_random_uuid()"])
def test_a_run_keeps_its_id_and_its_organisation(superuser: Superuser, organization_id: int, change: str) -> None:
    run_id = insert(superuser, organization_id)
    with pytest.raises(errors.CheckViolation, match="keeps its id and its organisation"):
        superuser.execute(f"update kiket_analytics.runs set {change} where run_id = %s".encode(), [run_id])


@pytest.mark.parametrize(
    ("status", "missing", "constraint"),
    [
        (Status.RUNNING, "lease_epoch", "runs_started_has_lease"),
        (Status.RUNNING, "started_at", "runs_started_has_lease"),
        (Status.BUILT, "built_at", "runs_built_has_time"),
        (Status.ARCHIVED, "archived_at", "runs_archived_has_index"),
        (Status.ARCHIVED, "artifacts_location", "runs_archived_has_index"),
        (Status.ARCHIVED, "artifacts_index_sha256", "runs_archived_has_index"),
        (Status.SUCCEEDED, "artifacts_index_sha256", "runs_archived_has_index"),
    ],
)
def test_a_status_is_refused_without_its_evidence(
    superuser: Superuser, organization_id: int, status: Status, missing: str, constraint: str
) -> None:
    run_id = insert(superuser, organization_id)
    for step in WAY_TO[status]:
        move(superuser, run_id, step)
    finished_at = ", finished_at = now()" if status in ENDED else ""
    # The epoch may only be taken away from a run that has none: another constraint keeps it once it is there.
    if missing == "lease_epoch":
        superuser.execute("delete from kiket_analytics.runs where run_id = %s", [run_id])
        superuser.execute(
            "insert into kiket_analytics.runs (run_id, organization_id, organization_slug, reason, attempt, started_at)"
            " values (%s, %s, 'acme', 'manual', 1, now())",
            [run_id, organization_id],
        )
    with pytest.raises(errors.CheckViolation, match=constraint):
        superuser.execute(
            f"update kiket_analytics.runs set status = %s, {missing} = null{finished_at} where run_id = %s".encode(),
            [status, run_id],
        )


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCEEDED])
def test_usage_is_refused_for_a_run_that_has_not_succeeded(
    superuser: Superuser, organization_id: int, status: Status
) -> None:
    run_id = run_as(superuser, organization_id, status)  # Its artifacts' index is there: the status is at stake.
    with_model(superuser, run_id)
    with pytest.raises(errors.ForeignKeyViolation, match="usage_events_run_is_billable"):
        charge(superuser, run_id, organization_id)
    assert charges(superuser, organization_id) == 0


def test_usage_of_a_succeeded_run_is_taken_once_for_each_model(superuser: Superuser, organization_id: int) -> None:
    run_id = run_as(superuser, organization_id, Status.SUCCEEDED)
    with_model(superuser, run_id, "model.kiket.a")
    with_model(superuser, run_id, "model.kiket.b")
    charge(superuser, run_id, organization_id, "model.kiket.a")
    charge(superuser, run_id, organization_id, "model.kiket.b")
    with pytest.raises(errors.UniqueViolation, match="usage_events_one_per_model"):
        charge(superuser, run_id, organization_id, "model.kiket.a")
    assert charges(superuser, organization_id) == 2


def test_usage_is_refused_for_a_run_that_does_not_exist(superuser: Superuser, organization_id: int) -> None:
    with pytest.raises(errors.ForeignKeyViolation):
        charge(superuser, uuid.uuid4(), organization_id)


def test_usage_is_refused_for_another_organisations_run(superuser: Superuser, organization_id: int) -> None:
    run_id = run_as(superuser, organization_id, Status.SUCCEEDED)
    with_model(superuser, run_id)
    with pytest.raises(errors.ForeignKeyViolation, match="usage_events_run_is_billable"):
        charge(superuser, run_id, next(_organizations))


def test_usage_is_refused_for_a_model_that_is_not_the_runs(superuser: Superuser, organization_id: int) -> None:
    run_id = run_as(superuser, organization_id, Status.SUCCEEDED)
    other = run_as(superuser, organization_id, Status.SUCCEEDED)
    with_model(superuser, other)
    with pytest.raises(errors.ForeignKeyViolation, match="usage_events_model_of_run"):
        charge(superuser, run_id, organization_id)


@pytest.mark.parametrize("nulled", ["run_id", "model_id", "both"])
def test_usage_of_a_dbt_run_names_its_run_and_model(superuser: Superuser, organization_id: int, nulled: str) -> None:
    run_id = run_as(superuser, organization_id, Status.SUCCEEDED)
    with_model(superuser, run_id)
    with pytest.raises(errors.CheckViolation, match="usage_events_dbt_run_names_its_model"):
        charge(
            superuser,
            None if nulled in {"run_id", "both"} else run_id,
            organization_id,
            None if nulled in {"model_id", "both"} else "model.kiket.fct",
        )


def test_billable_is_the_databases_word_and_cannot_be_forged(superuser: Superuser, organization_id: int) -> None:
    run_id = run_as(superuser, organization_id, Status.RUNNING)
    with_model(superuser, run_id)
    with pytest.raises(errors.GeneratedAlways):
        superuser.execute("update kiket_analytics.runs set billable = true where run_id = %s", [run_id])
    with pytest.raises(errors.GeneratedAlways):
        superuser.execute(
            "insert into kiket_analytics.runs (organization_id, organization_slug, reason, billable)"
            " values (%s, 'acme', 'manual', true)",
            [next(_organizations)],
        )
    # The run is (run_id, organization, false): an event that says false as well would find it.
    with pytest.raises(errors.CheckViolation, match="usage_events_billable_check"):
        superuser.execute(
            "insert into kiket_analytics.usage_events"
            " (organization_id, metric, quantity, unit, run_id, model_id, billable)"
            " values (%s, 'analytics_dbt_run', 1, 'model_run', %s, 'model.kiket.fct', false)",
            [organization_id, run_id],
        )
    with pytest.raises(errors.NotNullViolation):
        superuser.execute(
            "insert into kiket_analytics.usage_events"
            " (organization_id, metric, quantity, unit, run_id, model_id, billable)"
            " values (%s, 'analytics_dbt_run', 1, 'model_run', %s, 'model.kiket.fct', null)",
            [organization_id, run_id],
        )


def test_what_was_charged_for_cannot_be_deleted(superuser: Superuser, organization_id: int) -> None:
    run_id = run_as(superuser, organization_id, Status.SUCCEEDED)
    with_model(superuser, run_id)
    charge(superuser, run_id, organization_id)
    with pytest.raises(errors.ForeignKeyViolation):
        superuser.execute("delete from kiket_analytics.run_models where run_id = %s", [run_id])
    with pytest.raises(errors.ForeignKeyViolation):
        superuser.execute("delete from kiket_analytics.runs where run_id = %s", [run_id])


def test_a_lease_row_is_not_deleted(superuser: Superuser) -> None:
    lease(superuser, "analytics_org_kept", 1, worker=None)
    with pytest.raises(errors.CheckViolation, match="is not deleted"):
        superuser.execute("delete from kiket_analytics.leases where schema_name = 'analytics_org_kept'")
    with pytest.raises(errors.CheckViolation, match="are not deleted"):
        superuser.execute("truncate kiket_analytics.leases")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("epoch = 4", "higher epoch only"),
        ("worker = 'worker-2'", "higher epoch only"),
        ("run_id = %(run_id)s", "higher epoch only"),
        ("epoch = 6, organization_id = -2", "keeps its organisation"),
        ("epoch = 6, organization_id = null", "keeps its organisation"),
        ("epoch = 6, schema_name = 'analytics_org_elsewhere'", "keeps its organisation"),
    ],
)
def test_a_lease_changes_hands_with_a_higher_epoch_only_and_a_schema_keeps_its_organisation(
    superuser: Superuser, organization_id: int, change: str, complaint: str
) -> None:
    schema = f"analytics_org_{organization_id}"
    run_id = insert(superuser, organization_id)
    lease(superuser, schema, organization_id)
    parameters = {"schema": schema, "run_id": run_id}
    with pytest.raises(errors.CheckViolation, match=complaint):
        superuser.execute(
            f"update kiket_analytics.leases set {change} where schema_name = %(schema)s".encode(), parameters
        )
    superuser.execute(
        "update kiket_analytics.leases set epoch = 6, worker = 'worker-2', run_id = %(run_id)s"
        " where schema_name = %(schema)s",
        parameters,
    )


def test_a_free_lease_is_not_taken_again_under_its_old_epoch(superuser: Superuser, organization_id: int) -> None:
    schema = f"analytics_org_{organization_id}"
    lease(superuser, schema, organization_id)
    superuser.execute(
        "update kiket_analytics.leases set worker = null, expires_at = null where schema_name = %s", [schema]
    )
    with pytest.raises(errors.CheckViolation, match="higher epoch only"):
        superuser.execute(
            "update kiket_analytics.leases set worker = 'worker-1', expires_at = now() where schema_name = %s",
            [schema],
        )


def test_a_lease_is_held_whole_or_free_whole(superuser: Superuser, organization_id: int) -> None:
    schema = f"analytics_org_{organization_id}"
    run_id = insert(superuser, organization_id)
    lease(superuser, schema, organization_id)
    for half in ("expires_at = null", f"worker = null, expires_at = null, run_id = '{run_id}'"):
        with pytest.raises(errors.CheckViolation, match="leases_held_or_free"):
            superuser.execute(
                f"update kiket_analytics.leases set epoch = epoch + 1, {half} where schema_name = %s".encode(),
                [schema],
            )


@pytest.mark.parametrize(("hours", "accepted"), [(0, False), (1, True), (8760, True), (8761, False), (-5, False)])
def test_an_interval_is_between_an_hour_and_a_year(
    superuser: Superuser, organization_id: int, hours: int, accepted: bool
) -> None:
    wanted = "insert into kiket_analytics.analytics_settings (organization_id, enabled, refresh_interval_hours)"
    if accepted:
        superuser.execute(f"{wanted} values (%s, true, %s)".encode(), [organization_id, hours])
    else:
        with pytest.raises(errors.CheckViolation, match="refresh_interval_hours_in_range"):
            superuser.execute(f"{wanted} values (%s, true, %s)".encode(), [organization_id, hours])


def test_an_idempotency_key_names_one_run_of_its_organisation(superuser: Superuser, organization_id: int) -> None:
    wanted = b"insert into kiket_analytics.run_requests (organization_id, idempotency_key, run_id) values (%s, %s, %s)"
    run_id, other = (run_as(superuser, organization_id, Status.CANCELLED) for _ in range(2))
    superuser.execute(wanted, [organization_id, "key", run_id])
    with pytest.raises(errors.UniqueViolation):
        superuser.execute(wanted, [organization_id, "key", other])
    for wrong in ("", "k" * 256):
        with pytest.raises(errors.CheckViolation):
            superuser.execute(wanted, [organization_id, wrong, run_id])
    with pytest.raises(errors.ForeignKeyViolation):
        superuser.execute(wanted, [organization_id, "nowhere", uuid.uuid4()])
    superuser.execute(wanted, [next(_organizations), "key", run_id])


def test_the_ticker_has_one_row(superuser: Superuser) -> None:
    for second in ("default values", "(only_row) values (false)"):
        with pytest.raises((errors.UniqueViolation, errors.CheckViolation)):
            superuser.execute(f"insert into kiket_analytics.ticker {second}".encode())


def test_run_ids_are_uuids_of_version_7_in_the_order_of_time(superuser: Superuser) -> None:
    def clock() -> int:
        row = superuser.execute(
            "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint as milliseconds"
        ).fetchone()
        assert row is not None
        return int(row["milliseconds"])

    before = clock()
    rows = superuser.execute("select kiket_analytics.uuid_v7() as id from generate_series(1, 2000)").fetchall()
    after = clock()
    ids = [row["id"] for row in rows]
    assert {value.version for value in ids} == {7}
    assert {value.variant for value in ids} == {uuid.RFC_4122}
    milliseconds = [value.int >> 80 for value in ids]
    assert milliseconds == sorted(milliseconds)
    assert before <= milliseconds[0] <= milliseconds[-1] <= after
    assert abs(before / 1000 - datetime.now(UTC).timestamp()) < 60
    assert len(set(ids)) == len(ids)
    # 62 + 12 bits are random: none of them is stuck.
    assert {bit for value in ids for bit in range(62) if value.int >> bit & 1} == set(range(62))
    assert {bit for value in ids for bit in range(64, 76) if value.int >> bit & 1} == set(range(64, 76))


def test_a_later_run_id_sorts_after_an_earlier_one(superuser: Superuser) -> None:
    def next_id() -> uuid.UUID:
        row = superuser.execute("select kiket_analytics.uuid_v7() as id").fetchone()
        assert row is not None
        return uuid.UUID(str(row["id"]))

    first = next_id()
    deadline = time.monotonic() + 10
    second = next_id()
    while second.int >> 80 == first.int >> 80:  # Within one millisecond the order is not promised.
        assert time.monotonic() < deadline
        second = next_id()
    row = superuser.execute("select %s::uuid < %s::uuid as in_order", [first, second]).fetchone()
    assert row == {"in_order": True}
