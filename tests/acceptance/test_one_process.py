"""`memory://`: one process is ticker and worker, and nobody else looks after what it leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.scrapes import asked, samples


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


def test_one_process_tells_of_the_schedule_and_of_the_refreshes(
    installation: Any, quick_dbt: Path, until: Callable[..., Any]
) -> None:
    installation.start("ticker", KIKET_DBT_EXECUTABLE=str(quick_dbt), KIKET_METRICS_ADDRESS="127.0.0.1:0")

    def started() -> list[str]:
        return [event["address"] for event in installation.log("ticker") if event["event"] == "monitoring.started"]

    url = f"http://{until(started, 'the port is open')[0]}"

    def all_are_refreshed() -> bool:
        found = samples(url)
        return (
            found['kiket_runs_total{error_kind="",outcome="succeeded"}'] == 4
            and found.get("kiket_worker_refreshes") == found.get("kiket_due_organizations") == 0
        )

    until(all_are_refreshed, "metrics say that nothing is due any more")
    assert asked(f"{url}/healthz") == (200, {"alive": True})
    assert asked(f"{url}/readyz")[1]["services"].keys() == {"postgres", "rabbitmq", "artifacts"}
