"""The installation that is attacked: made once for a test process, as its first build by real dbt takes seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.dev import environment, postgres, sample
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Status
from tests.conftest import SAMPLE_NOW, TestDatabase

# Before it is imported, so that what fails in it says with what values.
pytest.register_assert_rewrite("tests.isolation.siege")

from tests.isolation.siege import Siege  # noqa: E402

_EARLIER_USAGE = Path("kiket_worker/dev/sql/earlier_usage.sql")


@pytest.fixture(scope="session")
def siege(
    service_folder: Path, process_name: str, tmp_path_factory: pytest.TempPathFactory, pytestconfig: Any
) -> Iterator[Siege]:
    """`acme` is provisioned and attacks; `blue-harbor` and the shared schema are built by real dbt.

    A server of its own, as roles belong to a whole server, and no test but those of attacks may change any.
    """
    server = service_folder / f"postgres-siege-{process_name}"
    admin_url = postgres.start(server)
    url = environment.load_platform(admin_url, "besieged", sample.tiny(), now=SAMPLE_NOW)
    ledger_url = TestDatabase(url).with_roles()
    with (
        Database(ledger_url, max_connections=8) as database,
        TestDatabase(url).connect() as admin,
    ):
        usage = (pytestconfig.rootpath / _EARLIER_USAGE).read_bytes()
        with psycopg.connect(url) as connection:
            connection.execute(usage, {"now": SAMPLE_NOW})
        made = Siege(url, ledger_url, tmp_path_factory.mktemp("siege"), server / "postgres.log", database, admin)
        built = made.refresh("blue-harbor")
        assert built.status is Status.SUCCEEDED, built
        made.mend()
        admin.execute("comment on schema analytics_org_blue_harbor is 'said by blue-harbor'")
        admin.execute("analyze")
        with made.bystanders():
            made.remember()
            yield made
