"""Postgres' words without rows: names stay, values go."""

import pytest

from kiket_worker.dbt.redaction import redact_event, redact_results, redacted, words_of

NAMES = words_of("select titel, open from analytics_org_acme.issues join fct_x on status = 'open'; unique_email")
SECRET = "Fix the payroll leak"
HEAD = "Database Error in model fct_x (models/marts/fct_x.sql)\n"


@pytest.mark.parametrize(
    "words",
    [
        'column "titel" does not exist',
        'column "titel" does not exist\n  LINE 3: select "titel"\n                 ^\n  HINT:  Perhaps another.',
        'relation "analytics_org_acme.issues" does not exist',
        'relation "fct_x__dbt_tmp" already exists',
        'syntax error at or near "join"\n  LINE 1: select join\n                 ^',
        "permission denied for table issues\n  compiled code at target/run/x.sql",
        'duplicate key value violates unique constraint "unique_email"',
        'permission denied to create foreign-data wrapper "titel"',
        'must be able to SET ROLE "analytics_org_acme"',
        "division by zero",
        "deadlock detected",
        "canceling statement due to statement timeout",
    ],
)
def test_what_names_the_projects_own_things_stays(words: str) -> None:
    assert redacted(f"{HEAD}  {words}", NAMES) == f"{HEAD}  {words}"
    assert redacted(words, NAMES) == words


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (f'invalid input syntax for type integer: "{SECRET}"', 'invalid input syntax for type integer: "…"'),
        # A value that is a word of the project, among words of which Postgres quotes no names.
        ('invalid input syntax for type integer: "open"', 'invalid input syntax for type integer: "…"'),
        (f'invalid input syntax for type integer: "a" {SECRET} "b"', 'invalid input syntax for type integer: "…"'),
        (
            f'invalid input syntax for type integer: "open" {SECRET} "open"',
            'invalid input syntax for type integer: "…"',
        ),
        (
            f'invalid input syntax for type date: "x\n  {SECRET}\n  LINE 1: {SECRET}"',
            'invalid input syntax for type date: "…"',
        ),
        (f'column "{SECRET}" does not exist', 'column "…" does not exist'),
        ('column "payroll" does not exist', 'column "…" does not exist'),
        (f"duplicate key\n  DETAIL:  Key (title)=({SECRET}) already exists.", "duplicate key\n"),
        (
            f"null value\n  DETAIL:  Failing row contains ({SECRET}).\n  compiled code at target/run/x.sql",
            "null value\n  compiled code at target/run/x.sql",
        ),
        (
            f"cannot cast\n  CONTEXT:  JSON data, line 1: {SECRET}\n  HINT:  Try another.",
            "cannot cast\n  HINT:  Try another.",
        ),
        # A statement that a function made of values.
        (
            f"division by zero\n  LINE 1: select '{SECRET}'\n               ^\n  QUERY:  select '{SECRET}'",
            "division by zero\n",
        ),
        (
            f"{SECRET}\n  HINT:  {SECRET}\n  CONTEXT:  PL/pgSQL function f() line 3 at RAISE\n  compiled code at x.sql",
            "a function of the organisation's raised an exception, whose words are left out\n  compiled code at x.sql",
        ),
    ],
)
def test_values_are_left_out(words: str, left: str) -> None:
    assert redacted(f"{HEAD}  {words}", NAMES) == f"{HEAD}  {left}"
    assert redacted(words, NAMES) == left


@pytest.mark.parametrize(
    "words",
    [
        "Compilation Error in model fct_x (models/fct_x.sql)\n  'foo' is \"undefined\"\n\n  > in macro x",
        "Got 3 results, configured to fail if != 0",
        'Parsing Error\n  at path ["models"]: something',
        'File "/usr/lib/python3/x.py", line 3, in f',
    ],
)
def test_what_dbt_says_of_the_project_stays(words: str) -> None:
    assert redacted(words, NAMES) == words


def test_an_event_of_an_error_is_redacted_wherever_it_has_the_words() -> None:
    words = f'{HEAD}  invalid input syntax for type integer: "{SECRET}"'
    event = {
        "info": {"level": "error", "name": "RunResultError", "msg": words},
        "data": {"msg": words, "node_info": {"node_relation": {"relation_name": '"kiket"."x"'}}},
    }
    assert redact_event(event, lambda: NAMES)
    assert SECRET not in str(event)
    assert event["data"]["node_info"] == {"node_relation": {"relation_name": '"kiket"."x"'}}
    assert not redact_event(event, lambda: NAMES)


def test_an_event_that_is_no_error_is_not_looked_at() -> None:
    def unwanted() -> frozenset[str]:
        raise AssertionError

    event = {"info": {"level": "info", "msg": 'Found "x"'}, "data": {"msg": 'Found "x"'}}
    assert not redact_event(event, unwanted)


def test_results_are_redacted_where_nodes_failed() -> None:
    words = f'{HEAD}  invalid input syntax for type integer: "{SECRET}"'
    document = {
        "results": [
            {"status": "success", "message": 'INSERT "0" 1'},
            {"status": "skipped", "message": None},
            {"status": "error", "message": words},
        ]
    }
    assert redact_results(document, lambda: NAMES)
    assert SECRET not in str(document)
    assert document["results"][0]["message"] == 'INSERT "0" 1'
    assert not redact_results(document, lambda: NAMES)
