"""The line of a model that a failure is about."""

import json
from typing import Any

import pytest

from kiket_worker.dbt.failing_sql import failing_lines, failing_sql

SQL = "\n\nselect\n    project_id,\n    issue_completed\nfrom issues\nwhere project_id > 1"
MESSAGE = """Database Error in model mine (models/mine.sql)
  column "issue_completed" does not exist
  LINE 9:     issue_completed
              ^
  compiled code at target/run/mine.sql"""


def results(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"results": [*entries]}).encode()


def entry(**given: Any) -> dict[str, Any]:
    return {"unique_id": "model.kiket.mine", "status": "error", "message": MESSAGE, "compiled_code": SQL, **given}


def test_the_line_that_postgres_shows_is_marked_though_it_has_another_number_there() -> None:
    (found,) = failing_sql(results(entry(), entry(status="success")), None)
    assert (found.node_id, found.path, found.is_compiled) == ("model.kiket.mine", "models/mine.sql", True)
    assert [line.text for line in found.lines if line.is_failing] == ["    issue_completed"]
    # Numbers are those of the text; empty lines around it, which Jinja leaves, are not shown.
    assert [line.number for line in found.lines] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (MESSAGE, {5}),
        ("x\nLINE 2: ...project_id > 1...", {7}),
        ("x\nLINE 2: nowhere", set()),
        ("Compilation Error in model mine (models/mine.sql)\n  'refs' is undefined\n  line 4\n    {{ refs() }}", {4}),
        ("line 99 of nothing", set()),
        ('no line, but the name "issues"', {6}),
        ("nothing at all", set()),
        ("x\nLINE 2:   ", set()),
    ],
)
def test_lines_are_found_by_what_a_message_shows_tells_or_quotes(message: str, expected: set[int]) -> None:
    assert failing_lines(message, SQL) == expected


def test_where_several_lines_read_so_all_are_marked() -> None:
    assert failing_lines("x\nLINE 8: a,", "select\na,\nb,\n  a,\naa,\nfrom t") == {2, 4}


def test_what_was_not_compiled_is_shown_as_it_was_written() -> None:
    manifest = {"nodes": {"model.kiket.mine": {"raw_code": "select {{ refs('x') }}", "original_file_path": "m/a.sql"}}}
    message = "Compilation Error in model mine (models/mine.sql)\n  'refs' is undefined\n  line 1"
    (found,) = failing_sql(results(entry(compiled_code=None, message=message)), json.dumps(manifest).encode())
    assert (found.path, found.is_compiled) == ("m/a.sql", False)
    assert [(line.text, line.is_failing) for line in found.lines] == [("select {{ refs('x') }}", True)]


def test_of_long_sql_the_part_around_the_line_is_shown() -> None:
    text = "\n".join(f"line_{number}" for number in range(1, 5001))
    (found,) = failing_sql(results(entry(compiled_code=text, message="x\nLINE 1: line_4000\n")), None)
    assert found.is_part
    assert [line.number for line in found.lines] == list(range(3850, 4151))
    assert len(failing_sql(results(*[entry()] * 100), None)) == 20


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"results": 5}', b'{"results": [1, {"status": "error", "unique_id": 5}]}', b"[" * 99_999],
)
def test_what_is_not_dbts_shape_has_no_failures(document: bytes) -> None:
    assert failing_sql(document, document) == []


def test_odd_entries_do_no_harm() -> None:
    odd = entry(message=5, compiled_code=["x"])
    (found,) = failing_sql(results(odd), json.dumps({"nodes": {"model.kiket.mine": [1]}}).encode())
    assert (found.message, found.lines) == ("", ())
