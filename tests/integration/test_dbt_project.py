"""The dbt project by hand: plain `dbt` with the DBT_* variables against a real Postgres, no worker involved.

Each start of dbt costs seconds of CPU, so the organisations are built once, edited once, and looked at by many tests.
The sessions run 14 hours ahead of UTC: whatever depends on a session's time zone gives other days than expected here.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.support import warm_dbt

PROJECT = Path(__file__).parents[2] / "analytics" / "dbt"

ACME = {"organization_id": 1, "organization_slug": "acme"}
GLOBEX = {"organization_id": 2, "organization_slug": "glo-bex"}
BARE = {"organization_id": 3, "organization_slug": "bare"}

CONTRACT = {
    "fct_cycle_time": ["project_id", "completed_on", "avg_cycle_days"],
    "fct_throughput": ["project_id", "completed_on", "issues_completed"],
    "fct_usage_events": ["project_id", "recorded_on", "metric", "total_quantity"],
    "fct_epic_rollups": [
        "project_id",
        "epic_id",
        "epic_title",
        "epic_status",
        "child_count",
        "total_story_points",
        "completed_story_points",
        "completion_ratio",
        "overdue_child_count",
        "blocked_child_count",
        "guardrail_status",
        "guardrail_reason",
    ],
    "dim_projects": ["project_id", "project_key", "project_name", "is_archived", "created_on"],
    "dim_users": ["user_id", "user_name", "user_role", "is_active", "created_on"],
}

# Issue 203 belongs to Globex and names an epic of Acme as its parent.
SAMPLE = """
insert into public.organizations (id, slug, name, plan, created_at) values
    (1, 'acme', 'Acme', 'team', '2024-01-01 00:00+00'),
    (2, 'glo-bex', 'Globex', 'starter', '2024-01-01 00:00+00'),
    (3, 'bare', 'Bare', 'starter', '2024-01-01 00:00+00');
insert into public.projects (id, organization_id, key, name, archived, created_at) values
    (1, 1, 'WEB', 'Website', false, '2024-01-31 23:30+00'),
    (2, 1, 'OPS', 'Operations', true, '2024-02-01 00:00+00'),
    (3, 2, 'LAB', 'Laboratory', false, '2024-02-02 00:00+00');
insert into public.users (id, organization_id, name, email, role, active, created_at) values
    (1, 1, 'Ada', 'ada@acme.example', 'owner', true, '2024-01-01 23:30+00'),
    (2, 2, 'Gil', 'gil@globex.example', 'member', false, '2024-01-02 00:00+00');
insert into public.issues (
    id, organization_id, project_id, parent_id, issue_type, title, status, priority, story_points,
    created_at, started_at, completed_at, updated_at
) values
    (100, 1, 1, null, 'epic', 'Launch', 'done', 'high', null,
        '2024-02-01 00:00+00', null, '2024-03-02 12:00+00', '2024-03-02 12:00+00'),
    (101, 1, 1, 100, 'story', 'Page', 'done', 'high', 3,
        '2024-02-01 00:00+00', '2024-03-01 00:00+00', '2024-03-02 23:30+00', '2024-03-02 23:30+00'),
    (102, 1, 1, 100, 'task', 'Copy', 'done', 'low', 1,
        '2024-03-01 12:00+00', null, '2024-03-02 12:00+00', '2024-03-02 12:00+00'),
    (103, 1, 2, null, 'bug', 'Alarm', 'done', 'low', null,
        '2024-03-01 00:00+00', '2024-03-04 06:00+00', '2024-03-05 06:00+00', '2024-03-05 06:00+00'),
    (104, 1, 2, null, 'bug', 'Disk', 'done', 'low', null,
        '2024-03-01 00:00+00', '2024-03-06 00:00+00', '2024-03-06 06:00+00', '2024-03-06 06:00+00'),
    (200, 2, 3, null, 'epic', 'Research', 'todo', 'low', null,
        '2024-02-01 00:00+00', null, null, '2024-02-01 00:00+00'),
    (201, 2, 3, null, 'task', 'Probe', 'done', 'low', null,
        '2024-03-01 00:00+00', '2024-03-02 00:00+00', '2024-03-02 12:00+00', '2024-03-02 12:00+00'),
    (203, 2, 3, 100, 'task', 'Stray', 'blocked', 'low', 50,
        '2024-03-01 00:00+00', null, null, '2024-03-01 00:00+00');
insert into kiket_analytics.usage_events (organization_id, project_id, metric, quantity, unit, recorded_at) values
    (1, null, 'api_calls', 5, 'call', '2024-03-03 12:00+00'),
    (1, null, 'api_calls', 7, 'call', '2024-03-10 00:30+00'),
    (1, 1, 'storage', 1.5, 'gigabyte', '2024-03-10 12:00+00'),
    (2, 3, 'storage', 8, 'gigabyte', '2024-03-10 12:00+00');
"""

# An issue is re-opened and leaves its day empty; another's completion is corrected to an earlier day, by an import that
# does not touch updated_at. Usage of 8, 7 and 0 days before the newest day arrives late.
LATE_EDITS = """
update public.issues set status = 'in_progress', completed_at = null where id = 103;
update public.issues set created_at = '2024-02-18 12:00+00', completed_at = '2024-02-20 12:00+00' where id = 102;
insert into kiket_analytics.usage_events (organization_id, project_id, metric, quantity, unit, recorded_at) values
    (1, null, 'api_calls', 100, 'call', '2024-03-02 23:59+00'),
    (1, null, 'api_calls', 2, 'call', '2024-03-03 00:00+00'),
    (1, null, 'api_calls', 1, 'call', '2024-03-10 23:30+00');
"""

Rows = list[tuple[Any, ...]]
Marts = dict[str, list[str]]


class Database(Protocol):
    url: str


@dataclass(frozen=True)
class Dbt:
    """dbt as somebody at a shell has it: nothing in the environment but the DBT_* variables."""

    url: str
    folder: Path

    def __call__(self, *arguments: str, variables: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(warm_dbt.executable()), *arguments]
        if variables is not None:
            command += ["--vars", json.dumps(variables)]
        parts = conninfo_to_dict(self.url)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PGTZ": "Pacific/Kiritimati",
            "DBT_HOST": str(parts["host"]),
            "DBT_PORT": str(parts.get("port") or 5432),
            "DBT_DATABASE": str(parts["dbname"]),
            "DBT_USER": str(parts["user"]),
            "DBT_PASSWORD": str(parts.get("password") or ""),
            "DBT_PROFILES_DIR": str(PROJECT / "profiles"),
            "DBT_PROJECT_DIR": str(PROJECT),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
            "DBT_USE_COLORS": "false",
        }
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)

    def query(self, statement: str | sql.Composed) -> Rows:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode() if isinstance(statement, str) else statement).fetchall()

    def marts(self, schema: str) -> Marts:
        """All rows of the marts as somebody would write them down, in order: `1 | 2024-03-02 | 1.4896`."""
        return {
            mart: sorted(
                " | ".join("-" if value is None else str(value) for value in row)
                for row in self.query(sql.SQL("select * from {}").format(sql.Identifier(schema, mart)))
            )
            for mart in CONTRACT
        }

    def schemas(self) -> Rows:
        return self.query("select nspname from pg_namespace order by nspname")


@dataclass(frozen=True)
class Built:
    """The organisations after their first build."""

    results: dict[str, str]
    marts: dict[str, Marts]


@dataclass(frozen=True)
class Edited:
    """Acme's marts after late edits: refreshed once more, then built from nothing."""

    refreshed: Marts
    rebuilt: Marts
    globex: Marts
    # The identity of the table, and the transaction that wrote its unchanged row: before and after the refresh.
    before: Rows
    after: Rows


@pytest.fixture(scope="module")
def dbt(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    return Dbt(module_database.url, tmp_path_factory.mktemp("dbt"))


def succeed(finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Deprecat" not in finished.stdout, finished.stdout


@pytest.fixture(scope="module")
def built(dbt: Dbt) -> Built:
    with psycopg.connect(dbt.url) as connection:
        connection.execute(SAMPLE.encode())
    succeed(dbt("build", variables=ACME))
    results = json.loads((dbt.folder / "target" / "run_results.json").read_text())["results"]
    succeed(dbt("run", "--exclude", "tag:shared", variables=GLOBEX))
    succeed(dbt("run", "--exclude", "tag:shared", variables=BARE))
    schemas = ["analytics_org_acme", "analytics_org_glo_bex", "analytics_org_bare"]
    return Built(
        {result["unique_id"]: result["status"] for result in results},
        {schema: dbt.marts(schema) for schema in schemas},
    )


@pytest.fixture(scope="module")
def edited(dbt: Dbt, built: Built) -> Edited:
    witness = """
        select tableoid::bigint, xmin::text from analytics_org_acme.fct_cycle_time
        where completed_on = date '2024-03-06'
    """
    before = dbt.query(witness)
    with psycopg.connect(dbt.url) as connection:
        connection.execute(LATE_EDITS.encode())
    succeed(dbt("run", "--exclude", "tag:shared", variables=ACME))
    refreshed, after = dbt.marts("analytics_org_acme"), dbt.query(witness)
    succeed(dbt("run", "--exclude", "tag:shared", "--full-refresh", variables=ACME))
    return Edited(refreshed, dbt.marts("analytics_org_acme"), dbt.marts("analytics_org_glo_bex"), before, after)


def test_every_model_data_test_and_unit_test_of_a_build_succeeds(built: Built) -> None:
    assert set(built.results.values()) <= {"success", "pass"}
    unit_tested = {name.split(".")[2] for name in built.results if name.startswith("unit_test.")}
    assert unit_tested == {*CONTRACT, "dim_dates"}


@pytest.mark.usefixtures("built")
def test_marts_have_the_columns_of_the_contract_in_its_order(dbt: Dbt) -> None:
    columns = dbt.query("""
        select table_name, array_agg(column_name::text order by ordinal_position)
        from information_schema.columns
        where table_schema = 'analytics_org_acme' and table_name !~ '^stg_'
        group by table_name
    """)
    assert dict(columns) == CONTRACT


@pytest.mark.usefixtures("built")
def test_dates_are_shared_and_reach_from_2015_to_2049(dbt: Dbt) -> None:
    days = dbt.query("select min(date_day)::text, max(date_day)::text, count(*) from analytics_shared.dim_dates")
    assert days == [("2015-01-01", "2049-12-31", 12784)]


def test_marts_of_an_organisation_hold_its_own_rows_and_no_others(built: Built) -> None:
    acme, globex = built.marts["analytics_org_acme"], built.marts["analytics_org_glo_bex"]

    # 47.5 hours and 24 hours are 1.4896 days on average.
    assert acme["fct_cycle_time"] == [
        "1 | 2024-03-02 | 1.4896",
        "2 | 2024-03-05 | 1.0000",
        "2 | 2024-03-06 | 0.2500",
    ]
    assert globex["fct_cycle_time"] == ["3 | 2024-03-02 | 0.5000"]

    assert acme["fct_throughput"] == ["1 | 2024-03-02 | 2", "2 | 2024-03-05 | 1", "2 | 2024-03-06 | 1"]
    assert globex["fct_throughput"] == ["3 | 2024-03-02 | 1"]

    assert acme["fct_usage_events"] == [
        "- | 2024-03-03 | api_calls | 5",
        "- | 2024-03-10 | api_calls | 7",
        "1 | 2024-03-10 | storage | 1.5",
    ]
    assert globex["fct_usage_events"] == ["3 | 2024-03-10 | storage | 8"]

    assert acme["fct_epic_rollups"] == [
        "1 | 100 | Launch | done | 2 | 4 | 4 | 1.0000 | 0 | 0 | on_track | The epic is done"
    ]
    assert globex["fct_epic_rollups"] == [
        "3 | 200 | Research | todo | 0 | 0 | 0 | 0.0000 | 0 | 0 | unscoped | The epic has no child issues"
    ]

    assert acme["dim_projects"] == [
        "1 | WEB | Website | False | 2024-01-31",
        "2 | OPS | Operations | True | 2024-02-01",
    ]
    assert globex["dim_projects"] == ["3 | LAB | Laboratory | False | 2024-02-02"]

    assert acme["dim_users"] == ["1 | Ada | owner | True | 2024-01-01"]
    assert globex["dim_users"] == ["2 | Gil | member | False | 2024-01-02"]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("source", ["organizations", "projects", "users", "issues", "releases", "usage_events"])
def test_staging_views_show_an_organisation_only_its_own_rows(dbt: Dbt, source: str) -> None:
    definition = dbt.query(f"select pg_get_viewdef('analytics_org_glo_bex.stg_{source}'::regclass)")[0][0]
    owner = "id" if source == "organizations" else "organization_id"
    assert f"WHERE ({owner} = 2)" in definition


def test_marts_of_an_organisation_without_any_data_are_built_and_empty(built: Built) -> None:
    assert built.marts["analytics_org_bare"] == {mart: [] for mart in CONTRACT}


def test_a_refresh_after_late_edits_gives_what_a_full_refresh_gives(edited: Edited) -> None:
    assert edited.refreshed["fct_cycle_time"] == [
        "1 | 2024-02-20 | 2.0000",
        "1 | 2024-03-02 | 1.9792",
        "2 | 2024-03-06 | 0.2500",
    ]
    assert edited.refreshed["fct_throughput"] == [
        "1 | 2024-02-20 | 1",
        "1 | 2024-03-02 | 1",
        "2 | 2024-03-06 | 1",
    ]
    for mart in ("fct_cycle_time", "fct_throughput", "fct_epic_rollups"):
        assert edited.refreshed[mart] == edited.rebuilt[mart]


def test_a_refresh_leaves_the_days_alone_that_did_not_change(edited: Edited) -> None:
    assert edited.after == edited.before


def test_late_usage_is_counted_once_within_the_lookback_and_fully_by_a_full_refresh(edited: Edited) -> None:
    assert edited.refreshed["fct_usage_events"] == [
        "- | 2024-03-03 | api_calls | 7",
        "- | 2024-03-10 | api_calls | 8",
        "1 | 2024-03-10 | storage | 1.5",
    ]
    assert edited.rebuilt["fct_usage_events"] == [
        "- | 2024-03-02 | api_calls | 100",
        *edited.refreshed["fct_usage_events"],
    ]


def test_refreshing_one_organisation_does_not_touch_another(built: Built, edited: Edited) -> None:
    assert edited.globex == built.marts["analytics_org_glo_bex"]


@pytest.mark.parametrize("missing", ["organization_id", "organization_slug"])
def test_without_an_organisation_dbt_stops_and_says_which_variable_is_missing(dbt: Dbt, missing: str) -> None:
    schemas = dbt.schemas()
    stopped = dbt("run", variables={name: value for name, value in ACME.items() if name != missing})
    assert stopped.returncode == 2
    assert f"{missing} is missing" in stopped.stdout
    assert "--vars '{organization_id: 42" in stopped.stdout
    assert dbt.schemas() == schemas


def test_dbt_stops_at_what_cannot_name_an_organisation(dbt: Dbt) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        *(
            ({**ACME, "organization_slug": slug}, f"organization_slug is {json.dumps(slug)}, which cannot be a schema")
            for slug in ("Acme", "a.b", 'a"b', "-a", "a-", "a\n", "é", "", "a" * 50)
        ),
        ({**ACME, "organization_slug": 1000}, "organization_slug is 1000, which YAML does not read as text"),
        ({**ACME, "organization_id": 0}, "organization_id is 0, but must be a positive integer"),
        ({**ACME, "organization_id": "1 or true"}, 'organization_id is "1 or true", but must be a positive integer'),
        ({**ACME, "organization_schema": "analytics_org_bare"}, 'organization_schema is "analytics_org_bare", but'),
    ]
    schemas = dbt.schemas()
    for variables, expected in refused:
        stopped = dbt("run", variables=variables)
        assert stopped.returncode == 2, variables
        assert expected in stopped.stdout, variables
    assert dbt.schemas() == schemas


def test_the_longest_slug_makes_the_longest_name_that_postgres_keeps_whole(dbt: Dbt) -> None:
    slug = "a" * 49
    succeed(dbt("parse", variables={**ACME, "organization_slug": slug}))
    manifest = json.loads((dbt.folder / "target" / "manifest.json").read_text())
    schemas = {node["schema"] for node in manifest["nodes"].values()}
    assert schemas == {f"analytics_org_{slug}", "analytics_shared"}
    assert max(map(len, schemas)) == 63
