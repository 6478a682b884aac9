"""`kiket-worker engine explain`, and refreshes that are replayed, as an operator sees them."""

import gzip
import json
from pathlib import Path
from typing import Any


def test_a_project_is_explained_and_then_replayed(installation: Any, sample_database: Any) -> None:
    explained = installation.run("engine", "explain", "--json")
    assert explained.code == 0, explained.err
    assert explained.document["replayable"] is True
    assert explained.document["reasons"] == []
    published = {node["unique_id"].rpartition(".")[2]: node["publish"] for node in explained.document["nodes"]}
    assert published["stg_issues"] == "kept"
    assert published["dim_users"] == "rows replaced"
    assert published["fct_throughput"] == "as dbt does"

    table = installation.run("engine", "explain")
    assert table.code == 0, table.err
    assert "the project is replayed" in table.out

    # The shared models are built by dbt, before the first refresh; the organisation's are replayed.
    result = installation.run("refresh", "acme", "--wait", "--json")
    assert result.code == 0, result.err
    assert len(result.document["models"]) == 12
    index = index_of(result.document)
    assert index["engine"] == "replay"
    assert {file["name"] for file in index["files"]} == {
        *("manifest.json", "run_results.json", "dbt.log", "otel-logs.jsonl"),
    }
    (day,) = installation.run("usage", "acme", "--json").document
    assert (day["metric"], day["quantity"]) == ("analytics_dbt_run", 12)
    log = Path(result.document["artifacts"].removeprefix("file://")) / "dbt.log"
    words = [json.loads(line)["info"]["msg"] for line in gzip.decompress(log.read_bytes()).splitlines()]
    assert words[0].startswith("Running with dbt=1.11")
    assert words[-1] == "Done. PASS=13 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=13"

    changed = installation.run("settings", "set", "acme", "--engine", "executable", "--json")
    assert (changed.code, changed.document["engine"]) == (0, "executable")
    changed = installation.run("settings", "set", "acme", "--engine", "default", "--json")
    assert (changed.code, changed.document["engine"]) == (0, None)
    assert sample_database.rows("select from pg_roles where rolname like '%%probe%%'") == []


def test_an_engine_that_is_none_is_wrong_use(installation: Any) -> None:
    result = installation.run("settings", "set", "acme", "--engine", "warp")
    assert result.code == 2
    assert "warp" in result.err


def index_of(run: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(run["artifacts"].removeprefix("file://")) / "index.json").read_text())
    return document
