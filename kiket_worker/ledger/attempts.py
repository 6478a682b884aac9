"""Attempts: what a worker writes under its claim, from the lease's renewals to the end that it gives the run.

Every write names the epoch under which the claim was made. When another attempt has taken the run over, the epoch is
higher, the write changes nothing, and `LeaseLost` is raised (fencing).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import psycopg
from psycopg.types.json import Jsonb

from kiket_worker.errors import KiketError, LeaseLost, PostgresUnreachable
from kiket_worker.ledger.claims import Claim
from kiket_worker.ledger.database import Connection, Database, statement, storable
from kiket_worker.ledger.runs import Run, RunModel, Status, lock


class Outcome(StrEnum):
    """How an attempt ended. The sixth, crashed, is written by whoever takes the run over."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    HANDED_BACK = "handed_back"


class AlreadyEnded(Exception):
    """The run was ended by this very attempt: the commit reached Postgres, and only its answer was lost."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


def renew(connection: Connection, claim: Claim, ttl_seconds: float) -> bool:
    """Prolong the lease; give whether somebody asked for the run's end.

    Raises `LeaseLost`, and `PostgresUnreachable` for any error of Postgres: none of them renews a lease.
    """
    parameters = {"schema_name": claim.schema_name, "epoch": claim.epoch, "ttl_seconds": ttl_seconds}
    try:
        row = connection.execute(statement("renew_lease"), parameters).fetchone()
    except psycopg.Error as fault:
        raise PostgresUnreachable(f"Postgres did not renew the lease of {claim.schema_name}: {fault}") from fault
    if row is None:
        raise _lost(claim)
    return bool(row["cancel_requested"])


def record_models(database: Database, claim: Claim, models: Sequence[RunModel]) -> None:
    """Write how far models are. Raises `LeaseLost`."""
    if not models:
        return
    rows = [
        asdict(model)
        | {
            "message": model.message and storable(model.message),
            "started_at": model.started_at and model.started_at.isoformat(),
        }
        for model in models
    ]
    parameters = {"run_id": claim.run.run_id, "lease_epoch": claim.epoch, "models": Jsonb(rows)}
    if not database.rows(statement("record_models"), parameters):
        raise _lost(claim)


def record_model(database: Database, claim: Claim, model: RunModel) -> None:
    """Write how far one model is. Raises `LeaseLost`."""
    record_models(database, claim, [model])


@dataclass(frozen=True)
class Built:
    """What dbt has built in a schema: as what each relation was made, by its name.

    `bundle_digest` is of the bundle that has these and no others; None where some may be left of another.
    """

    bundle_digest: str | None = None
    relations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildSettings:
    """How an organisation is built: the engine that it has of its own, if any, and whether its docs are wanted.

    `built` is what there is of earlier builds.
    """

    engine: str | None
    docs: bool
    built: Built


def begin_models(database: Database, claim: Claim) -> BuildSettings:
    """Forget the models of an earlier attempt; give the organisation's settings. Raises `LeaseLost`."""
    with database.transaction() as connection:
        _fenced(connection, claim, statement("hold_run"))
        connection.execute("delete from kiket_analytics.run_models where run_id = %s", [claim.run.run_id])
        row = connection.execute(
            statement("settings_of_build"),
            {"organization_id": claim.run.organization_id, "schema_name": claim.schema_name},
        ).fetchone()
        assert row is not None
        return BuildSettings(row["engine"], row["docs"], Built(row["bundle_digest"], row["relations"] or {}))


def check_held(database: Database, claim: Claim) -> None:
    """Raise `LeaseLost` where the run is not the claim's any more."""
    with database.transaction() as connection:
        _fenced(connection, claim, statement("hold_run"))


def record_built(database: Database, claim: Claim, built: Built) -> None:
    """Write down what dbt has built in the schema. Raises `LeaseLost`."""
    with database.transaction() as connection:
        _fenced(connection, claim, statement("hold_run"))
        _record_built(connection, claim, built)


def _record_built(connection: Connection, claim: Claim, built: Built) -> None:
    connection.execute(
        statement("record_built"),
        {
            "schema_name": claim.schema_name,
            "bundle_digest": built.bundle_digest,
            "relations": Jsonb(dict(built.relations)),
        },
    )


def mark_built(database: Database, claim: Claim) -> Run:
    """running → built. Raises `LeaseLost`."""
    with database.transaction() as connection:
        return _fenced(connection, claim, statement("mark_built"))


def mark_archived(database: Database, claim: Claim, *, location: str, index_sha256: str) -> Run:
    """built → archived, with the place and the checksum of the index. Raises `LeaseLost`."""
    with database.transaction() as connection:
        return _fenced(connection, claim, statement("mark_archived"), location=location, index_sha256=index_sha256)


def succeed(database: Database, claim: Claim, built: Built | None = None) -> tuple[Run, int]:
    """archived → succeeded, with its usage events, `last_run_at` and the lease's end in one transaction.

    With `built`, that is what there is in the schema from now on. Gives the run and the number of usage events. Raises
    `LeaseLost`.
    """
    with database.transaction() as connection:
        run = _fenced(connection, claim, statement("mark_succeeded"))
        if built is not None:
            _record_built(connection, claim, built)
        usage = connection.execute(statement("record_usage"), {"run_id": run.run_id, "recorded_at": None}).fetchone()
        assert usage is not None
        _end(connection, claim, Outcome.SUCCEEDED)
        return run, usage["usage_events"]


def fail(
    database: Database,
    claim: Claim,
    error: KiketError,
    *,
    location: str | None = None,
    index_sha256: str | None = None,
    quarantine: bool = False,
) -> Run:
    """End the run without success, keeping where its artifacts are if it has any.

    With `quarantine`, nothing of its organisation runs any more until somebody says so. Raises `LeaseLost`.
    """
    with database.transaction() as connection:
        run = _fenced(
            connection,
            claim,
            statement("mark_failed"),
            error_kind=error.kind,
            error_message=storable(str(error)) or error.kind,
            location=location,
            index_sha256=index_sha256,
        )
        _end(connection, claim, Outcome.FAILED, error)
        if quarantine:
            connection.execute(
                statement("quarantine"), {"organization_id": run.organization_id, "reason": storable(str(error))}
            )
        return run


def retry_later(database: Database, claim: Claim, error: KiketError, *, delay_seconds: float) -> Run:
    """Give the lease back and let the run begin another attempt after a time. Raises `LeaseLost`."""
    with database.transaction() as connection:
        run = _fenced(connection, claim, statement("retry_later"), delay_seconds=delay_seconds)
        _give_back(connection, claim, Outcome.RETRIED, error)
        return run


def hand_back(database: Database, claim: Claim) -> Run:
    """Give the lease back unfinished, because this worker has to end; the attempt does not count.

    Raises `LeaseLost`.
    """
    with database.transaction() as connection:
        run = _fenced(connection, claim, statement("hand_back"))
        _give_back(connection, claim, Outcome.HANDED_BACK)
        return run


def cancelled(database: Database, claim: Claim) -> Run:
    """End the run as asked. Raises `LeaseLost`."""
    with database.transaction() as connection:
        run = _fenced(connection, claim, statement("mark_cancelled"))
        _end(connection, claim, Outcome.CANCELLED)
        return run


def _end(connection: Connection, claim: Claim, outcome: Outcome, error: KiketError | None = None) -> None:
    """Give the lease back, count the attempt's start as the last run, and let a run that waited be published."""
    organization_id = claim.run.organization_id
    connection.execute(
        "update kiket_analytics.analytics_settings set last_run_at = %s where organization_id = %s",
        [claim.run.started_at, organization_id],
    )
    _give_back(connection, claim, outcome, error)
    connection.execute(
        "update kiket_analytics.runs set published_at = null where organization_id = %s and status = 'queued'",
        [organization_id],
    )


def _give_back(connection: Connection, claim: Claim, outcome: Outcome, error: KiketError | None = None) -> None:
    connection.execute(
        statement("close_attempt"),
        {
            "run_id": claim.run.run_id,
            "lease_epoch": claim.epoch,
            "outcome": outcome,
            "error_kind": error.kind if error else None,
            "error_message": storable(str(error)) if error else None,
        },
    )
    connection.execute(statement("abandon_models"), {"run_id": claim.run.run_id})
    connection.execute(statement("release_lease"), {"schema_name": claim.schema_name, "epoch": claim.epoch})


def _fenced(connection: Connection, claim: Claim, query: bytes, **values: str | float | None) -> Run:
    parameters = {"run_id": claim.run.run_id, "lease_epoch": claim.epoch} | values
    row = connection.execute(query, parameters).fetchone()
    if row is not None:
        return Run.from_row(row)
    run = lock(connection, claim.run.run_id)
    if run and run.lease_epoch == claim.epoch:
        raise AlreadyEnded(run.status)
    raise _lost(claim)


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        f"run {claim.run.run_id} was taken over: epoch {claim.epoch} of {claim.schema_name} is no longer its own"
    )
