"""`tenants` as an operator runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.tenants import SECRETS

_NEWER = f"{SECRETS.tenant_keys},2:another-tenant-key-of-the-tests-with-enough-characters"
_SCHEMAS = "select nspname from pg_namespace where nspname ~ '^analytics_org_' order by 1"
_ROLES = "select rolname from pg_roles where rolname in ('analytics_org_acme', 'analytics_ro_acme')"


def test_tenants_are_provisioned_listed_and_mended(installation: Any, sample_database: Any) -> None:
    first = installation.run("tenants", "provision", "acme", "--json")
    assert (first.code, first.err) == (0, "")
    (made,) = first.document
    assert (made["slug"], made["error_kind"], made["error"]) == ("acme", None, None)
    assert made["drift"]
    assert [row["nspname"] for row in sample_database.rows(_SCHEMAS)] == ["analytics_org_acme"]

    sample_database.execute("alter role analytics_org_acme set search_path = public")
    every = installation.run("tenants", "provision", "--all")
    assert every.code == 0
    assert "settings" in next(line for line in every.out.splitlines() if " acme " in f" {line} ")
    assert "of" in every.err, "progress"
    listed = installation.run("tenants", "list", "--json").document
    assert {one["slug"]: one["schema"] for one in listed}["acme"] == "analytics_org_acme"
    assert {row["nspname"] for row in sample_database.rows(_SCHEMAS)} == {one["schema"] for one in listed} - {None}


def test_what_cannot_be_provisioned_is_said_and_the_others_are(installation: Any, sample_database: Any) -> None:
    sample_database.execute("update public.organizations set slug = 'Not A Slug' where slug = 'blue-harbor'")
    done = installation.run("tenants", "provision", "--all", "--json")
    assert done.code == 1
    faults = {one["slug"]: one["error_kind"] for one in done.document}
    assert faults.pop("Not A Slug") == "organization_slug_invalid"
    assert set(faults.values()) == {None}
    installation.run("tenants", "provision").refused(2, "--all")
    installation.run("tenants", "provision", "acme", "--all").refused(2, "--all")
    installation.run("tenants", "provision", "nobody").refused(2, "nobody")
    installation.run("tenants", "provision", "acme", KIKET_ISOLATION="shared").refused(2, "KIKET_ISOLATION")
    installation.run("tenants", "provision", "acme", without=("KIKET_TENANT_KEYS",)).refused(2, "KIKET_TENANT_KEYS")


def test_a_tenant_is_dropped_once_its_slug_was_typed(installation: Any, sample_database: Any) -> None:
    assert installation.run("tenants", "provision", "acme").code == 0
    wrong = installation.run("tenants", "drop", "acme", typed="blue-harbor\n")
    assert wrong.code == 2
    assert "Type acme" in wrong.err
    assert "nothing was removed" in wrong.err
    assert installation.run("tenants", "drop", "acme", typed="").code != 0
    assert len(sample_database.rows(_ROLES)) == 2

    dropped = installation.run("tenants", "drop", "acme", "--json", typed="acme\n")
    assert (dropped.code, dropped.document) == (0, {"dropped": "analytics_org_acme"})
    assert sample_database.rows(_SCHEMAS) + sample_database.rows(_ROLES) == []
    installation.run("tenants", "drop", "acme", "--yes").refused(2, "acme")


def test_keys_are_rotated_without_harm_to_a_refresh_that_runs(
    installation: Any, sample_database: Any, quick_dbt: Path, until: Callable[..., Any]
) -> None:
    """The stand-in for dbt connects only once it is let go: after the rotation, with the password of before."""
    installation.variables["KIKET_DBT_EXECUTABLE"] = str(quick_dbt)
    assert installation.run("refresh", "acme", "--wait").code == 0
    assert installation.run("tenants", "provision", "blue-harbor").code == 0
    hold = quick_dbt.with_name("hold")
    hold.touch()
    running = installation.start("refresh", "acme", "--wait")
    until(lambda: sample_database.rows("select from kiket_analytics.runs where status = 'running'"), "dbt began")

    rotated = installation.run("tenants", "rotate-keys", "--json", KIKET_TENANT_KEYS=_NEWER)
    assert rotated.code == 0
    assert rotated.document == {"version": 2, "rotated": 2, "busy": 1, "failed": 0, "older": 1}
    hold.unlink()
    assert running.wait(60) == 0

    rest = installation.run("tenants", "rotate-keys", KIKET_TENANT_KEYS=_NEWER)
    assert (rest.code, "1 rotated" in rest.out, "nobody left" in rest.out) == (0, True, True)
    newest = _NEWER.partition(",")[2]
    assert installation.run("refresh", "acme", "--wait", KIKET_TENANT_KEYS=newest).code == 0
