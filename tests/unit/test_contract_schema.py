"""The published JSON Schema is the model's own, and both call the same messages valid."""

import ast
import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kiket_worker
from kiket_worker.contract import InvalidMessage, Reason, RefreshMessage, schema_document
from tests.unit.test_contract import DESIGN_EXAMPLE, WRONG_FIELDS, json_values

ROOT = Path(kiket_worker.__file__).parent.parent
COMMITTED = ROOT / "deploy" / "contracts" / "refresh-message.schema.json"
PAGE = ROOT / "docs" / "refresh-messages.md"
EXAMPLES = {"python": ROOT / "examples" / "publish_refresh.py", "js": ROOT / "examples" / "publish-refresh.mjs"}

schema = jsonschema.Draft202012Validator(schema_document())

# Where the two differ, because JSON Schema cannot say it, or says it of values and not of their spelling:
# - the size of the body, its encoding, NaN and Infinity, half of a surrogate pair: the schema sees values only;
# - `1.0`: to JSON Schema an integer, and equal to 1;
# - a UUID without hyphens, in braces or as a URN: the model reads it, the schema asks for the usual form.
ONLY_THE_MODEL_TAKES = [uuid.UUID(int=7).hex, f"{{{uuid.UUID(int=7)}}}", uuid.UUID(int=7).urn]


def model_takes(document: Any) -> bool:
    try:
        RefreshMessage.from_bytes(json.dumps(document).encode())
    except InvalidMessage:
        return False
    return True


def test_the_committed_schema_is_what_the_code_gives() -> None:
    assert COMMITTED.read_text() == json.dumps(schema_document(), indent=2) + "\n", "run `make contracts`"


def test_the_schema_is_valid_and_describes_every_field_in_a_line() -> None:
    jsonschema.Draft202012Validator.check_schema(schema_document())
    described = {name: field.get("description", "") for name, field in schema_document()["properties"].items()}
    assert described.keys() == RefreshMessage.model_fields.keys()
    assert {name for name, text in described.items() if not text or "\n" in text} == set()


# Values on either side of every limit; NUL and long texts are too rare by chance.
texts = st.sampled_from(["a", "a" * 255, "é" * 255, "a" * 256, "", "a\x00", "\x00", "a\n", "\n", "🦆" * 255]) | st.text(
    st.characters(codec="utf-8"), max_size=300
)
identifiers = st.uuids().map(str) | st.uuids().map(lambda one: str(one).upper())
valid = {
    "version": st.just(1),
    "organization": texts,
    "reason": st.sampled_from([reason.value for reason in Reason]),
    "requested_by": st.none() | texts,
    "idempotency_key": st.none() | texts,
    "full_refresh": st.booleans(),
    "docs": st.booleans(),
    "select": st.none() | st.lists(texts, max_size=3) | st.sampled_from([["m"] * 100, ["m"] * 101]),
    "kiket_run_id": st.none() | identifiers,
}


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """Mostly messages with one fault or none; sometimes anything at all."""
    document = {"version": 1, "organization": draw(texts)}
    for name in draw(st.sets(st.sampled_from(sorted(valid)), max_size=5)):
        document[name] = draw(valid[name])
    change = draw(st.sampled_from(["none", "wrong", "missing", "unknown", "other"]))
    name = draw(st.sampled_from(sorted(valid)))
    if change == "wrong":
        document[name] = draw(json_values)
    elif change == "missing":
        document.pop(name, None)
    elif change == "unknown":
        document[draw(st.text())] = draw(json_values)
    elif change == "other":
        return draw(json_values)
    return document


def spells_the_version_as_a_float(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("version"), float)


@given(documents().filter(lambda document: not spells_the_version_as_a_float(document)))
def test_schema_and_model_agree(document: Any) -> None:
    assert schema.is_valid(document) == model_takes(document)


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS, ids=lambda value: repr(value)[:30])
def test_the_schema_refuses_what_the_model_refuses(field: str, value: Any) -> None:
    document = {"version": 1, "organization": "acme"} | {field: value}
    document = {name: kept for name, kept in document.items() if kept is not ...}
    assert schema.is_valid(document) == spells_the_version_as_a_float(document)


@pytest.mark.parametrize("spelling", ONLY_THE_MODEL_TAKES)
def test_the_schema_asks_for_the_usual_spelling_of_an_id(spelling: str) -> None:
    document = {"version": 1, "organization": "acme", "kiket_run_id": spelling}
    assert model_takes(document)
    assert not schema.is_valid(document)


def test_the_example_of_the_design_follows_the_schema() -> None:
    schema.validate(json.loads(DESIGN_EXAMPLE))


def test_the_page_names_every_field_and_its_example_is_a_message() -> None:
    page = PAGE.read_text()
    named = re.findall(r"^\| `(\w+)` \|", page.partition("## Fields")[2].partition("## Answers")[0], re.MULTILINE)
    assert named == list(RefreshMessage.model_fields)
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert model_takes(json.loads(example))


@pytest.mark.parametrize("language", EXAMPLES)
def test_the_page_shows_the_examples_as_they_are(language: str) -> None:
    (shown,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown == EXAMPLES[language].read_text()


def test_the_message_of_the_python_example_follows_the_schema() -> None:
    (assigned,) = [
        node
        for node in ast.parse(EXAMPLES["python"].read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "message"
    ]
    literal = ast.unparse(assigned.value).replace("sys.argv[1]", "'acme'").replace("str(uuid4())", "'a key'")
    document = ast.literal_eval(literal)
    assert set(document) <= RefreshMessage.model_fields.keys()
    schema.validate(document)


def test_the_message_of_the_node_example_follows_the_schema() -> None:
    (literal,) = re.findall(r"^const message = (\{.*?^\});", EXAMPLES["js"].read_text(), re.DOTALL | re.MULTILINE)
    literal = literal.replace("process.argv[2]", '"acme"').replace("randomUUID()", '"a key"')
    literal = re.sub(r"//.*", "", literal)
    literal = re.sub(r"^  (\w+):", r'"\1":', literal, flags=re.MULTILINE)
    document = json.loads(re.sub(r",\s*\}", "}", literal))
    assert set(document) <= RefreshMessage.model_fields.keys()
    schema.validate(document)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed, so it cannot check its example")
def test_node_reads_the_node_example() -> None:
    subprocess.run(["node", "--check", EXAMPLES["js"]], check=True, timeout=60)
