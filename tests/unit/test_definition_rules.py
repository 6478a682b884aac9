"""The rules that need neither dbt's run nor Postgres, by an example repository of each, wrong and right."""

from pathlib import Path

import pytest

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.policy.examination import examine_overlay
from kiket_worker.definitions.policy.sql import check_sql
from kiket_worker.definitions.problem import Problem, Rule
from kiket_worker.definitions.reading import read_repository
from tests.support import rule_page

EXAMPLES = Path(__file__).parents[1] / "repositories" / "rules"
# Found in the trial only, which integration tests do for all examples at once.
OF_SQL = {rules.SQL_SYNTAX, rules.SQL_SELECT, rules.SQL_FUNCTION, rules.SQL_CATALOG, rules.SQL_TABLE}
BY_TRIAL = {
    *(rules.DBT, rules.DATABASE, rules.JINJA_TENANT, rules.SOURCE_SCHEMA, rules.SEED_HEADER, rules.TENANCY_FILTER),
    *OF_SQL,
}
# Their examples would be many or large files; tests of their own make these.
WITHOUT_EXAMPLE = {rules.REPOSITORY_SIZE, rules.FILE_KIND, rules.FILE_SIZE, rules.SQL_SIZE, rules.PARSE_LIMIT}


@pytest.fixture(scope="module")
def known() -> Known:
    return Known.of(core_bundle().project_dir, {})


def examined(folder: Path, known: Known) -> list[Problem]:
    repository = read_repository(folder)
    unread = {problem.file for problem in repository.problems}
    return [*repository.problems, *examine_overlay(repository.overlay.without(unread), known, unread).problems]


@pytest.mark.parametrize(
    "rule", [rule for rule in rules.CORE_RULES if rule not in BY_TRIAL | WITHOUT_EXAMPLE], ids=lambda rule: rule.name
)
def test_the_wrong_example_breaks_its_rule_and_no_other(rule: Rule, known: Known) -> None:
    found = examined(EXAMPLES / rule.name / "wrong", known)

    assert {problem.rule for problem in found} == {rule.name}
    assert all(problem.severity is rule.severity for problem in found)


@pytest.mark.parametrize(
    "rule", [rule for rule in rules.CORE_RULES if rule not in WITHOUT_EXAMPLE], ids=lambda rule: rule.name
)
def test_the_right_example_breaks_none(rule: Rule, known: Known) -> None:
    folder = EXAMPLES / rule.name / "right"

    assert folder.is_dir()
    assert examined(folder, known) == []


@pytest.mark.parametrize("rule", sorted(OF_SQL, key=lambda rule: rule.name), ids=lambda rule: rule.name)
def test_the_sql_of_the_wrong_example_breaks_its_rule_and_no_other(rule: Rule) -> None:
    (model,) = (EXAMPLES / rule.name / "wrong").rglob("*.sql")

    faults = check_sql(model.read_text().replace("{{ ref('fct_throughput') }}", "own.fct_throughput"), {"own"})

    assert {fault.rule for fault in faults} == {rule}


def test_the_page_explains_every_rule_with_both_examples() -> None:
    text = rule_page.PAGE.read_text()

    assert text == rule_page.page(), "run `make contracts`"
    for rule in rules.RULES:
        entry = text.partition(f"## {rule.name}\n")[2].partition("\n## ")[0]
        assert rule.why in entry
        assert "\nWrong" in entry, rule.name
        assert "\nRight" in entry, rule.name


def test_rules_have_names_of_their_own() -> None:
    assert len(rules.BY_NAME) == len(rules.RULES)
