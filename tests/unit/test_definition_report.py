"""How problems are told."""

import json

import pytest

from kiket_worker.cli.definitions import _tell
from kiket_worker.definitions import rules
from kiket_worker.definitions.publishing import Published, Result
from kiket_worker.definitions.report import as_document, as_lines, as_sarif

PROBLEMS = [
    rules.REPOSITORY_SIZE.problem("", 1, "too much", "Split it."),
    rules.DATABASE.problem("analytics/dbt/models/a.sql", 2, "column x does not exist"),
    rules.FILE_LINE_ENDS.problem("analytics/dbt/models/b.sql", 1, "carriage \x1b[31m\u202e returns", "Save it."),
]


def test_text_shows_the_line_and_where_the_rule_is_explained() -> None:
    text = list(as_lines(PROBLEMS, {"analytics/dbt/models/a.sql": "select\n    x\nfrom y"}))

    assert text == [
        "repository: error: too much [repository-size]",
        "       = Split it.",
        "       = docs/definition-rules.md#repository-size",
        "analytics/dbt/models/a.sql:2: error: column x does not exist [database]",
        "     2 |     x",
        "       = docs/definition-rules.md#database",
        "analytics/dbt/models/b.sql:1: warning: carriage \\u001b[31m\\u202e returns [file-line-ends]",
        "       = Save it.",
        "       = docs/definition-rules.md#file-line-ends",
        "2 errors, 1 warnings",
    ]


def test_lines_are_counted_by_line_feeds_only() -> None:
    problem = rules.DATABASE.problem("a.sql", 2, "no")

    assert "     2 | second" in list(as_lines([problem], {"a.sql": "-- a\u2028b\x85c\nsecond"}))


def test_a_refused_publication_shows_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"analytics/dbt/models/a.sql": "select\n    x\nfrom y"}

    _tell(Published("acme", Result.REFUSED, problems=tuple(PROBLEMS), texts=texts), "")

    assert "     2 |     x\n" in capsys.readouterr().err


def test_a_document_has_the_fields_of_the_contract() -> None:
    assert json.loads(json.dumps(as_document(PROBLEMS[1]))) == {
        "file": "analytics/dbt/models/a.sql",
        "line": 2,
        "rule": "database",
        "severity": "error",
        "message": "column x does not exist",
        "hint": "",
        "docs": "docs/definition-rules.md#database",
    }


def test_sarif_names_rules_and_places() -> None:
    (run,) = as_sarif(PROBLEMS)["runs"]

    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["database", "file-line-ends", "repository-size"]
    first, second, third = run["results"]
    assert "locations" not in first
    assert second["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "analytics/dbt/models/a.sql"},
        "region": {"startLine": 2},
    }
    assert run["tool"]["driver"]["rules"][second["ruleIndex"]]["id"] == second["ruleId"] == "database"
    assert [result["level"] for result in (first, second, third)] == ["error", "error", "warning"]
