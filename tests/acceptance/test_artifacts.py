"""`artifacts` as a user types it: what runs have left is listed, brought back, checked, and removed when it is old."""

import gzip
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(installation: Any, quick_dbt: Path) -> dict[str, Any]:
    """A refresh of an organisation."""
    installation.variables["KIKET_DBT_EXECUTABLE"] = str(quick_dbt)
    return refreshed(installation)


@pytest.fixture
def two_runs(installation: Any, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Two refreshes of one organisation, the older first."""
    return [run, refreshed(installation)]


def refreshed(installation: Any) -> dict[str, Any]:
    run = installation.run("refresh", "acme", "--wait", "--json").document
    assert run["status"] == "succeeded"
    return dict(run)


def folder_of(run: dict[str, Any]) -> Path:
    return Path(run["artifacts"].removeprefix("file://"))


def test_what_runs_have_left_is_listed_brought_back_and_checked(
    installation: Any, two_runs: list[dict[str, Any]], tmp_path: Path
) -> None:
    older, newer = two_runs
    listed = installation.run("artifacts", "list", "--json").document
    assert [row["run_id"] for row in listed] == [newer["run_id"], older["run_id"]]
    assert listed[0] | {"archived_at": None} == {
        "run_id": newer["run_id"],
        "organization": "acme",
        "attempt": 1,
        "status": "succeeded",
        "archived_at": None,
        "pruned_at": None,
        "location": newer["artifacts"],
    }
    yesterday, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (-1, 1))
    for options, found in (
        (["--run", older["run_id"]], [older["run_id"]]),
        (["--organization", "blue-harbor"], []),
        (["--since", tomorrow], []),
        (["--until", yesterday], []),
        (["--organization", "acme", "--since", yesterday, "--until", tomorrow, "--limit", "1"], [newer["run_id"]]),
    ):
        rows = installation.run("artifacts", "list", "--json", *options).document
        assert [row["run_id"] for row in rows] == found
    assert newer["run_id"] in installation.run("artifacts", "list").out

    fetched = installation.run("artifacts", "fetch", newer["run_id"], "--to", "back")
    assert fetched.code == 0, fetched.err
    stored = {path.name: path.read_bytes() for path in folder_of(newer).iterdir()}
    back = {path.name: path.read_bytes() for path in (installation.folder / "back").iterdir()}
    unpacked = {name: raw if name == "index.json" else gzip.decompress(raw) for name, raw in stored.items()}
    assert back == unpacked
    assert {"run_results.json", "otel-logs.jsonl", "dbt.log", "index.json"} <= back.keys()
    installation.run("artifacts", "fetch", newer["run_id"], "--to", "back").refused(2, "is there already", "--force")
    assert installation.run("artifacts", "fetch", newer["run_id"], "dbt.log", "--to", "back", "--force").code == 0
    installation.run("artifacts", "fetch", newer["run_id"], "secrets").refused(2, "has no secrets", "dbt.log")
    installation.run("artifacts", "fetch", "01890000-0000-7000-8000-000000000000").refused(2, "no run has the id")

    clean = installation.run("artifacts", "verify")
    assert (clean.code, clean.out) == (0, "2 sets verified, 0 pruned, 0 faults\n")


def test_each_damaged_or_missing_file_is_named(installation: Any, two_runs: list[dict[str, Any]]) -> None:
    older, newer = two_runs
    log = folder_of(older) / "dbt.log"
    log.write_bytes(log.read_bytes()[:-1] + b"x")
    (folder_of(older) / "run_results.json").unlink()
    index = folder_of(newer) / "index.json"
    index.write_text(index.read_text().replace("acme", "acne"))
    result = installation.run("artifacts", "verify", "--json")
    assert result.code == 1
    assert (result.document["verified"], result.document["pruned"]) == (2, 0)
    faults = result.document["faults"]
    assert len(faults) == 3
    for what, words in (("dbt.log", "is damaged"), ("run_results.json", "is missing"), ("index.json", "the ledger's")):
        assert [fault for fault in faults if what in fault and words in fault], faults
    only = installation.run("artifacts", "verify", newer["run_id"])
    assert only.code == 1
    named, counted = only.out.splitlines()
    assert named == f"acme/{newer['run_id']}/1/index.json is damaged: its checksum is not the ledger's"
    assert counted == "1 set verified, 0 pruned, 1 fault"
    installation.run("artifacts", "fetch", older["run_id"], "dbt.log", "--to", "x").refused(1, "dbt.log is damaged")
    assert not (installation.folder / "x" / "dbt.log").exists()


def test_an_index_that_names_files_elsewhere_is_not_believed(installation: Any, run: dict[str, Any]) -> None:
    # Of an attempt that the ledger has no checksum for, the index is all there is.
    stored = folder_of(run).rename(folder_of(run).with_name("7"))
    index = stored / "index.json"
    document = json.loads(index.read_text())
    content = (stored / document["files"][0]["name"]).read_bytes()
    for name in ("../outside", "a/../../outside", str(installation.folder / "outside")):
        document["files"][0]["name"] = name
        index.write_text(json.dumps(document))
        # Where the name leads to in the store, there is what the index promises: only the name is wrong.
        planted = Path(f"{stored}/{name}")
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_bytes(content)
        result = installation.run("artifacts", "fetch", run["run_id"], "--attempt", "7", "--to", "deep/er")
        result.refused(1, f"acme/{run['run_id']}/7/index.json is damaged: it is not an index")
        assert not (installation.folder / "deep").exists()
        assert not (installation.folder / "outside").exists()


def test_old_sets_are_pruned_but_for_the_last_successful_one(installation: Any, two_runs: list[dict[str, Any]]) -> None:
    older, newer = two_runs
    ago = time.time() - 40 * 24 * 3600
    for run in two_runs:
        for path in folder_of(run).iterdir():
            os.utime(path, (ago, ago))
    rehearsed = installation.run("artifacts", "prune", "--keep-days", "30", "--dry-run")
    assert rehearsed.code == 0, rehearsed.err
    assert f"would remove set {older['artifacts']}" in rehearsed.out
    assert folder_of(older).exists()
    done = installation.run("artifacts", "prune", "--keep-days", "30", "--json")
    assert done.code == 0, done.err
    removed = done.document
    assert [(one["what"], one["location"]) for one in removed["removed"]] == [("set", older["artifacts"])]
    assert removed["bytes"] == removed["removed"][0]["bytes"] > 0
    assert not folder_of(older).exists()
    assert folder_of(newer).exists()
    rows = {row["run_id"]: row["pruned_at"] for row in installation.run("artifacts", "list", "--json").document}
    assert rows[older["run_id"]] is not None
    assert rows[newer["run_id"]] is None
    assert installation.run("artifacts", "verify").out == "1 set verified, 1 pruned, 0 faults\n"
    installation.run("artifacts", "fetch", older["run_id"]).refused(2, "were pruned at")


def test_a_store_or_a_ledger_out_of_reach_is_told_in_one_line(
    installation: Any, quick_dbt: Path, s3_bucket: str
) -> None:
    # The set is in the bucket, so that each command has something to read there.
    installation.variables |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    installation.variables |= {"KIKET_DBT_EXECUTABLE": str(quick_dbt), "ARTIFACTS_URL": f"s3://{s3_bucket}/away"}
    run = refreshed(installation)
    reading = (["verify"], ["fetch", run["run_id"]], ["prune", "--keep-days", "1"])
    no_store = {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
    }
    for arguments in reading:
        result = installation.run("artifacts", *arguments, **no_store)
        result.refused(3, f"s3://{s3_bucket}/away", "127.0.0.1:9")
        assert "hunter2" not in result.err
    for arguments in (["list"], *reading):
        result = installation.run("artifacts", *arguments, DATABASE_URL="postgresql://kiket:hunter2@127.0.0.1:9/kiket")
        result.refused(3, "127.0.0.1")
        assert "hunter2" not in result.err
