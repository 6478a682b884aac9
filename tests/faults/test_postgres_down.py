"""Postgres restarts or is killed in mid-run: the worker survives, and acknowledges nothing meanwhile."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from kiket_worker.dev import environment, postgres, sample
from kiket_worker.dev.service import alive
from tests.faults.site import DBT, LEASE_SECONDS, Site
from tests.support.dbt_scripts import until


@pytest.fixture(scope="module")
def server_folder(service_folder: Path) -> Iterator[Path]:
    """The folder of a Postgres that only this module uses."""
    folder = service_folder / f"postgres-{uuid.uuid4().hex[:6]}"
    url = postgres.start(folder)
    environment.load_platform(url, "sample", sample.tiny(), now=datetime(2026, 6, 15, 12, tzinfo=UTC))
    yield folder
    postgres.stop(folder)


@pytest.fixture
def fragile_site(tmp_path: Path, server_folder: Path, rabbitmq_url: str) -> Iterator[Site]:
    url = postgres.start(server_folder)
    name = f"test_{uuid.uuid4().hex[:12]}"
    made = Site.prepare(tmp_path, postgres.create_database(url, name, "sample"), rabbitmq_url)
    yield made
    made.end()


def stop(folder: Path) -> None:
    postgres.stop(folder)


def kill(folder: Path) -> None:
    postmaster = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split("\n")[0]))
    children = postmaster.children()
    postmaster.kill()
    until(lambda: not any(map(alive, [postmaster, *children])), "all of Postgres ends")


@pytest.mark.parametrize("end", [stop, kill])
def test_postgres_restarts_in_mid_run(fragile_site: Site, server_folder: Path, end: object) -> None:
    assert callable(end)
    site = fragile_site
    (worker,) = site.start_cluster(workers=1)
    with site.held(DBT) as held:
        site.ask("acme")
        held.until_reached()
        dbt = psutil.Process(site.writers()[0]["process_id"])
        end(server_folder)
    site.ask("blue-harbor")  # Read by the worker while there is no ledger to write it to.
    until(lambda: not alive(dbt), "dbt has lost its connection, or its lease's time", seconds=LEASE_SECONDS + 2)
    until(
        lambda: [event for event in worker.events("worker.failed") if event.get("organization") == "blue-harbor"],
        "the worker has met the second message",
    )
    postgres.start(server_folder)
    site.until_succeeded("acme", "blue-harbor")
    assert len(site.rows("select from kiket_analytics.runs")) == 2
    assert site.usage() == 4
    assert not worker.has_ended()
    assert not site.services[0].has_ended()
    site.audit()
