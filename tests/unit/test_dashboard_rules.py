"""Each rule of dashboards has an example that breaks it, and one that does not."""

import pytest

from kiket_worker.definitions.dashboards.rules import DASHBOARD_RULES, REFUSED
from kiket_worker.definitions.problem import Problem
from tests.support.dashboards import RULES, check, repository

_NAMES = [rule.name for rule in DASHBOARD_RULES]


def _problems(rule: str, side: str) -> list[Problem]:
    return check(repository(RULES / rule / side))


def test_names_of_rules_are_unique_and_each_says_what_it_is_for() -> None:
    assert len(set(_NAMES)) == len(_NAMES)
    assert all(rule.title and rule.why.endswith(".") for rule in DASHBOARD_RULES)


# What only Postgres says is tried in tests/integration/test_dashboards.py.
@pytest.mark.parametrize("rule", [name for name in _NAMES if name != REFUSED.name])
def test_the_wrong_example_breaks_its_rule_and_no_other(rule: str) -> None:
    problems = _problems(rule, "wrong")
    assert {problem.rule for problem in problems} == {rule}
    for problem in problems:
        text = (RULES / problem.rule / "wrong" / problem.file).read_text()
        assert 1 <= problem.line <= len(text.splitlines())
        assert problem.message


@pytest.mark.parametrize("rule", _NAMES)
def test_the_right_example_has_no_problem(rule: str) -> None:
    assert _problems(rule, "right") == []
