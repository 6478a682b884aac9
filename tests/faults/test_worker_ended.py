"""Workers that are asked to end, and tenants that crash their workers."""

import signal

import psutil

from kiket_worker.dev.service import alive
from tests.faults.site import DBT, Site
from tests.support.dbt_scripts import until


def test_a_worker_that_has_to_end_hands_its_run_back_and_the_attempt_does_not_count(site: Site) -> None:
    site.start_cluster(KIKET_GRACE_SECONDS="0.5")
    with site.held(DBT) as held:
        site.ask()
        held.until_reached()
        first = site.claimant()
        dbt = psutil.Process(site.writers()[0]["process_id"])
        first.send(signal.SIGTERM)
        assert first.process.wait(20) == 0
        assert not alive(dbt)
        until(lambda: len(site.writers()) == 2, "another worker's dbt writes")
        held.open()
        site.until_succeeded()
    assert [event["event"] for event in first.events()][-2:] == ["run.handed_back", "worker.stopped"]
    assert [(row["attempt"], row["outcome"]) for row in site.attempts()] == [(1, "handed_back"), (1, "succeeded")]
    (run,) = site.rows("select * from kiket_analytics.runs")
    assert (run["attempt"], run["crashes"]) == (1, 0)
    site.audit()


def test_a_tenant_that_crashes_its_workers_is_quarantined_and_released(site: Site) -> None:
    (site.folder / "crash-acme").touch()
    # Two at a time: the crash counts for whoever is in the same worker as well, who then must not be put in quarantine.
    limit = {"KIKET_MAX_CRASHES": "2", "KIKET_CONCURRENCY": "2"}
    site.execute("update kiket_analytics.analytics_settings set last_run_at = null")
    site.start_cluster(workers=2, **limit)

    def quarantined() -> bool:
        for service in site.services[1:]:
            if service.has_ended():  # As a supervisor does.
                site.services.remove(service)
                ended.append(service)
                site.start("worker", **limit)
        return any(service.events("organization.quarantined") for service in site.services)

    ended: list[object] = []
    until(quarantined, "the organisation is quarantined", seconds=40)
    assert len(ended) == 2
    site.until_succeeded("blue-harbor", "north_star", "quiet-orchard")
    (run,) = site.rows("select * from kiket_analytics.runs where organization_slug = 'acme'")
    assert (run["status"], run["error_kind"], run["crashes"]) == ("failed", "attempts_exhausted", 2)
    ticks = len(site.services[0].events("ticker.ticked"))
    site.execute("update kiket_analytics.analytics_settings set last_run_at = null where organization_id = 1")
    until(lambda: len(site.services[0].events("ticker.ticked")) > ticks + 1, "the ticker ticks again")
    assert len(site.rows("select from kiket_analytics.runs")) == 4

    (site.folder / "crash-acme").unlink()
    # To see whether it is well again, by hand; it stays in quarantine.
    site.run_command("refresh", "acme", "--force", "--wait")
    quarantined_at = "select quarantined_at from kiket_analytics.analytics_settings where organization_id = 1"
    assert site.rows(quarantined_at)[0]["quarantined_at"]
    site.execute("update kiket_analytics.analytics_settings set last_run_at = null where organization_id = 1")
    site.run_command("settings", "release", "acme")
    succeeded = "select count(*) = 2 as twice from kiket_analytics.runs where organization_slug = 'acme'"
    site.until(lambda: site.rows(succeeded + " and status = 'succeeded'")[0]["twice"], "it is refreshed as all are")
    site.audit(statuses=("succeeded", "failed"))
