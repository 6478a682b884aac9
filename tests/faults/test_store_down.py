"""The artifact store refuses or hangs: the run waits or is tried again, and no usage is recorded meanwhile."""

from tests.faults.proxy import Proxy
from tests.faults.site import LEASE_SECONDS, Site
from tests.support.dbt_scripts import until


def test_a_store_that_refuses_and_comes_back(site: Site, s3_proxy: Proxy) -> None:
    (worker,) = site.start_cluster(workers=1)
    s3_proxy.refuse()
    site.ask()
    retried = worker.until_event("run.retried")
    assert retried["error_kind"] == "artifacts_unreachable"
    assert site.usage() == 0
    s3_proxy.restore()
    site.until_succeeded()
    assert {row["outcome"] for row in site.attempts()} == {"retried", "succeeded"}
    (run,) = site.rows("select * from kiket_analytics.runs")
    assert run["crashes"] == 0
    site.audit()


def test_a_store_that_hangs_and_comes_back(site: Site, s3_proxy: Proxy) -> None:
    site.start_cluster(workers=2)
    s3_proxy.hang()
    site.ask()
    until(lambda: site.rows("select from kiket_analytics.runs where status = 'built'"), "dbt has built")
    (built,) = site.rows("select * from kiket_analytics.leases where worker is not null")

    def outlived() -> bool:
        return bool(
            site.rows(
                "select from kiket_analytics.leases where epoch = %s and expires_at - %s > make_interval(secs => %s)",
                built["epoch"],
                built["expires_at"],
                LEASE_SECONDS,
            )
        )

    until(outlived, "the lease is kept for longer than it lasts")
    assert site.usage() == 0
    s3_proxy.cut()
    s3_proxy.restore()
    site.until_succeeded()
    assert [row["outcome"] for row in site.attempts()] == ["succeeded"]
    site.audit()
