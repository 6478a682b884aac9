"""Relations of models that are no longer in an organisation's bundle: remembered when built, removed after a success.

Only what dbt was seen to make is ever removed, by the organisation's own role, and only while it is still that role's
and still what dbt made. What something else depends on stays, and is tried again at the next run.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from kiket_worker import events
from kiket_worker.dbt.relations import relations_of
from kiket_worker.errors import TenantLoginFailed, TenantNotIsolated
from kiket_worker.ledger import attempts
from kiket_worker.ledger.attempts import Built
from kiket_worker.ledger.database import Connection, statement
from kiket_worker.refresh.attempt import Attempt
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.sessions import application_name

# Readers wait behind who waits for the lock of what they read.
_LOCK_SECONDS = 2
# A run holds its organisation's lease meanwhile; what is left then is the next one's.
_MOST_SECONDS = 30
_RELKINDS = {"view": "v", "table": "r", "materialized view": "m"}


@dataclass(frozen=True)
class Inventory:
    """What dbt has made in a schema by now, in this run and before, and what of it the bundle still has."""

    made: Mapping[str, str]
    wanted: Mapping[str, str]

    @property
    def left(self) -> dict[str, str]:
        """What no model of the bundle makes any more."""
        return {name: kind for name, kind in self.made.items() if name not in self.wanted}


def remember_built(attempt: Attempt, before: Built) -> None:
    """Add what a build has made to what is known of the schema, however the build ended. Raises `LeaseLost`.

    Nothing is to be done for a bundle that is known to have nothing but its own there.
    """
    outcome, schema = attempt.outcome, attempt.claim.schema_name
    if outcome is None or attempt.bundle is None or before.bundle_digest == attempt.bundle.digest:
        return
    relations = relations_of(outcome.files.get("manifest.json"), outcome.files.get("run_results.json"), schema)
    if relations is None:
        return
    inventory = Inventory({**before.relations, **relations.made}, relations.wanted)
    if before.bundle_digest is not None or inventory.made != before.relations:
        # Now, and not only at the end: a run that fails leaves what it has made, too.
        attempts.record_built(attempt.services.database, attempt.claim, Built(None, inventory.made))
    attempt.inventory = inventory


def drop_left(attempt: Attempt) -> Built | None:
    """Remove what the bundle of a run that has built all of it does not have; give what there is then.

    None where that is as the ledger has it.
    """
    inventory = attempt.inventory
    if inventory is None or attempt.bundle is None or attempt.claim.run.selection:
        return None
    kept = _drop(attempt, inventory.left) if inventory.left else {}
    made = {name: kind for name, kind in inventory.made.items() if name in inventory.wanted}
    return Built(None if kept else attempt.bundle.digest, made | kept)


@dataclass
class _Dropping:
    """How far the dropping of one schema's relations is: what remains, and why."""

    schema: str
    remaining: dict[str, str]
    until: float
    reasons: dict[str, str] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)


def _drop(attempt: Attempt, left: Mapping[str, str]) -> dict[str, str]:
    """Drop what can be dropped; give what cannot, and tell of each."""
    services, claim = attempt.services, attempt.claim
    candidate = Candidate(claim.run.organization_id, claim.run.organization_slug)
    dropping = _Dropping(claim.schema_name, dict(left), time.monotonic() + _MOST_SECONDS)
    try:
        with services.isolation.session(services.database, candidate, claim.schema_name, claim.epoch) as session:
            session.execute("select set_config('application_name', %s, false)", [application_name(claim.run.run_id)])
            session.execute("select set_config('lock_timeout', %s, false)", [f"{_LOCK_SECONDS}s"])
            # After the session has its name: who takes the run over from now on ends it.
            attempts.check_held(services.database, claim)
            for name in _dropped(session, dropping):
                attempt.log(events.RELATION_DROPPED, relation=name)
    except (TenantLoginFailed, TenantNotIsolated, psycopg.Error) as fault:
        # The run has built all that it should: what it could not tidy away is no reason to build it again.
        dropping.reasons |= dict.fromkeys(dropping.remaining, str(fault).partition("\n")[0])
    for name in sorted(dropping.remaining):
        attempt.log(events.RELATION_RETAINED, relation=name, error=dropping.reasons.get(name))
    return dropping.remaining


def _dropped(session: Connection, dropping: _Dropping) -> Iterator[str]:
    """Drop, in as many rounds as relations of the same models depend on each other; name each that is gone."""
    rows = session.execute(
        statement("own_relations", __package__),
        {"schema_name": dropping.schema, "names": list(dropping.remaining)},
    ).fetchall()
    kinds = {row["relname"]: row["relkind"] for row in rows}
    for name, kind in list(dropping.remaining.items()):
        if kinds.get(name) != _RELKINDS[kind]:
            # Gone already, somebody else's, or something else by now: it is not what dbt made.
            del dropping.remaining[name]
    while True:
        gone = [
            name
            for name, kind in sorted(dropping.remaining.items())
            if name not in dropping.locked and _is_dropped(session, dropping, name, kind)
        ]
        for name in gone:
            del dropping.remaining[name]
        yield from gone
        if not gone:
            return


def _is_dropped(session: Connection, dropping: _Dropping, name: str, kind: str) -> bool:
    if time.monotonic() > dropping.until:
        dropping.reasons.setdefault(name, f"{_MOST_SECONDS} seconds were not enough")
        return False
    relation = sql.Identifier(dropping.schema, name)
    try:
        session.execute(sql.SQL("drop {} if exists {} restrict").format(sql.SQL(kind), relation))
    except psycopg.errors.DependentObjectsStillExist as fault:
        dropping.reasons[name] = str(fault.diag.message_primary)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as fault:
        # Not tried again in this run: it would hold up readers once more.
        dropping.locked.add(name)
        dropping.reasons[name] = str(fault.diag.message_primary)
    else:
        return True
    return False
