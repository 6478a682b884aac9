"""Projects that nobody has thought of: replay gives the same as dbt, or dbt itself runs. `make soak` tries many."""

import os
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, note, settings

from tests.support.twins import differences, normalised, project, read, twins

EXAMPLES = int(os.environ.get("KIKET_SOAK_EXAMPLES", "1"))

MATERIALIZATIONS = ("view", "table", "incremental", "ephemeral")
# What a model selects beside the columns that all have; several look like names, ids and schemas without being any.
EXTRAS = (
    "'{{ var(\"organization_slug\") }}' as extra",
    "{{ var('organization_id') }} as extra",
    "'org' as extra",
    "1 as extra",
    "'analytics_org_' || '{{ var(\"organization_slug\") }}' as extra",
    "'{{ this.name }}' as extra",
    "'{{ this }}' as extra",
    "'{{ target.name }}' as extra",
    "{{ 1 if var('raw_schema') == 'public' else 2 }} as extra",
    "'{{ run_started_at }}' is not null as extra",
    "{{ 'true' if execute else 'false' }} as extra",
    "{{ (var('organization_id') | string | length) }} as extra",
    "{{ 1 if var('organization_id') == 7 else 2 }} as extra",
)
STRATEGIES = ("append", "delete+insert", "merge")


@st.composite
def projects(draw: st.DrawFn) -> dict[str, str]:
    """Models by their names, each of which reads one or two that come before it, or the raw table."""
    models: dict[str, str] = {}
    for number in range(draw(st.integers(2, 5))):
        name = draw(st.sampled_from(["issues", "org", "status", "m"])) + str(number)
        kind = draw(st.sampled_from(MATERIALIZATIONS))
        options = [f"materialized='{kind}'"]
        if kind in {"table", "incremental"}:
            if draw(st.booleans()):
                options.append("indexes=[{'columns': ['id'], 'unique': true}]")
            if draw(st.booleans()):
                options.append("unlogged=true")
            if draw(st.integers(0, 3)) == 0:
                options.append("post_hook=\"comment on table {{ this }} is 'of {{ this.name }}'\"")
        where = ""
        if kind == "incremental":
            strategy = draw(st.sampled_from(STRATEGIES))
            options.append(f"incremental_strategy='{strategy}'")
            if strategy != "append" or draw(st.booleans()):
                options.append("unique_key='id'")
            options.append(f"on_schema_change='{draw(st.sampled_from(['ignore', 'fail', 'append_new_columns']))}'")
            where = "{% if is_incremental() %} where id > (select coalesce(max(id), 0) from {{ this }}) {% endif %}"
        above = draw(st.lists(st.sampled_from(list(models)), max_size=2, unique=True)) if models else []
        source = (
            " union ".join(f"select id, status from {{{{ ref('{one}') }}}}" for one in above)
            or "select id, status from {{ source('raw', 'issues') }} where {{ mine('organization_id') }}"
        )
        models[name] = (
            f"{{{{ config({', '.join(options)}) }}}}\n"
            f"select id, status, {draw(st.sampled_from(EXTRAS))} from ({source}) as up {where}"
        )
    # dbt wants something to build.
    models["last"] = f"select * from {{{{ ref('{list(models)[-1]}') }}}}"
    return models


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(models=projects(), slug=st.sampled_from(["org", "issues0", "a-b", "1", "status", "dbt-tmp"]))
def test_a_random_project_is_the_same_by_replay_and_by_dbt(
    sample_databases: tuple[Any, Any], models: dict[str, str], slug: str
) -> None:
    note("\n".join(f"-- {name}\n{text}" for name, text in models.items()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with twins(sample_databases, project(folder / "project", models), folder / "sides") as made:
            candidate = made.add(slug)
            made.replayed.compile(candidate)
            for state in ("fresh", "again", "full")[: 3 if EXAMPLES > 1 else 2]:
                give(made, candidate.organization_id, 3)
                replayed, by_dbt = made.run(candidate, full_refresh=state == "full")
                assert (replayed.failure is None) == (by_dbt.failure is None), (state, replayed.failure, by_dbt.failure)
                made.assert_equal(candidate)
                if replayed.engine == "replay":
                    both = zip(made.sides, (replayed, by_dbt), strict=True)
                    documents = [normalised(read(outcome, "run_results.json"), side, outcome) for side, outcome in both]
                    assert differences(*documents) == [], state
            made.execute("delete from public.issues where organization_id = %s", candidate.organization_id)
            made.execute("delete from public.projects where organization_id = %s", candidate.organization_id)
            made.execute(
                "delete from kiket_analytics.analytics_settings where organization_id = %s", candidate.organization_id
            )
            for side in made.sides:
                side.installation.execute(f"drop schema analytics_org_{slug.replace('-', '_')} cascade")
            made.execute("update public.organizations set slug = 'was-' || slug where slug = %s", slug)


def give(made: Any, number: int, count: int) -> None:
    made.execute(
        "insert into public.projects values (%s, %s, 'P', 'p', false, '2026-01-01') on conflict do nothing",
        10_000 + number,
        number,
    )
    made.execute(
        "insert into public.issues"
        " (id, organization_id, project_id, title, status, issue_type, priority, created_at, updated_at)"
        " select (select max(id) from public.issues) + n, %s, %s, 'it', case n % 2 when 0 then 'done' else 'todo' end,"
        " 'task', 'low', now(), now() from generate_series(1, %s) as n".replace("n % 2", "n %% 2"),
        number,
        10_000 + number,
        count,
    )
