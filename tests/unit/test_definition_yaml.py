"""YAML of strangers: read in bounded time, and what cannot be read is told at its line."""

import time
from pathlib import Path

import pytest

from kiket_worker.definitions import reading
from kiket_worker.definitions.reading import read_repository
from kiket_worker.definitions.yaml_document import InvalidYaml, read_yaml
from tests.support.definitions import repository

FULL = reading.MOST_FILE_BYTES
MODELS = "analytics/dbt/models/"


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("a: 1\nb: 0x" + "f" * 20_000, "yaml-syntax", 2),
        ("a: 1\nb: " + "9" * 5_000, "yaml-syntax", 2),
        ("a: 1\nb: 1" + ":1" * 5_000 + ".5", "yaml-syntax", 2),
        ('a: 1\nb: "\\ud800"', "yaml-syntax", 2),
        ("a: 1\nb: !!int x", "yaml-syntax", 2),
        ("a: 1\nb: !!bool x", "yaml-syntax", 2),
        ("a: 1\nb: !!float ''", "yaml-syntax", 2),
        ("a: 1\nb: !!seq x", "yaml-syntax", 2),
        ("a: 1\nb: !!python/name:os.system ''", "yaml-syntax", 2),
        ("a: 1\n!!binary b: 1", "yaml-syntax", 2),
        ("a: 1\n[b]: 1", "yaml-syntax", 2),
        ("a: 1\n&x b: 1", "yaml-anchor", 2),
        ("a: 1\n<<: {b: 1}", "yaml-syntax", 2),
        ("a: 1\nb: [\n\n", "yaml-syntax", 2),
        ("a: 1\nb: &x 1\nc: *x", "yaml-anchor", 2),
        ("a: 1\na: 2", "yaml-duplicate-key", 2),
        ("a: 1\n---\nb: 2", "yaml-syntax", 2),
        ("a: 1\nb: " + "[" * 100, "yaml-size", 2),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_read_is_told_at_its_line(text: str, rule: str, line: int) -> None:
    with pytest.raises(InvalidYaml) as told:
        read_yaml(text)

    assert (told.value.rule, told.value.line) == (rule, line)
    assert len(str(told.value)) < 300


def test_values_have_the_places_of_their_texts() -> None:
    text = "a: 'ä😀'\nb:\n  - 12\n  - 2026-01-31\n"

    document = read_yaml(text)

    assert document.plain() == {"a": "ä😀", "b": [12, "2026-01-31"]}
    assert [text[item.start : item.end] for item in document.content["b"].items()] == ["12", "2026-01-31"]  # type: ignore[index, union-attr, call-overload]
    assert (document.line_of("b", 1), document.line_of("a")) == (4, 1)


@pytest.mark.parametrize(
    "text",
    [
        "a: [" + "a," * 49_000 + "]",
        "a: [" + "1," * 49_000 + "]",
        "\n".join(f"k{number}: " for number in range(24_000)),
        "[" + "{}," * 24_000 + "]",
        "a: " + "[" * FULL,
        "? " * (FULL // 2),
        "a: " + "x\n " * (FULL // 3 - 10),
        "#\n" * (FULL // 2 - 10) + "a: 1",
        'a: "' + "\\n" * (FULL // 2 - 10) + '"',
    ],
    ids=lambda text: text[:12],
)
def test_a_repository_full_of_yaml_is_read_within_seconds(text: str, tmp_path: Path) -> None:
    copies = reading.MOST_YAML_BYTES // len(text)
    root = repository(tmp_path, {MODELS + f"a{number}.yml": text for number in range(copies)})

    began = time.process_time()
    read_repository(root)

    # Twice to four times what it takes. Python's own YAML takes half a minute.
    assert time.process_time() - began < 12


def test_only_so_much_yaml_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_YAML_BYTES", 100)
    files = {MODELS + f"a{number}.yml": "models: [{name: a, description: A model}]" for number in range(3)}

    (problem,) = read_repository(repository(tmp_path, files)).problems

    assert (problem.rule, problem.file) == ("repository-size", "")
    assert "YAML" in problem.message
