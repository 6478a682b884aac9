"""`memory://`: one process is ticker and worker, and nobody else looks after what it leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_refresh_goes_on_after_one_that_was_killed(
    installation: Any, sample_database: Any, quick_dbt: Path, until: Callable[..., Any]
) -> None:
    hold = quick_dbt.with_name("hold")
    hold.touch()
    variables = {"KIKET_DBT_EXECUTABLE": str(quick_dbt), "KIKET_LEASE_TTL_SECONDS": "2"}
    killed = installation.start("refresh", "acme", "--wait", **variables)
    until(lambda: sample_database.rows("select from kiket_analytics.leases where worker is not null"), "it is claimed")
    killed.kill()
    killed.wait()
    hold.unlink()

    result = installation.run("refresh", "acme", "--wait", "--json", **variables)

    assert result.code == 0, result.err
    assert result.document["status"] == "succeeded"
    runs = sample_database.rows("select status, attempt from kiket_analytics.runs order by queued_at")
    assert runs == [{"status": "succeeded", "attempt": 2}, {"status": "succeeded", "attempt": 1}]
