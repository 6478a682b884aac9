"""The reading of alert rules by our tests: what it selects, and that it refuses what it does not know."""

import pytest

from tests.support.selectors import filter_pattern, logql

FAILED = {"event": "run.failed", "error_kind": "model_failed", "attempt": 2}


def query(filters: str) -> str:
    return f'sum (count_over_time({{app="kiket-worker"}} | json | {filters} [10m])) > 0'


@pytest.mark.parametrize(
    ("filters", "selected"),
    [
        ('event="run.failed"', True),
        ('event="run.fail"', False),
        ('event=~"run.failed|run.retried"', True),
        ('event=~"run.fail"', False),
        ('event!="run.failed"', False),
        ('event!~"run.retried"', True),
        ('event="run.failed" | error_kind="model_failed"', True),
        ('event="run.failed" | error_kind="dbt_failed"', False),
        ('event="run.failed" | error_kind!~"dbt_failed|model_failed"', False),
        ('organization!="acme"', True),
        ('attempt="2"', True),
    ],
)
def test_a_query_of_loki_selects_by_its_filters(filters: str, selected: bool) -> None:
    assert logql(query(filters)).selects(FAILED) is selected


@pytest.mark.parametrize(
    "text",
    [
        '{app="kiket-worker"} | json | event="run.failed"',
        query('event="run.failed" | line_format "x"'),
        query('event=~"run.*"'),
        query('event="a" or event="b"'),
        query("attempt > 2"),
        'sum (count_over_time({app="other"} | json | event="run.failed" [10m])) > 0',
        'sum (rate({app="kiket-worker"} | json | event="run.failed" [10m])) > 0',
        'sum (count_over_time({app="kiket-worker"} | json | event="run.failed" [10m]))',
        'sum (count_over_time({app="kiket-worker"} |= "x" | json | event="run.failed" [10m])) > 0',
    ],
)
def test_a_query_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="understood"):
        logql(text)


def test_a_query_tells_its_threshold_and_what_it_groups_by() -> None:
    rule = logql('sum by (worker, role) (count_over_time({app="kiket-worker"} | json | event=~"a|b" [5m])) > 10')
    assert (rule.over, rule.grouped_by, rule.events) == (10, ("worker", "role"), {"a", "b"})
    assert logql('absent_over_time({app="kiket-worker"} | json | event="ticker.ticked" [5m])').over is None


@pytest.mark.parametrize(
    ("inside", "selected"),
    [
        ('$.event = "run.failed"', True),
        ('$.event != "run.failed"', False),
        ('$.event = "run.failed" && $.error_kind = "model_failed"', True),
        ('$.event = "run.failed" && $.error_kind != "model_failed"', False),
        ('($.event = "run.retried" || $.event = "run.failed") && $.error_kind != "x"', True),
        ('($.event = "run.retried" || $.event = "run.claimed")', False),
        ('$.event = "run.failed" && $.organization != "acme"', False),
    ],
)
def test_a_filter_pattern_of_cloudwatch_selects_by_its_comparisons(inside: str, selected: bool) -> None:
    assert filter_pattern(f"{{ {inside} }}").selects(FAILED) is selected


@pytest.mark.parametrize(
    "pattern",
    [
        '$.event = "run.failed"',
        '{ $.event = "run.failed"',
        '{ $.event = "run.*" }',
        "{ $.event = %run% }",
        "{ $.attempt > 2 }",
        '{ $.event = "a" || $.event = "b" }',
        '{ $.event = "a" && $.event = "b" || $.event = "c" }',
        "{ $.event NOT EXISTS }",
        '{ $.event = "a" } x',
        "{ }",
        "run.failed",
    ],
)
def test_a_filter_pattern_that_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"understood|expected|follows"):
        filter_pattern(pattern)
