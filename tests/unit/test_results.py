"""dbt's words about its models, and what else may stand where they are expected."""

import json
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.dbt.results import (
    ModelResult,
    check_schemas,
    error_of_event,
    model_of_event,
    read_event,
    read_results,
)
from kiket_worker.errors import DbtNoResults, SchemaForbidden

MODEL = "model.kiket_analytics.dim_users"


def results(folder: Path, *entries: Any) -> tuple[ModelResult, ...]:
    path = folder / "run_results.json"
    path.write_text(json.dumps({"metadata": {}, "results": entries}))
    return read_results(path)


def event(name: str, **data: Any) -> dict[str, Any]:
    node = {"resource_type": "model", "unique_id": MODEL, "node_status": "success"}
    return {"info": {"name": name, "level": "info", "msg": ""}, "data": {"node_info": node} | data}


def test_a_model_that_succeeded_has_its_duration_and_rows_and_no_message(tmp_path: Path) -> None:
    entry = {
        "unique_id": MODEL,
        "status": "success",
        "execution_time": 1.5,
        "adapter_response": {"rows_affected": 7},
        "message": "SELECT 7",
    }
    assert results(tmp_path, entry) == (ModelResult(MODEL, "success", 1.5, 7),)


@pytest.mark.parametrize(
    ("of_dbt", "status"),
    [
        ("success", "success"),
        ("error", "error"),
        ("fail", "error"),
        ("runtime error", "error"),
        ("partial success", "error"),
        ("skipped", "skipped"),
        ("a status of next year", "error"),
    ],
)
def test_what_is_not_known_as_success_is_none(tmp_path: Path, of_dbt: str, status: str) -> None:
    assert results(tmp_path, {"unique_id": MODEL, "status": of_dbt})[0].status == status


def test_results_of_tests_seeds_and_hooks_are_not_models(tmp_path: Path) -> None:
    others = ["test.kiket_analytics.unique_x", "seed.kiket_analytics.s", "operation.kiket_analytics.on-run-start-0"]
    assert results(tmp_path, *({"unique_id": name, "status": "success"} for name in others)) == ()


@pytest.mark.parametrize("rows", [-1, None, True, "5", 1.5, 2**63, [5]])
def test_a_row_count_that_is_no_count_is_left_out(tmp_path: Path, rows: object) -> None:
    entry = {"unique_id": MODEL, "status": "success", "adapter_response": {"rows_affected": rows}}
    assert results(tmp_path, entry)[0].rows_affected is None


def test_words_that_postgres_could_not_store_are_made_storable(tmp_path: Path) -> None:
    (model,) = results(tmp_path, {"unique_id": MODEL, "status": "error", "message": "bad \x00 and \ud83d end"})
    assert model.message == "bad � and ? end"


def test_a_message_that_is_no_text_becomes_text(tmp_path: Path) -> None:
    (model,) = results(tmp_path, {"unique_id": MODEL, "status": "error", "message": {"a": 1}})
    assert model.message == "{'a': 1}"


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(DbtNoResults, match=r"without writing run_results\.json"):
        read_results(tmp_path / "run_results.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x00\xff\xfe\x80",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"results": null}',
        b'{"results": 5}',
        b'{"results": ["model.x"]}',
        b'{"results": [{}]}',
        b'{"results": [{"unique_id": 5}]}',
        b'{"results": [{"unique_id": "model.x", "status": []}]}',
        b'{"results": [{"unique_id": "model.x", "execution_time": "soon"}]}',
        b'{"results": [{"unique_id": "model.x", "execution_time": 1' + b"0" * 400 + b"}]}",
        b'{"results": [{"unique_id": "model.x", "adapter_response": [1]}]}',
    ],
)
def test_a_file_that_is_no_run_results_says_nothing_of_what_was_built(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run_results.json"
    path.write_bytes(content)
    with pytest.raises(DbtNoResults, match="cannot be read"):
        read_results(path)


def test_a_directory_in_the_place_of_the_results_says_nothing_either(tmp_path: Path) -> None:
    with pytest.raises(DbtNoResults, match="cannot be read"):
        read_results(tmp_path)


def test_a_model_is_followed_from_its_start_to_its_end() -> None:
    assert model_of_event(event("LogStartLine")) == ModelResult(MODEL, "running")
    assert model_of_event(event("LogModelResult", execution_time=0.5, status="INSERT 0 5")) == ModelResult(
        MODEL, "success", 0.5
    )


def test_events_of_other_nodes_and_of_other_things_tell_of_no_model() -> None:
    assert model_of_event(event("LogStartLine", node_info={"resource_type": "test", "unique_id": "test.x"})) is None
    assert model_of_event(event("MainReportVersion")) is None
    assert model_of_event({"info": {"name": "LogStartLine"}, "data": {"node_info": "model"}}) is None


def test_an_event_of_another_shape_tells_of_no_model() -> None:
    assert model_of_event(event("LogModelResult", execution_time="soon")) is None
    assert model_of_event(event("LogModelResult", execution_time=10**400)) is None
    odd = {"resource_type": "model", "unique_id": MODEL, "node_status": ["success"]}
    assert model_of_event(event("LogModelResult", node_info=odd)) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"Running with dbt\n", b"\xff\xfe", b"5", b"[]", b"{}", b'{"info": 1, "data": {}}', b"[" * 9999],
)
def test_a_line_that_is_no_event_is_no_event(line: bytes) -> None:
    assert read_event(line) is None


def test_only_errors_are_errors_and_their_words_are_storable() -> None:
    assert error_of_event({"info": {"level": "info", "msg": "fine"}, "data": {}}) is None
    assert error_of_event({"info": {"level": "error", "msg": ""}, "data": {}}) is None
    assert error_of_event({"info": {"level": "error", "msg": "no\x00 \udc00"}, "data": {}}) == "no� ?"


SCHEMA = "analytics_org_acme"


def node(name: str, schema: object = SCHEMA, kind: str = "model", **more: Any) -> dict[str, Any]:
    return {"unique_id": f"{kind}.kiket_analytics.{name}", "resource_type": kind, "schema": schema, "tags": []} | more


def manifest(folder: Path, *nodes: dict[str, Any]) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"metadata": {}, "nodes": {entry["unique_id"]: entry for entry in nodes}}))
    return path


@pytest.mark.parametrize("kind", ["model", "seed", "snapshot", "test"])
@pytest.mark.parametrize("schema", ["analytics_org_globex", "public", "ANALYTICS_ORG_ACME", "", None])
def test_a_node_that_would_be_built_elsewhere_is_named_with_its_schema(
    tmp_path: Path, kind: str, schema: str | None
) -> None:
    path = manifest(tmp_path, node("good"), node("bad", schema, kind))
    with pytest.raises(SchemaForbidden) as caught:
        check_schemas(path, SCHEMA, ("tag:shared",))
    assert f"{kind}.kiket_analytics.bad in {schema}" in str(caught.value)
    assert SCHEMA in str(caught.value)
    assert "good" not in str(caught.value)


def test_of_many_strange_nodes_a_few_are_named(tmp_path: Path) -> None:
    path = manifest(tmp_path, *(node(f"n{number:03}", "public") for number in range(100)))
    with pytest.raises(SchemaForbidden) as caught:
        check_schemas(path, SCHEMA, ())
    assert "n000 in public; model.kiket_analytics.n001" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nodes_that_are_not_built_here_may_have_any_schema(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        node("good"),
        node("dim_dates", "analytics_shared", tags=["x", "shared"]),
        node("look", "public", "analysis"),
        node("hook", "public", "operation"),
    )
    check_schemas(path, SCHEMA, ("tag:shared",))
    with pytest.raises(SchemaForbidden, match="dim_dates"):
        check_schemas(path, SCHEMA, ())
    with pytest.raises(SchemaForbidden, match="dim_dates"):
        check_schemas(path, SCHEMA, ("shared", "tag:other"))


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        b'{"nodes": null}',
        b'{"nodes": []}',
        b'{"nodes": {"a": 5}}',
        b'{"nodes": {"a": {"resource_type": "model"}}}',
    ],
)
def test_a_manifest_that_is_missing_or_odd_says_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    check_schemas(path, SCHEMA, ("tag:shared",))
    check_schemas(tmp_path, SCHEMA, ())


def test_a_strange_schema_that_postgres_could_not_store_is_made_storable(tmp_path: Path) -> None:
    path = manifest(tmp_path, node("bad", "nul \x00 half \ud83d"))
    with pytest.raises(SchemaForbidden, match=r"bad in nul � half \?"):
        check_schemas(path, SCHEMA, ())
