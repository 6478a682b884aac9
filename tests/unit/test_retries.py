"""How often a run is tried and after how long, and which of dbt's words mean a fault that passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker import errors
from kiket_worker.dbt.results import is_interruption
from kiket_worker.errors import KiketError
from kiket_worker.refresh.retries import RetryPolicy

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KiketError)]
TEN_MINUTES = 600.0

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 50),
    crashes=st.integers(1, 10),
    base_seconds=st.floats(0.001, 3600, allow_nan=False),
)
# As `random.random` gives them.
draws = st.floats(0, 1, exclude_max=True)


def fault(kind: type[KiketError]) -> KiketError:
    """One of a kind, whatever its words."""
    return kind.__new__(kind)


def never() -> float:
    return 0.0


def always() -> float:
    return 1.0


@given(policies, st.integers(1, 1000), draws)
def test_a_delay_is_between_half_and_all_of_the_backoff_and_ten_minutes_at_most(
    policy: RetryPolicy, attempt: int, drawn: float
) -> None:
    delay = policy.delay_seconds(attempt, lambda: drawn)
    full = policy.delay_seconds(attempt, always)
    assert full / 2 <= delay <= full <= TEN_MINUTES
    assert policy.delay_seconds(attempt, never) == pytest.approx(full / 2)


@given(policies, st.integers(1, 1000))
def test_the_backoff_doubles_until_it_reaches_ten_minutes(policy: RetryPolicy, attempt: int) -> None:
    now, later = (policy.delay_seconds(number, always) for number in (attempt, attempt + 1))
    assert policy.delay_seconds(1, always) == pytest.approx(min(TEN_MINUTES, policy.base_seconds))
    assert later == pytest.approx(min(TEN_MINUTES, 2 * now))


@given(policies, st.integers(1, 1000), draws, draws)
def test_more_randomness_is_more_delay(policy: RetryPolicy, attempt: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert policy.delay_seconds(attempt, lambda: low) <= policy.delay_seconds(attempt, lambda: high)


@given(policies, st.integers(1, 100), st.sampled_from(KINDS))
def test_only_what_may_pass_is_tried_again_and_only_below_the_limit(
    policy: RetryPolicy, attempt: int, kind: type[KiketError]
) -> None:
    assert policy.allows_another(attempt, fault(kind)) == (kind.retryable and attempt < policy.attempts)


def test_the_number_of_attempts_is_the_number_of_attempts() -> None:
    policy = RetryPolicy(attempts=3, crashes=2, base_seconds=1)
    passing = errors.ArtifactsUnreachable("no route")
    assert [policy.allows_another(attempt, passing) for attempt in (1, 2, 3, 4)] == [True, True, False, False]
    assert not RetryPolicy(attempts=1, crashes=2, base_seconds=1).allows_another(1, passing)


def test_the_faults_that_pass_are_these_and_no_others() -> None:
    """A kind that is added has to be thought about: a model's own error tried again costs its tenant for nothing."""
    assert {kind.__name__ for kind in KINDS if kind.retryable} == {
        *("ServiceUnreachable", "PostgresUnreachable", "RabbitmqUnreachable", "ArtifactsUnreachable"),
        *("DatabaseInterrupted", "DbtKilled", "SessionsNotEnded", "DeadLettersBusy", "PreviewsBusy", "DefinitionsBusy"),
        *("TenantBusy", "TenantLoginFailed"),
        *("ArtifactsCredentialsExpired", "ArtifactsDiskFull", "ArtifactChanged"),
    }


# As libpq, Postgres and dbt-postgres write them.
PASSING = [
    "Database Error in model fct (models/fct.sql)\n  deadlock detected\n  DETAIL:  Process 7 waits for ShareLock on"
    " transaction 9; blocked by process 8.",
    "Database Error in model fct (models/fct.sql)\n  could not serialize access due to concurrent update",
    "Database Error in model fct (models/fct.sql)\n  could not serialize access due to read/write dependencies among"
    " transactions",
    "Database Error\n  server closed the connection unexpectedly\n  \tThis probably means the server terminated"
    " abnormally\n  \tbefore or while processing the request.",
    "Database Error\n  SSL connection has been closed unexpectedly",
    "Database Error in model fct (models/fct.sql)\n  terminating connection due to administrator command",
    "Runtime Error\n  Database Error\n    connection already closed",
    'Database Error\n  connection to server at "127.0.0.1", port 5432 failed: Connection refused\n  \tIs the server'
    " running on that host and accepting TCP/IP connections?",
    'Database Error\n  connection to server at "db" (10.0.0.1), port 5432 failed: timeout expired',
    'Database Error\n  connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  sorry, too many clients'
    " already",
    'Database Error\n  connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  remaining connection slots'
    " are reserved for roles with the SUPERUSER attribute",
    'connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  the database system is starting up',
    "FATAL:  the database system is shutting down",
    "FATAL:  the database system is in recovery mode",
    "could not connect to server: Connection refused",
]
# What would fail in the same way the next time.
STAYING = [
    "",
    "SELECT 5",
    'Database Error in model fct (models/fct.sql)\n  relation "isues" does not exist\n  LINE 7: from isues',
    'Database Error in model fct (models/fct.sql)\n  column "conection" does not exist',
    'Database Error in model fct (models/fct.sql)\n  syntax error at or near "selec"\n  LINE 3: selec 1',
    "Database Error in model fct (models/fct.sql)\n  division by zero",
    'Database Error in model fct (models/fct.sql)\n  duplicate key value violates unique constraint "fct_pkey"\n'
    "  DETAIL:  Key (email)=(ada@acme.example) already exists.",
    "Database Error in model fct (models/fct.sql)\n  permission denied for table issues",
    "Database Error in model fct (models/fct.sql)\n  permission denied for schema analytics_org_other",
    "Database Error in model fct (models/fct.sql)\n  canceling statement due to statement timeout",
    'Database Error in model fct (models/fct.sql)\n  invalid input syntax for type integer: "connection"',
    "Compilation Error in model fct (models/fct.sql)\n  Model 'model.kiket.fct' depends on a node named 'stg' which was"
    " not found",
    "Compilation Error in model fct\n  'serialize' is undefined",
    "Runtime Error\n  Could not find profile named 'kiket'",
    "This model violates its contract: column `deadlocks` is missing",
    'Database Error in model fct\n  could not write to file "base/pgsql_tmp/1": No space left on device',
]


@pytest.mark.parametrize("message", PASSING)
def test_what_postgres_says_of_an_interruption_is_one(message: str) -> None:
    assert is_interruption(message)


@pytest.mark.parametrize("message", STAYING)
def test_what_is_wrong_with_a_model_is_no_interruption(message: str) -> None:
    assert not is_interruption(message)
