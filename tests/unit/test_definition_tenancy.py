"""Whether models over raw tables filter by organisation, judged on compiled SQL."""

import pytest

from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.tenancy import check_tenancy

RAW = {"analytics_raw", "kiket_analytics"}


def unfiltered(sql: str) -> list[str]:
    faults = check_tenancy(sql, RAW, 1_234_567_890)
    assert all(fault.rule is rules.TENANCY_FILTER for fault in faults)
    return [fault.word for fault in faults]


@pytest.mark.parametrize(
    "sql",
    [
        "select id from analytics_raw.issues where organization_id = 1234567890",
        'select id from "kiket"."analytics_raw"."issues" as issue where issue.organization_id = 1234567890 and id > 1',
        # As `tenant_filter('id')` compiles.
        "select id from analytics_raw.organizations where id = 1234567890",
        "select 1 as one from analytics_raw.issues as i join x as p on p.organization_id = i.organization_id",
        "select 1 as one from analytics_raw.issues join x using (organization_id)",
        "select 1 as one from (x join analytics_raw.issues using (organization_id))",
        "select 1 as one from analytics_raw.issues where (organization_id, id) in (select a, b from x)",
        "with raw as (select * from analytics_raw.issues where organization_id = 1) select * from raw",
        "with __dbt__cte__other as (select * from analytics_raw.issues) select * from __dbt__cte__other",
        "select organization_id from analytics_org_acme.dim_projects",
        "select * from issues",
        "select 'analytics_raw.issues' as text",
        "select * from (select",
    ],
)
def test_a_model_that_filters_or_reads_nothing_raw_is_not_warned_of(sql: str) -> None:
    assert unfiltered(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "select id from analytics_raw.issues",
        "select organization_id from analytics_raw.issues",
        "select id from ANALYTICS_RAW.issues",
        "select id from (analytics_raw.issues join x on true)",
        "select id from analytics_raw.issues -- organization_id = 1234567890",
        "select id from analytics_raw.issues /* where organization_id = 1 */ where id = 1",
        "select id from analytics_raw.issues where 'organization_id' = 'organization_id'",
        "select id from analytics_raw.issues where organization_id is not null",
        "select id from analytics_raw.issues where id in (select id from x where organization_id = 1234567890)",
        "select id from (select * from analytics_raw.issues) as i where organization_id = 1",
        "with raw as (select * from analytics_raw.issues) select * from raw where organization_id = 1",
        "select id from x where organization_id = 1 union all select id from analytics_raw.issues",
        "select count(*) from analytics_raw.issues group by organization_id",
        "select (select max(id) from analytics_raw.issues) as most from x where organization_id = 1",
    ],
)
def test_a_select_over_a_raw_table_without_a_condition_of_its_own_is_told(sql: str) -> None:
    assert unfiltered(sql) == ["issues"]


def test_each_raw_table_is_told_once() -> None:
    sql = "select 1 as one from analytics_raw.issues as a, kiket_analytics.usage_events as b, analytics_raw.issues as c"

    assert unfiltered(sql) == ["issues", "usage_events"]
