"""`refresh`, `runs`, `settings` and `usage` as a user types them, with real dbt where it matters."""

import json
from pathlib import Path
from typing import Any

from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.store import open_store

MODELS = {
    *("stg_organizations", "stg_projects", "stg_users", "stg_issues", "stg_releases", "stg_usage_events"),
    *("dim_projects", "dim_users", "fct_cycle_time", "fct_throughput", "fct_usage_events", "fct_epic_rollups"),
}


def test_a_refresh_with_dbt_leaves_schema_artifacts_and_usage(installation: Any, sample_database: Any) -> None:
    result = installation.run("refresh", "north_star", "--docs", "--wait", "--json", KIKET_DBT_ENGINE="executable")
    assert result.code == 0, result.err
    run = result.document
    assert set(run) >= {
        *("run_id", "organization", "status", "attempt", "queued_at", "started_at", "finished_at"),
        *("models", "artifacts", "error"),
    }
    assert (run["organization"], run["status"], run["attempt"], run["error"]) == ("north_star", "succeeded", 1, None)
    assert {model["model_id"].rpartition(".")[2] for model in run["models"]} == MODELS
    assert all(model["status"] == "success" and model["duration_seconds"] > 0 for model in run["models"])

    assert installation.run("runs", "show", run["run_id"], "--json").document == run
    (day,) = installation.run("usage", "north_star", "--json").document
    assert (day["metric"], day["quantity"]) == ("analytics_dbt_run", len(MODELS))

    folder = Path(run["artifacts"].removeprefix("file://"))
    index = json.loads((folder / "index.json").read_text())
    assert {file["name"] for file in index["files"]} == {
        *("manifest.json", "run_results.json", "catalog.json", "dbt.log", "otel-logs.jsonl", "docs/index.html"),
    }
    assert list(faults(open_store(installation.variables["ARTIFACTS_URL"]), f"north_star/{run['run_id']}/1")) == []

    (raw,) = sample_database.rows(
        "select count(*) from public.issues where organization_id = 3 and status = 'done' and issue_type <> 'epic'"
    )
    (mart,) = sample_database.rows("select sum(issues_completed) as count from analytics_org_north_star.fct_throughput")
    assert mart == raw
    assert raw["count"] > 0


def test_progress_is_plain_lines_when_piped(installation: Any, quick_dbt: Path) -> None:
    result = installation.run("refresh", "acme", "--wait", KIKET_DBT_EXECUTABLE=str(quick_dbt))
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines.index("run succeeded") > lines.index("run queued" if "run queued" in lines else "run running")
    assert "fct_throughput success" in lines
    assert "\x1b" not in result.out


def test_a_request_without_wait_is_queued_once_and_an_idempotency_key_names_it_for_ever(
    installation: Any, quick_dbt: Path
) -> None:
    first = installation.run("refresh", "acme", "--idempotency-key", "k1", "--json").document
    again = installation.run("refresh", "acme", "--idempotency-key", "k1", "--json").document
    joined = installation.run("refresh", "acme", "--json").document
    assert first["status"] == "queued"
    assert first["run_id"] == again["run_id"] == joined["run_id"]
    done = installation.run("refresh", "acme", "--wait", "--json", KIKET_DBT_EXECUTABLE=str(quick_dbt)).document
    assert (done["run_id"], done["status"]) == (first["run_id"], "succeeded")
    late = installation.run("refresh", "acme", "--idempotency-key", "k1", "--json").document
    assert (late["run_id"], late["status"]) == (first["run_id"], "succeeded")


def test_a_waiting_run_can_be_cancelled_and_an_ended_one_repeated(installation: Any) -> None:
    run_id = installation.run("refresh", "acme", "--full-refresh", "--json").document["run_id"]
    installation.run("runs", "retry", run_id).refused(2, "queued")
    assert installation.run("runs", "cancel", run_id, "--json").document["status"] == "cancelled"
    installation.run("runs", "cancel", run_id).refused(2, "cancelled")
    retried = installation.run("runs", "retry", run_id, "--json").document
    assert (retried["status"], retried["reason"]) == ("queued", "retry")
    assert retried["run_id"] != run_id
    listed = installation.run("runs", "list", "--json").document
    assert [run["run_id"] for run in listed] == [retried["run_id"], run_id]
    assert installation.run("runs", "list", "--status", "cancelled", "--json").document == [listed[1]]


def test_settings_change_what_is_due(installation: Any) -> None:
    changed = installation.run("settings", "set", "acme", "--interval-hours", 3, "--json").document
    assert (changed["interval_hours"], changed["refresh_interval_hours"], changed["enabled"]) == (3, 3, True)
    back = installation.run("settings", "set", "acme", "--plan-default", "--paused", "--json").document
    assert (back["interval_hours"], back["refresh_interval_hours"], back["enabled"]) == (6, None, False)
    listed = installation.run("settings", "list", "--json").document
    assert [row["slug"] for row in listed][-1] == "acme"
    table = installation.run("settings", "list").out.splitlines()
    assert len(table) == 1 + len(listed), "a row a line, also when piped"
