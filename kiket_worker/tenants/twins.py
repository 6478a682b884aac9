"""Sessions of organisations' read-only twins: for who shows what an organisation has built, and changes nothing."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from kiket_worker.errors import TenantNotIsolated, TenantOverran, UnknownTenant
from kiket_worker.ledger.database import Connection, Database, statement
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login, check_twin, session
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import reader_name


class Twins:
    """Opens them. `address` are libpq's words for where the database is."""

    def __init__(self, database: Database, keys: TenantKeys, address: Mapping[str, str]) -> None:
        self._database = database
        self._keys = keys
        self._address = address

    @contextmanager
    def session(self, candidate: Candidate, *, most_seconds: float) -> Iterator[Connection]:
        """A checked session, which is cut off after so long, whatever goes on in it: a tenant may lift time-outs.

        What was cut off raises `psycopg.OperationalError` where it is used. Raises `UnknownTenant` where the
        organisation was never provisioned, `TenantLoginFailed`, and `TenantNotIsolated`.
        """
        role = reader_name(candidate.slug)
        found = self._database.rows(statement("key_of_twin", __package__), {"reader_name": role})
        if not found:
            raise UnknownTenant(f"{candidate.slug} has no database role yet: its first refresh makes it")
        if found[0]["organization_id"] != candidate.organization_id:
            raise TenantNotIsolated(f"role {role} is organisation {found[0]['organization_id']}'s")
        login = Login(role, self._keys.password(role, found[0]["key_version"]))
        with session(self._address, login) as connection, _cut_off(connection, most_seconds):
            check_twin(connection, role)
            yield connection


@contextmanager
def reading_only(connection: Connection, *, most_seconds: float) -> Iterator[None]:
    """A transaction that changes nothing and is rolled back, with a time-out for each statement and wait for a lock.

    Within it, dates and times are written the same whatever the role has set for itself. Postgres lets no function make
    a read-only transaction write again. Raises `TenantOverran` before it begins where there is no time left.
    """
    if most_seconds <= 0:
        raise TenantOverran("there was no time left to ask for it")
    with connection.transaction(force_rollback=True):
        connection.execute("set transaction read only")
        connection.execute(
            statement("settings_of_reading", __package__), {"milliseconds": str(max(1, round(1000 * most_seconds)))}
        )
        yield


@contextmanager
def _cut_off(connection: Connection, seconds: float) -> Iterator[None]:
    """Hang up after so long: who waits for an answer in this session then learns that there will be none."""
    # A copy: the number may be another connection's once this one is closed.
    hanging_up = socket.socket(fileno=os.dup(connection.fileno()))

    def hang_up() -> None:
        with suppress(OSError):
            hanging_up.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        hanging_up.close()
