"""What nobody writes by mistake: each file is told of by itself, and hides nothing of the others."""

import pytest

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.policy import examination
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.policy.examination import examine_overlay
from kiket_worker.definitions.problem import Problem

MODELS = "analytics/dbt/models/"
BESIDE = {"beside.sql": "select 1 from\n{{ ref('nobody') }}"}


@pytest.fixture(scope="module")
def known() -> Known:
    return Known.of(core_bundle().project_dir, {})


def examined(files: dict[str, str], known: Known) -> list[Problem]:
    return sorted(examine_overlay(Overlay({MODELS + name: text for name, text in files.items()}), known).problems)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("select 1,\n{{ " + "9" * 5_000 + " }}", 2, "too many digits"),
        ("\n{{ dbt[0x" + "f" * 20_000 + "]() }}", 2, "too many digits"),
        ("\n{% materialization x, foo=bar %}{% endmaterialization %}", 2, "unknown argument 'foo'"),
        ("\n{% materialization x, adapter=bar %}{% endmaterialization %}", 2, "dbt's blocks"),
    ],
    ids=["number", "hexadecimal", "argument", "adapter"],
)
def test_jinja_that_stops_its_reader_is_told_with_its_line(text: str, line: int, words: str, known: Known) -> None:
    problem, other = examined({"a.sql": text, **BESIDE}, known)

    assert (problem.file, problem.line, problem.rule) == (MODELS + "a.sql", line, "jinja-syntax")
    assert words in problem.message
    assert (other.file, other.rule) == (MODELS + "beside.sql", "ref-missing")


@pytest.mark.parametrize(
    ("fault", "rule"),
    [(AssertionError("odd"), "jinja-syntax"), (MemoryError(), "parse-limit"), (RecursionError(), "parse-limit")],
    ids=lambda value: type(value).__name__,
)
def test_a_file_that_stops_its_judge_hides_no_other(
    fault: Exception, rule: str, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = examination.examine

    def examine(file: str, *given: object, **named: object) -> object:
        if file == MODELS + "a.sql":
            raise fault
        return original(file, *given, **named)  # type: ignore[arg-type]  # as they were given

    monkeypatch.setattr(examination, "examine", examine)

    assert [(problem.file, problem.rule) for problem in examined({"a.sql": "select 1", **BESIDE}, known)] == [
        (MODELS + "a.sql", rule),
        (MODELS + "beside.sql", "ref-missing"),
    ]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{{ ref(model_name='dim_projects') }}", "ref-missing"),
        ("{{ ref('dim_projects', package_name='x') }}", "ref-missing"),
        ("{{ source(source_name='raw', table_name='issues') }}", "source-missing"),
        ("{{ source('raw', table_name='issues') }}", "source-missing"),
    ],
)
def test_references_by_keyword_which_dbt_does_not_know_are_told(text: str, rule: str, known: Known) -> None:
    (problem,) = examined({"a.sql": f"select 1 from\n{text} as a where organization_id = 1"}, known)

    assert (problem.line, problem.rule) == (2, rule)
    assert problem.hint.startswith("Write ")


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("models:\n  - name: ''", 2, "yaml-shape"),
        ("models:\n  - name: ' '", 2, "yaml-shape"),
        ("models:\n  - name: a\n    config: [a]", 3, "yaml-shape"),
        ("models:\n  - name: a\n    columns: {x: 1}", 3, "yaml-shape"),
        ("models:\n  - name: a\n    columns:\n      - name: x\n        config: [a]", 5, "yaml-shape"),
        ("sources:\n  - name: s\n    tables: {a: 1}", 3, "yaml-shape"),
        ("sources:\n  - name: s\n    tables:\n      - name: ''", 4, "yaml-shape"),
        ("sources:\n  - name: s\n    tables:\n      - name: t\n        config: 1", 5, "yaml-shape"),
        ("unit_tests:\n  - name: u\n    model: [a]", 3, "yaml-shape"),
        ("unit_tests:\n  - name: u\n    given: []", 2, "yaml-shape"),
    ],
)
def test_yaml_of_another_shape_than_dbts_is_told(text: str, line: int, rule: str, known: Known) -> None:
    problem, other = examined({"a.yml": text, **BESIDE}, known)

    assert (problem.file, problem.line, problem.rule) == (MODELS + "a.yml", line, rule)
    assert "Located" not in problem.message
    assert other.rule == "ref-missing"


@pytest.mark.parametrize(
    ("depends", "rule"),
    [
        ("ref('dim_projects')", "yaml-shape"),
        ("{a: b}", "yaml-shape"),
        ("[{a: b}]", "exposure"),
        ("[[a]]", "exposure"),
        ("[1]", "exposure"),
        ("[null]", "exposure"),
        ("['']", "exposure"),
    ],
)
def test_what_an_exposure_cannot_depend_on_is_told_without_internals(depends: str, rule: str, known: Known) -> None:
    text = "exposures:\n  - name: e\n    type: dashboard\n    maturity: high\n    owner: {name: us}\n    depends_on: "

    (problem,) = examined({"e.yml": text + depends}, known)

    assert (problem.line, problem.rule) == (6, rule)
    assert "Located" not in problem.message
