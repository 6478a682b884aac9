"""An organisation with a dashboard of every widget type, what each shows, and a model that fails."""

from pathlib import Path

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.definitions.dashboards.preview import Bounds, Previews
from kiket_worker.definitions.publishing import Published, Publisher
from kiket_worker.ledger import organizations
from kiket_worker.tenants.twins import Twins
from tests.support.installations import Installation
from tests.support.publications import publication
from tests.support.tenants import KEYS, settings_of

HOSTILE = "</td><script>document.title = 'taken'</script><b>%s"
BOARD = ".kiket/analytics/dashboards/board.yaml"
MODEL = "analytics/dbt/models/board.sql"
DESCRIPTION = "analytics/dbt/models/board.yml"
_ROWS = [
    ("2026-01-05", "red", "opened", 40),
    ("2026-01-05", "blue", "opened", 20),
    ("2026-01-12", "red", "reviewed", 30),
    ("2026-01-12", "blue", "done", 10),
    ("2026-01-19", HOSTILE.replace("'", "''"), "done", 5),
]
_SQL = (
    "{{ config(materialized='table') }}\nselect day::date as day, team, stage, points from (values\n"
    + ",\n".join(f"    ('{day}', '{team}', '{stage}', {points})" for day, team, stage, points in _ROWS)
    + "\n) as rows (day, team, stage, points)\n"
)
FAILING = (
    "select\n    project_id,\n    no_such_column as points\nfrom {{ ref('fct_throughput') }}\nwhere project_id > 0\n"
)
# What an author may try against who reads the docs: dbt's page does run it, and it writes down how far it came.
ATTACK = """
let cookie; try { cookie = document.cookie } catch (fault) { cookie = fault.name }
let kept; try { kept = localStorage.length } catch (fault) { kept = fault.name }
const asked = fetch(`/api/v1/analytics/runs`).then(() => `answered`, fault => fault.name);
asked.then(answer => document.title = `taken: ${cookie} ${kept} ${answer}`);
"""
DOCS = f"""version: 2
models:
  - name: board
    description: >
      Points by team. <img src="x" onerror="{" ".join(ATTACK.split())}">
    columns:
      - name: day
        description: "{HOSTILE}"
"""
_BY_TEAM = "query_config: {model: board, group_by: [team], aggregates: {points: sum(points)}, order_by: [points desc]}"
WIDGETS = f"""
    - {{id: kpi, type: kpi, title: Points, query_config: {{model: board, aggregates: {{points: sum(points)}}}}}}
    - {{id: series, type: timeseries, title: Points a week, visualization: {{x: day, y: points, series: team}},
       query_config: {{model: board, select: [day, team, points], order_by: [day]}}}}
    - {{id: bar, type: bar, title: Points by team, visualization: {{x: team, y: points}}, {_BY_TEAM}}}
    - {{id: stacked, type: stacked_bar, title: Points by week and team,
       visualization: {{x: day, y: points, series: team}},
       query_config: {{model: board, select: [day, team, points], order_by: [day]}}}}
    - {{id: pie, type: pie, title: Shares, visualization: {{category: team, value: points}}, {_BY_TEAM}}}
    - {{id: table, type: table, title: "Rows {HOSTILE}", query: board,
       options: {{columns: [day, {{column: team, title: "Team <i>"}}, points]}}}}
    - {{id: leaders, type: leaderboard, title: Leaders, {_BY_TEAM}}}
    - {{id: heat, type: heatmap, title: Heat, visualization: {{x: day, y: team, value: points}}, query: board}}
    - {{id: funnel, type: funnel, title: Funnel, visualization: {{stage: stage, value: points}},
       query_config: {{model: board, group_by: [stage], aggregates: {{points: sum(points)}}, order_by: [points desc]}}}}
    - {{id: gauge, type: gauge, title: Done, options: {{max: 200}},
       query_config: {{model: board, aggregates: {{points: sum(points)}}}}}}
    - {{id: text, type: text, title: Note, text: "Days are <b>those</b> of UTC."}}
    - {{id: one_team, type: table, title: One team, query_config: {{model: board, select: [day, points],
       parameters: {{team: {{type: string, required: true}}}}, filters: {{team: ":team"}}}}}}
    - {{id: gone, type: kpi, title: Gone, query_config: {{model: not_built}}}}
"""
ALERTS = """
  alerts:
    - {query: board, condition: "points < 5 or points is null", notify_roles: [manager]}
"""
TEXT = (
    'model_version: "1.0"\ndashboard:\n  id: team-board\n  name: "Team <board>"\n  widgets:'
    + WIDGETS
    + ALERTS.removeprefix("\n")
)
FIRST = {MODEL: "select 1 as n\n", "analytics/dbt/models/gone.sql": "select 1 as n\n"}
SECOND = {MODEL: _SQL, DESCRIPTION: DOCS, BOARD: TEXT}
THIRD = SECOND | {"analytics/dbt/models/failing.sql": FAILING}


def publish(installation: Installation, store: DirectoryStore, files: dict[str, str], slug: str = "acme") -> Published:
    """As if it had been validated."""
    publisher = Publisher(installation.ledger, store, core_bundle())
    wanted = publication(files, author="ada", source_commit="3f2c1e9a77")
    (done,) = publisher.publish(wanted, [organizations.find(installation.ledger, slug)])
    return done


def previews_of(installation: Installation, bounds: Bounds | None = None) -> Previews:
    """Who draws dashboards in an installation of tests."""
    address = DbtConnection.from_settings(settings_of(installation.ledger_url)).address
    return Previews(Twins(installation.ledger, KEYS, address), "analytics_shared", bounds or Bounds())


def store_of(folder: Path) -> DirectoryStore:
    return DirectoryStore(folder / "artifacts")
