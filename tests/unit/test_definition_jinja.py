"""What Jinja of overlays may say."""

import pytest
from dbt.context import base, configured, providers, target

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.definitions.policy import jinja
from kiket_worker.definitions.policy.core import Known, macros_of_dbt
from kiket_worker.definitions.policy.jinja import examine


@pytest.fixture(scope="module")
def known() -> Known:
    return Known.of(core_bundle().project_dir, {})


@pytest.mark.parametrize(
    "text",
    [
        "{{ adapter.execute('drop table x') }}",
        "{{ run_query('select 1') }}",
        "{{ dbt.run_query('select 1') }}",
        "{{ dbt['run_query']('select 1') }}",
        "{{ (dbt | attr('run_query'))('select 1') }}",
        "{% set it = dbt %}{{ it.run_query('select 1') }}",
        "{% call statement('x') %}select 1{% endcall %}",
        "{{ env_var('HOME') }}",
        "{{ builtins.ref('x') }}",
        "{{ context['adapter'] }}",
        "{{ self }}",
        "{{ modules.datetime.datetime.now() }}",
        "{{ graph.nodes }}",
        "{{ load_relation(this) }}",
        "{{ ref.__globals__ }}",
        "{{ ''['__class__'] }}",
        "{% include 'x' %}",
        "{% import 'x' as x %}",
        # Not set on the way that is taken, so that Jinja looks for dbt's.
        "{% if false %}{% set adapter = 1 %}{% endif %}{{ adapter.execute('x') }}",
        "{% for run_query in [] %}{% endfor %}{{ run_query('x') }}",
        "{{ config(**{'post_hook': 'x'}) }}",
        "{% set given = {'post_hook': 'x'} %}{{ config(given) }}",
        "{{ kiket_analytics.check_schemas() }}",
        "{{ ref.db_wrapper.execute('drop table x') }}",
        "{% do is_incremental.context['adapter'].execute('drop table x') %}",
        "{% do tenant_filter.context.run_query('x') %}",
        "{{ dbt.current_timestamp.context.run_query('x') }}",
        "{{ (ref | attr('manifest')) }}",
        "{{ ref.manifest.writable_manifest().write('x') }}",
        "{% set c = config %}{{ c(pre_hook='drop table x') }}",
        "{{ [config][0](pre_hook='x') }}",
        "{% do config.context_config.add_config_call({}) %}",
        "{{ model.created_at }}",
        "{% set m = model %}{{ m.created_at }}",
        "{% macro m(model) %}{{ model }}{% endmacro %}{{ model }}",
        "{{ should_full_refresh() }}",
        "{{ check_schemas() }}",
        "{{ postgres__get_relations() }}",
        "{% if false %}{% set check_schemas = 1 %}{% endif %}{{ check_schemas() }}",
        "{% if false %}{% set kiket_analytics = 1 %}{% endif %}{{ kiket_analytics.check_schemas() }}",
        # Neither of these is bound where it is read.
        "{% for adapter in [1] %}{% endfor %}{{ adapter }}",
        "{% for adapter in adapter.x() %}{% endfor %}",
        "{% for x in [] %}{% else %}{% for adapter in [] %}{% else %}{{ adapter }}{% endfor %}{% endfor %}",
        "{% macro m(adapter=adapter) %}{% endmacro %}",
        "{% with adapter = adapter %}{% endwith %}",
        "{% for metric in [1] %}{% set metric = 1 %}{% endfor %}",
    ],
)
def test_what_reaches_beyond_printing_is_refused(text: str, known: Known) -> None:
    found = examine("a.sql", "select 1\n" + text, known, ())

    assert [(problem.rule, problem.line) for problem in found.problems][:1] == [("jinja-forbidden", 2)]


@pytest.mark.parametrize(
    "text",
    [
        "{{ tenant_filter('organization_id') }}",
        "{{ dbt.date_trunc('day', 'now()') }} {{ dbt['length']('x') }}",
        "{% set days = [1, 7] %}{% for day in days %}{{ day }}{{ ',' if not loop.last }}{% endfor %}",
        "{% if is_incremental() %}where x > (select max(x) from {{ this }}){% endif %}",
        "{{ var('organization_id') }} {{ target.schema }} {{ run_started_at }}",
        "{% macro in_hours(column, unit='h') %}{{ column }}{{ unit }}{{ varargs }}{% endmacro %}{{ in_hours('x') }}",
        "{% test is_even(model, column_name) %}select * from {{ model }} where {{ column_name }} % 2 = 1{% endtest %}",
        "{% docs board %}# A {{ page }} of docs{% enddocs %}",
        "{% for metric in ['a', 'b'] %}{{ metric }}{% endfor %}",
        "{% for sql, write in [('a', 1)] if write %}{{ sql }}{% endfor %}",
        "{% macro m(metric, env, graph=1) %}{{ metric }}{{ env.x }}{{ graph['y'] }}{% endmacro %}",
        "{% with function = 1 %}{{ function }}{% endwith %}",
        "{{ model.name }} {{ model.meta.owner }} {{ organization_schema() }}",
        "{{ config(materialized='incremental', unique_key='x', incremental_strategy='delete+insert') }}",
    ],
)
def test_what_prints_is_accepted(text: str, known: Known) -> None:
    found = examine("a.sql", text, known, {"in_hours"})

    assert [problem.message for problem in found.problems if "page" not in problem.message] == []


@pytest.mark.parametrize(
    "name", ["ref", "generate_schema_name", "postgres__create_table_as", "default__concat", "get_incremental_x_sql"]
)
def test_a_macro_that_dbt_would_find_by_itself_is_refused(name: str, known: Known) -> None:
    found = examine("m.sql", f"{{% macro {name}(x) %}}{{% endmacro %}}", known, {name})

    assert [problem.rule for problem in found.problems] == ["macro-override"]


def test_references_are_told_with_their_lines(known: Known) -> None:
    found = examine("a.sql", "select *\nfrom {{ ref('a') }}\njoin {{ source('raw', 'issues') }}", known, ())

    assert (found.refs, found.sources) == ([("a", 2)], [("raw", "issues", 3)])


def test_no_name_of_dbts_context_is_free_for_variables() -> None:
    contexts = (
        *(providers.ModelContext, providers.MacroContext, providers.TestContext, base.BaseContext),
        *(target.TargetContext, configured.ConfiguredContext),
    )
    names = {name for context in contexts for name in {*context._context_members_, *context._context_attrs_}}

    # `column` is for the names of relations' columns, `_sql_results` begins as nothing of an overlay's may.
    assert names - jinja._ALLOWED - jinja._CONTEXT == {"column", "_sql_results"}
    assert {"statement", "run_query", "create_table_as", "test_unique"} <= macros_of_dbt()
