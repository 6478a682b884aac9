"""Published definitions built by dbt itself: models with seeds, their going and coming back, recorded and replayed."""

from pathlib import Path

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.contract import Reason
from kiket_worker.dbt.bundle import Bundle, core_bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.publishing import Publisher, Result
from kiket_worker.ledger import organizations
from kiket_worker.ledger.runs import Run, Status
from tests.support.installations import Installation
from tests.support.publications import model, publication
from tests.support.twins import Side
from tests.support.whole_refreshes import refresh_by_dbt

SCHEMA = "analytics_org_acme"
WEIGHTED = {
    "analytics/dbt/seeds/weights.csv": "kind,weight\nbug,3\nstory,1\n",
    # Nothing but models and seeds is built: this test would fail.
    "analytics/dbt/tests/never.sql": "select 1 as n",
    **model("weighted", "{{ config(materialized='table') }} select * from {{ ref('weights') }}"),
    **model("heavy", "select * from {{ ref('weighted') }} where weight > 1"),
}
# Of the core project, what configures the others, and a model: dbt is recorded in many states, in each of which every
# model is built.
PART_OF_CORE = ("dbt_project.yml", "profiles", "macros", "models/staging/sources.yml", "models/staging/stg_issues.sql")


def relations(installation: Installation) -> dict[str, str]:
    query = "select relname, relkind from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v')"
    return {row["relname"]: row["relkind"] for row in installation.rows(query, SCHEMA)}


def test_seeds_and_models_come_go_and_come_back(installation: Installation, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    acme = organizations.find(installation.ledger, "acme")
    publisher = Publisher(installation.ledger, DirectoryStore(artifacts), core_bundle())

    def published(files: dict[str, str]) -> None:
        (done,) = publisher.publish(publication(files), [acme])
        assert done.result is Result.PUBLISHED

    def refreshed() -> Run:
        run = refresh_by_dbt(installation.ledger_url, installation.ledger, "acme", artifacts)
        assert run.status is Status.SUCCEEDED, run.error_message
        assert run.reason == Reason.SYNC
        return run

    published(WEIGHTED)
    refreshed()
    first = relations(installation)
    assert {"weights": "r", "weighted": "r", "heavy": "v"}.items() <= first.items()
    assert installation.rows(f"select * from {SCHEMA}.heavy") == [{"kind": "bug", "weight": 3}]

    published(model("other"))
    refreshed()
    assert relations(installation) == {
        name: kind for name, kind in first.items() if name not in {"weights", "weighted", "heavy"}
    } | {"other": "v"}

    assert publisher.roll_back(acme, 1).result is Result.ROLLED_BACK
    refreshed()
    assert relations(installation) == first
    assert installation.rows(f"select * from {SCHEMA}.heavy") == [{"kind": "bug", "weight": 3}]


def test_a_bundle_with_seeds_is_recorded_as_it_is_run(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "sides").mkdir()
    core = Bundle(core_bundle().project_dir, PART_OF_CORE)
    bundle = compose(core, {"main": Overlay(WEIGHTED)}, tmp_path / "bundle")
    side = Side(installation, bundle, tmp_path / "sides")
    candidate = installation.add()
    installation.provision(candidate)
    assert side.compile(candidate).reasons == ()
    outcome = side.run(candidate)
    assert (outcome.engine, outcome.deoptimised, outcome.failure) == ("replay", None, None)
    assert {"stg_issues", "weights", "weighted", "heavy"} <= side.relations(candidate).keys()
