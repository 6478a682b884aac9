"""Backup and restore of the ledger, by the scripts and the command that the runbook names."""

import os
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.dev import postgres
from tests.faults.site import DBT, LEASE_SECONDS, Site
from tests.support.dbt_scripts import until

SCRIPTS = Path(__file__).parents[2] / "scripts"


def variables_of(site: Site) -> dict[str, str]:
    return {"PATH": f"{postgres.programs_folder()}:{os.environ['PATH']}", "DATABASE_URL": site.database_url}


def script(site: Site, name: str, file: Path) -> None:
    """A script of the runbook, with Postgres' own programs, as a superuser."""
    done = subprocess.run(
        [SCRIPTS / name, file], env=variables_of(site), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def piped(site: Site, name: str, end: str, **streams: Any) -> None:
    """The same as the runbook has it for a server that is reached from within only."""
    command = ["sh", "-c", (SCRIPTS / name).read_text(), name, end]
    subprocess.run(command, env=variables_of(site), timeout=60, check=True, **streams)


def refresh(site: Site, slug: str) -> None:
    site.ask(slug)
    site.until_succeeded(slug)


def succeeded(site: Site) -> set[str]:
    rows = site.rows("select run_id from kiket_analytics.runs where status = 'succeeded'")
    return {str(row["run_id"]) for row in rows}


def leased(site: Site) -> dict[str, int]:
    """How often each schema was leased."""
    rows = site.rows("select schema_name, epoch from kiket_analytics.leases where organization_id is not null")
    return {row["schema_name"]: row["epoch"] for row in rows}


def billed(site: Site) -> list[tuple[str, str]]:
    rows = site.rows("select run_id, model_id from kiket_analytics.usage_events order by 1, 2")
    return [(str(row["run_id"]), row["model_id"]) for row in rows]


def test_what_was_refreshed_after_the_backup_is_recorded_again_once_and_nothing_is_lost_or_doubled(
    site: Site, tmp_path: Path
) -> None:
    """One run before the backup, one that is being built during it, and one after it."""
    file = tmp_path / "ledger.dump"
    site.start_cluster(workers=1)
    refresh(site, "acme")
    with site.held(DBT) as held:
        site.ask("blue-harbor")
        held.until_reached()
        script(site, "ledger-backup", file)
        held.open()
    site.until_succeeded("blue-harbor")
    refresh(site, "north_star")
    site.until(
        lambda: not site.rows("select from kiket_analytics.leases where worker is not null"), "nothing is in hand"
    )
    # As if it had been leased often since: what was leased then must not be taken for what is leased after the restore.
    site.execute("update kiket_analytics.leases set epoch = epoch + 10 where schema_name = 'analytics_org_blue_harbor'")
    leased_before = leased(site)
    before, usage_before = succeeded(site), billed(site)
    last_runs = "select organization_id, last_run_at from kiket_analytics.analytics_settings order by 1"
    assert (len(before), len(usage_before)) == (3, 6)

    site.stop()
    script(site, "ledger-restore", file)
    assert len(succeeded(site)) == 1, "the ledger is as it was at the backup"
    assert leased(site) == leased_before, "but for how often each schema was leased"
    first = site.run_command("runs", "recover", "--json")
    assert '"fate": "recovered"' in first
    assert len(succeeded(site)) == 2
    assert site.run_command("runs", "recover", "--json").strip() == "[]", "a second time, there is nothing left"
    assert all(row["last_run_at"] for row in site.rows(last_runs))

    # The run that the backup has caught is taken over when its lease is over, as that of any worker that died.
    site.start_cluster(workers=1)
    site.until_succeeded("acme", "blue-harbor", "north_star")
    site.until(
        lambda: not site.rows("select from kiket_analytics.runs where finished_at is null"), "every run has ended"
    )
    assert succeeded(site) == before
    assert billed(site) == usage_before
    site.stop()


def test_a_schema_that_is_newer_than_the_backup_stays_its_organisations(site: Site, tmp_path: Path) -> None:
    site.start_cluster(workers=1)
    script(site, "ledger-backup", tmp_path / "ledger.dump")
    refresh(site, "north_star")
    site.stop()
    site.execute(
        "insert into public.organizations (id, slug, name, plan, created_at)"
        " values (777, 'north-star', 'Other', 'team', now())"
    )
    script(site, "ledger-restore", tmp_path / "ledger.dump")
    site.start_cluster(workers=1)
    site.run_command("refresh", "north-star", "--force")
    ended = (
        "select status, error_kind from kiket_analytics.runs where organization_id = 777 and finished_at is not null"
    )
    site.until(lambda: site.rows(ended), "the run has ended")
    assert site.rows(ended) == [{"status": "skipped", "error_kind": "organization_slug_invalid"}]
    site.stop()


def test_usage_that_is_recorded_again_has_the_time_at_which_it_came_to_be(site: Site, tmp_path: Path) -> None:
    site.start_cluster(workers=1)
    with (tmp_path / "ledger.dump").open("wb") as backup:
        piped(site, "ledger-backup", "/dev/stdout", stdout=backup)
    refresh(site, "acme")
    (earlier,) = site.rows("select min(recorded_at) as at from kiket_analytics.usage_events")
    site.stop()
    with (tmp_path / "ledger.dump").open("rb") as backup:
        piped(site, "ledger-restore", "/dev/stdin", stdin=backup)
    restored_at = site.now()
    site.run_command("runs", "recover")
    (now,) = site.rows("select min(recorded_at) as at, count(*) as events from kiket_analytics.usage_events")
    assert now["events"] == 2
    assert abs((now["at"] - earlier["at"]).total_seconds()) < 10
    assert now["at"] < restored_at


def test_a_damaged_set_and_one_in_the_way_of_an_active_run_are_told_of_and_left(site: Site, tmp_path: Path) -> None:
    site.start_cluster(workers=1)
    script(site, "ledger-backup", tmp_path / "ledger.dump")
    refresh(site, "acme")
    refresh(site, "blue-harbor")
    site.stop()
    script(site, "ledger-restore", tmp_path / "ledger.dump")
    (results,) = (site.folder / "artifacts" / "acme").rglob("run_results.json")
    results.write_bytes(b"[]")
    site.execute(
        "insert into kiket_analytics.runs (organization_id, organization_slug, reason)"
        " select id, slug, 'manual' from public.organizations where slug = 'blue-harbor'"
    )
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        site.run_command("runs", "recover", "--json")
    assert refusal.value.returncode == 1
    assert '"fate": "damaged"' in refusal.value.stdout
    assert '"fate": "busy"' in refusal.value.stdout
    assert site.usage() == 0


def test_a_restore_that_fails_leaves_the_ledger_as_it_was(site: Site, tmp_path: Path) -> None:
    site.start_cluster(workers=1)
    script(site, "ledger-backup", tmp_path / "ledger.dump")
    refresh(site, "acme")
    before = billed(site)
    with pytest.raises(AssertionError, match="still connected: stop them first"):
        script(site, "ledger-restore", tmp_path / "ledger.dump")
    assert billed(site) == before
    site.stop()
    (tmp_path / "broken").write_bytes(b"no dump")
    with pytest.raises(AssertionError):
        script(site, "ledger-restore", tmp_path / "broken")
    assert billed(site) == before


def until_renewed(site: Site, schema: str, *, times: int) -> None:
    """Wait until the schema's lease has been prolonged by so many of its times since now."""
    over = site.now() + timedelta(seconds=(times + 1) * LEASE_SECONDS)
    held = "select from kiket_analytics.leases where schema_name = %s and worker is not null and expires_at > %s"
    site.until(lambda: site.rows(held, schema, over), "the lease is renewed")


def test_the_database_password_is_changed_while_refreshes_go_on_and_no_run_fails(site: Site) -> None:
    """A worker with the earlier password finishes what it has, however long; one with the new one takes the rest."""
    (first,) = site.start_cluster(workers=1)
    newer = "another-password-of-the-tests"
    earlier = psycopg.conninfo.conninfo_to_dict(site.variables["DATABASE_URL"])["password"]
    try:
        with site.held(DBT) as held:
            site.ask("acme")
            held.until_reached()
            site.execute(f"alter role kiket_ledger password '{newer}'")
            site.variables["DATABASE_URL"] = site.variables["DATABASE_URL"].replace(str(earlier), newer)
            site.ask("blue-harbor")
            second = site.start("worker")
            ticker = site.start("ticker")
            second.until_event("worker.started")
            ticker.until_event("ticker.ticked")
            first.send(signal.SIGTERM)
            until_renewed(site, "analytics_org_acme", times=2)
            held.open()
        site.until_succeeded("acme", "blue-harbor")
        until(first.has_ended, "the first worker ends in order")
        assert first.process.wait(20) == 0
        assert [(run["status"], run["attempt"]) for run in site.rows("select * from kiket_analytics.runs")] == [
            ("succeeded", 1),
            ("succeeded", 1),
        ]
        site.audit()
    finally:
        site.execute(f"alter role kiket_ledger password '{earlier}'")
