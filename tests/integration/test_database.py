"""The ledger's pool of connections, and a server that ends one that nobody uses."""

import psycopg

from kiket_worker.ledger.database import Database
from tests.conftest import TestDatabase

SESSION = b"select pg_catalog.pg_backend_pid() as id"


def test_a_session_that_the_server_ended_meanwhile_is_not_used(empty_database: TestDatabase) -> None:
    with Database(empty_database.url, max_connections=1) as database:
        (ended,) = database.rows(SESSION)
        with psycopg.connect(empty_database.url, autocommit=True) as superuser:
            superuser.execute("select pg_catalog.pg_terminate_backend(%s, 10000)", [ended["id"]])
        (another,) = database.rows(SESSION)
    assert another["id"] != ended["id"]


def test_a_session_is_used_again(empty_database: TestDatabase) -> None:
    with Database(empty_database.url, max_connections=1) as database:
        assert database.rows(SESSION) == database.rows(SESSION)
