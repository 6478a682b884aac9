"""The exported file: its JSON Schema is the code's own, and the same evaluations give the same bytes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given

import kiket_worker
from kiket_worker.changelog.document import LIMIT, ExportedEvaluation, render, schema_document
from kiket_worker.changelog.metrics import compare, summarize
from kiket_worker.ledger.evaluations import Evaluation, Evaluator
from tests.unit.test_changelog_text import markdown

COMMITTED = Path(kiket_worker.__file__).parent.parent / "deploy" / "contracts" / "changelog-evaluations.schema.json"
AT = datetime(2026, 6, 15, 12, tzinfo=UTC)

schema = jsonschema.Draft202012Validator(schema_document())


def evaluation(automated: str, human: str, generated_at: datetime = AT) -> Evaluation:
    metrics = compare(automated, human)
    stored = json.loads(json.dumps(metrics.model_dump()))
    return Evaluation(UUID(int=7), 10, 20, 1, Evaluator.DRAFT_GENERATION, stored, summarize(metrics), generated_at)


def documents(*given: Evaluation) -> Any:
    return json.loads(render(given))


def test_the_committed_schema_is_what_the_code_gives() -> None:
    assert COMMITTED.read_text() == json.dumps(schema_document(), indent=2) + "\n", "run `make contracts`"


def test_the_schema_is_valid_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(schema_document())
    for definition in schema_document()["$defs"].values():
        described = {name: field.get("description") for name, field in definition.get("properties", {}).items()}
        assert None not in described.values(), definition
    assert schema_document()["maxItems"] == LIMIT == 200


@given(markdown, markdown)
def test_every_evaluation_follows_the_schema_and_has_the_fields_that_were_asked_for(automated: str, human: str) -> None:
    (document,) = found = documents(evaluation(automated, human))
    schema.validate(found)
    assert document.keys() == ExportedEvaluation.model_fields.keys()
    assert set(document) == {
        *("id", "release_id", "project_id", "organization_id", "evaluator", "metrics", "summary", "generated_at")
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["evaluator"], "another"),
        (["generated_at"], "yesterday"),
        (["summary"], ""),
        (["title"], "more than was asked for"),
        (["metrics", "jaccard_similarity"], 1.01),
        (["metrics", "human_word_count"], -1),
        (["metrics", "token_difference", "only_human"], ["x"] * 21),
        (["metrics", "token_difference", "only_human"], ["x" * 65]),
    ],
)
def test_the_schema_refuses_what_is_never_written(path: list[str], value: Any) -> None:
    found = documents(evaluation("a", "b"))
    *way, name = path
    part = found[0]
    for step in way:
        part = part[step]
    part[name] = value
    assert not schema.is_valid(found)


def test_a_file_is_sorted_indented_and_ends_with_a_line() -> None:
    text = render([evaluation("Café 決済", "決済")]).decode()
    assert text.endswith("}\n]\n")
    assert '\n        "only_automated": [\n          "café"\n        ]' in text
    assert list(json.loads(text)[0]) == sorted(ExportedEvaluation.model_fields)
    assert render([]) == b"[]\n"


def test_a_moment_is_written_alike_in_whatever_zone_it_was_read() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=9)))
    assert render([evaluation("a", "b", elsewhere)]) == render([evaluation("a", "b")])
    assert documents(evaluation("a", "b"))[0]["generated_at"] == "2026-06-15T12:00:00.000000Z"
