"""Previews of dashboards, drawn on a real Postgres as the organisation's read-only twin."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.dashboards.presentation import ShownDashboard, dashboards_of
from kiket_worker.definitions.dashboards.preview import Bounds, Preview, Previews
from kiket_worker.errors import PreviewsBusy, UnknownTenant
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import reader_name, schema_name
from kiket_worker.tenants.twins import Twins, reading_only
from tests.support.dbt_scripts import until
from tests.support.installations import Installation
from tests.support.refreshes import in_background
from tests.support.tenants import KEYS, settings_of

BOARD = ".kiket/analytics/dashboards/a.yaml"
BOUNDS = Bounds()
QUERIES = ".kiket/analytics/queries"


def board(*widgets: str, queries: dict[str, str] | None = None, alerts: str = "") -> ShownDashboard:
    """A dashboard of these widgets, each in YAML's flow style without its braces and its id."""
    lines = [f"    - {{id: w{number}, {widget}}}" for number, widget in enumerate(widgets, 1)]
    text = (
        "\n".join(['model_version: "1.0"', "dashboard:", "  id: b", "  name: B", "  widgets:", *lines]) + "\n" + alerts
    )
    files = {BOARD: text} | {f"{QUERIES}/{name}.yaml": content for name, content in (queries or {}).items()}
    (found,) = dashboards_of("main", Overlay(files))
    return found


@pytest.fixture
def acme(installation: Installation) -> Candidate:
    candidate = installation.add()
    installation.provision(candidate)
    return candidate


@pytest.fixture
def drawn(installation: Installation, acme: Candidate) -> Callable[..., list[Preview]]:
    """Previews of a dashboard of widgets, after statements of the organisation's own role."""

    def draw(*widgets: str, made: str = "", bounds: Bounds = BOUNDS, **given: Any) -> list[Preview]:
        with installation.tenant(acme.slug) as owner:
            owner.execute(f"set search_path to {schema_name(acme.slug)}")
            installation.execute_as(owner, made or "select 1")
        return previews(installation, bounds).of(acme, board(*widgets), given)

    return draw


def previews(installation: Installation, bounds: Bounds = BOUNDS) -> Previews:
    return Previews(twins(installation), "analytics_shared", bounds)


def twins(installation: Installation) -> Twins:
    address = DbtConnection.from_settings(settings_of(installation.ledger_url)).address
    return Twins(installation.ledger, KEYS, address)


MARTS = """
create table fct as select n as project_id, date '2026-01-01' + n as day, n * 1.5 as points, 'x' || n as name,
    n % 2 = 0 as even, null::int as nothing from generate_series(1, 5) as n
"""


def test_rows_come_with_their_names_and_numbers_and_everything_else_as_text(drawn: Callable[..., Any]) -> None:
    (preview,) = drawn("type: table, query_config: {model: fct, order_by: [project_id desc], limit: 2}", made=MARTS)
    assert preview.fault == ""
    assert preview.rows.columns == ("project_id", "day", "points", "name", "even", "nothing")
    assert preview.rows.numbers == {"project_id", "points", "nothing"}
    assert preview.rows.rows == ((5, "2026-01-06", 7.5, "x5", False, None), (4, "2026-01-05", 6, "x4", True, None))
    assert not preview.rows.is_cut


def test_what_a_reader_gives_narrows_the_rows_and_defaults_stand_where_nothing_is_given(
    drawn: Callable[..., Any],
) -> None:
    widget = (
        "type: table, query_config: {model: fct, select: [project_id], order_by: [project_id], parameters: "
        "[{name: project, type: integer}, {name: day, type: date, default: '2026-01-03'}, {name: most, type: integer, "
        "default: 4}], filters: {project_id: ':project', day: {operator: not_equals, value: ':day'}}, limit: ':most'}"
    )
    shown = [[row[0] for row in one.rows.rows] for one in drawn(widget, made=MARTS)]
    assert shown == [[1, 3, 4, 5]]
    assert drawn(widget, project="3")[0].rows.rows == ((3,),)
    assert drawn(widget, project="")[0].rows.rows == ((1,), (3,), (4,), (5,))
    assert "takes a whole number" in drawn(widget, project="3; drop table fct")[0].fault
    assert drawn(widget, day="2026-01-02", most="2")[0].rows.rows == ((2,), (3,))


def test_what_cannot_be_shown_is_told_by_widget_in_its_authors_terms(drawn: Callable[..., Any]) -> None:
    shown = drawn(
        "type: table, query_config: {model: fct, parameters: {p: {type: integer, required: true}}, "
        "filters: {project_id: ':p'}}",
        "type: table, query_config: {model: gone}",
        "type: table, query_config: {model: fct, select: [color]}",
        "type: table, query_config: {model: fct, aggregates: {t: sum(name)}}",
        "type: table, query_config: {model: broken}",
        "type: text, text: hello",
        "type: table, query: fct",
        made=MARTS + "; create view broken as select 1 / (project_id - 1) as n from fct",
    )
    assert [one.fault for one in shown] == [
        "The parameter 'p' is required: give it a value.",
        "The model gone is not built: no relation of this name is there.",
        "The query names 'color', which fct does not have.",
        "Postgres refuses the query: function pg_catalog.sum(text) does not exist.",
        "Postgres refuses the query: division by zero.",
        "",
        "",
    ]
    assert len(shown[-1].rows.rows) == 5


def test_no_more_rows_and_bytes_are_taken_than_are_shown(drawn: Callable[..., Any]) -> None:
    made = """create view many as select n, repeat('x', 100000) as wide from generate_series(1, 1000000) as n"""
    few = Bounds(rows=10)
    narrow = "type: table, query_config: {model: many, select: [n]}"
    (one,) = drawn(narrow, made=made, bounds=few)
    assert [row[0] for row in one.rows.rows] == list(range(1, 11))
    assert one.rows.is_cut
    (exact,) = drawn("type: table, query_config: {model: many, select: [n], limit: 10}", bounds=few)
    assert not exact.rows.is_cut
    (wide,) = drawn("type: table, query_config: {model: many}", bounds=Bounds(bytes=5000))
    assert len(wide.rows.rows) == 9
    assert {len(row[1]) for row in wide.rows.rows} == {500}
    assert wide.rows.is_cut
    shown = drawn(*[narrow] * 4, bounds=Bounds(rows=10, widgets=3))
    assert [one.fault for one in shown] == ["", "", "", "A preview shows the first 3 widgets."]


def test_a_query_that_takes_too_long_is_ended_and_the_next_is_asked(drawn: Callable[..., Any]) -> None:
    made = MARTS + "; create view slow as select 1 as n from pg_sleep(60)"
    slow, quick = drawn(
        "type: table, query_config: {model: slow}",
        "type: table, query: fct",
        made=made,
        bounds=Bounds(query_seconds=0.3),
    )
    assert slow.fault == "The query took more than 0.3 seconds."
    assert len(quick.rows.rows) == 5
    *_, last = drawn(
        *["type: table, query_config: {model: slow}"] * 3, bounds=Bounds(query_seconds=0.3, dashboard_seconds=0.5)
    )
    assert "took more than 0.5 seconds" in last.fault or "session ended" in last.fault


def test_who_lifts_or_outlives_the_time_out_is_cut_off(
    drawn: Callable[..., Any], installation: Installation, acme: Candidate
) -> None:
    made = (
        MARTS
        + """;
    create function stay() returns int language plpgsql as $$ begin
        loop
            begin
                perform set_config('statement_timeout', '0', false);
                perform pg_sleep(60);
            exception when query_canceled then null;
            end;
        end loop;
    end $$;
    create view hostile as select stay() as n
    """
    )
    began = time.monotonic()
    hostile, later = drawn(
        "type: table, query_config: {model: hostile}",
        "type: table, query: fct",
        made=made,
        bounds=Bounds(query_seconds=0.2, dashboard_seconds=1),
    )
    assert time.monotonic() - began < 10
    assert hostile.fault == "The session ended: the query took too long, or was ended."
    assert later.fault == "The dashboard's widgets together took more than 1 seconds."
    going_on = "select from pg_stat_activity where usename = %s"
    until(lambda: not installation.rows(going_on, reader_name(acme.slug)), "Postgres to end the session")


def test_nothing_can_be_written_and_nothing_is_left(
    drawn: Callable[..., Any], installation: Installation, acme: Candidate
) -> None:
    schema = schema_name(acme.slug)
    made = f"""
    {MARTS};
    create function writes() returns int language plpgsql security definer as
        $$ begin insert into {schema}.fct (project_id) values (9); return 1; end $$;
    create function lets_write() returns int language plpgsql as
        $$ begin perform set_config('transaction_read_only', 'off', true); return 1; end $$;
    create function stays() returns int language plpgsql as $$ begin
        perform set_config('search_path', 'nowhere', false), pg_advisory_lock(77); return 1; end $$;
    grant execute on all functions in schema {schema} to public;
    create view a as select writes() as n;
    create view b as select lets_write() as n;
    create view c as select stays() as n;
    create view d as select current_setting('search_path') as n, current_user::text as who
    """
    a, b, c, d = drawn(*[f"type: table, query_config: {{model: {name}}}" for name in "abcd"], made=made)
    assert "cannot execute INSERT in a read-only transaction" in a.fault
    assert "read-write mode must be set before any query" in b.fault
    assert c.fault == ""
    assert d.rows.rows[0][0] != "nowhere"
    assert d.rows.rows[0][1].startswith("analytics_ro_")
    assert installation.rows(f"select count(*) as n from {schema}.fct")[0]["n"] == 5
    assert installation.rows("select from pg_locks where locktype = 'advisory' and objid = 77") == []
    delete = f"delete from {schema}.fct".encode()
    with twins(installation).session(acme, most_seconds=5) as session:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), reading_only(session, most_seconds=5):
            session.execute(delete)
        # Nor may the role, were it not for the transaction.
        session.execute("set default_transaction_read_only to off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(delete)


def test_the_twin_sees_its_own_organisations_rows_and_no_others(installation: Installation) -> None:
    acme, other = Candidate(1, "acme"), installation.add()
    installation.provision(acme)
    installation.provision(other)
    with installation.tenant(other.slug) as owner:
        owner.execute(f"create table {schema_name(other.slug)}.secret as select 'theirs' as word".encode())
    with installation.tenant("acme") as owner:
        owner.execute("create view analytics_org_acme.mine as select count(*) as n from analytics_raw.issues")
        owner.execute(
            "create function analytics_org_acme.peek() returns text language plpgsql as"
            f" $$ begin return (select word from {schema_name(other.slug)}.secret); end $$"
        )
        owner.execute("create view analytics_org_acme.peeks as select analytics_org_acme.peek() as n")
    shown = board(*[f"type: table, query_config: {{model: {name}}}" for name in ("mine", "secret", "peeks")])
    mine, theirs, peeks = previews(installation).of(acme, shown, {})
    own, everybodys = (
        installation.rows(f"select count(*) as n from public.issues where {condition}")[0]["n"]
        for condition in ("organization_id = 1", "true")
    )
    assert 0 < own < everybodys
    assert mine.rows is not None
    assert mine.rows.rows == ((own,),)
    assert "not built" in theirs.fault
    assert "permission denied for schema" in peeks.fault


def test_shared_models_are_shown_and_the_organisations_own_come_first(
    drawn: Callable[..., Any], installation: Installation
) -> None:
    installation.execute(
        "create table analytics_shared.dim_dates as select date '2026-01-31' as date_day;"
        " create table analytics_shared.fct as select 0 as project_id;"
        " grant select on all tables in schema analytics_shared to analytics_readers"
    )
    dates, own = drawn("type: table, query: dim_dates", "type: table, query: fct", made=MARTS)
    assert dates.rows.rows == (("2026-01-31",),)
    assert len(own.rows.rows) == 5


HOSTILE = "</td><script>alert(1)</script>%s'\"{{x}}"


def test_values_and_names_of_any_kind_come_as_they_are(drawn: Callable[..., Any]) -> None:
    made = f"""
    create table odd as select $${HOSTILE}$$::text as "%s a""b", 'infinity'::date as d, 'NaN'::numeric as nan,
        'infinity'::float8 as inf, 10::numeric ^ 400 as huge, '\\xff'::bytea as raw, array[1, null] as list,
        '{{"a": 1}}'::json as doc, 5::money as money, interval '3 days' as span, 2::bigint ^ 60 as far
    """
    (preview,) = drawn("type: table, query: odd", made=made)
    assert preview.fault == ""
    row = dict(zip(preview.rows.columns, preview.rows.rows[0], strict=True))
    assert row['%s a"b'] == HOSTILE
    assert (row["d"], row["raw"], row["list"], row["doc"]) == ("infinity", "\\xff", "{1,NULL}", '{"a": 1}')
    assert (row["inf"], row["huge"], row["span"]) == (float("inf"), float("inf"), "3 days")
    assert row["nan"] != row["nan"]


def test_so_many_are_drawn_at_a_time_and_an_organisation_has_its_share(
    installation: Installation, acme: Candidate
) -> None:
    other = installation.add()
    installation.provision(other)
    with installation.tenant(acme.slug) as owner:
        owner.execute(
            f"create view {schema_name(acme.slug)}.waits as select pg_advisory_xact_lock(78)::text as n".encode()
        )
    shown = board("type: table, query: waits")
    drawing = previews(installation, Bounds(seats=2, seats_of_one=1))
    with installation.database.connect() as holder:
        holder.execute("select pg_advisory_lock(78)")
        going = in_background(lambda: drawing.of(acme, shown, {}))
        waiting = "select from pg_locks where locktype = 'advisory' and objid = 78 and not granted"
        until(lambda: installation.rows(waiting), "the preview to wait")
        with pytest.raises(PreviewsBusy):
            drawing.of(acme, shown, {})
        assert drawing.of(other, board("type: text, text: x"), {})[0].fault == ""
    assert going.wait()[0].fault == ""
    assert drawing.of(acme, shown, {})[0].fault == ""


def test_who_was_never_refreshed_has_no_role_to_draw_as(installation: Installation) -> None:
    with pytest.raises(UnknownTenant, match="first refresh"):
        previews(installation).of(installation.add(), board("type: text"), {})


def test_a_session_that_ends_in_time_is_not_hung_up_on_another_one(installation: Installation, acme: Candidate) -> None:
    before = threading.active_count()
    for _ in range(5):
        with twins(installation).session(acme, most_seconds=60) as session:
            assert session.execute("select 1 as n").fetchone() == {"n": 1}
    assert threading.active_count() == before
