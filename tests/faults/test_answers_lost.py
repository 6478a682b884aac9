"""Postgres commits, and the worker never hears of it."""

import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site


@pytest.mark.parametrize(
    ("statement", "outcomes"),
    [
        (b"insert into kiket_analytics.attempts", ["crashed", "succeeded"]),
        (b"set status = 'built'", ["retried", "succeeded"]),
        (b"set status = 'archived'", ["retried", "succeeded"]),
        (b"'analytics_dbt_run'", ["succeeded"]),
    ],
    ids=["claim", "built", "archived", "the end"],
)
def test_the_answer_to_a_commit_is_lost(
    site: Site, postgres_proxy: Proxy, proxied_database: dict[str, str], statement: bytes, outcomes: list[str]
) -> None:
    site.start("ticker")
    worker = site.start("worker", **proxied_database)
    worker.until_event("worker.started")
    postgres_proxy.lose_answer(statement, b"COMMIT")
    site.ask()
    site.until_succeeded()
    # The ledger knows of the commit before the proxy has its answer.
    assert postgres_proxy.lost.wait(30)
    site.ask("blue-harbor")
    site.until_succeeded("acme", "blue-harbor")
    assert [row["outcome"] for row in site.attempts()] == [*outcomes, "succeeded"]
    assert site.usage() == 4
    site.audit()
