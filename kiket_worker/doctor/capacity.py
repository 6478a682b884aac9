"""Whether there are workers and connections enough for what waits, and for what the cadences of all ask."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from kiket_worker.doctor.finding import Finding, error, warning
from kiket_worker.ledger import connections
from kiket_worker.ledger.backlog import Backlog, measure, waiting_runs
from kiket_worker.ledger.database import Database, reading, statement
from kiket_worker.ledger.organizations import PLAN_PARAMETERS
from kiket_worker.settings import Settings

# Nobody has begun a run for so long: then it is not that all are busy.
_SILENT_SECONDS = 900
# How busy workers may be in an hour as any; above it, what comes in bursts waits for long (docs/operations.md, Sizing).
BUSY_SHARE = 0.95
_LONG_SECONDS = 3600
# As deploy/kubernetes has them: what runs cannot be seen, as a pool that rests has no connection.
_TICKERS, _CONSOLES = 2, 2
# Ticks that may be missed before the ticker counts as silent.
_MISSED_TICKS = 3
_LOOK_SECONDS = 30
TICKER_REMEDY = "see that a `kiket-worker ticker` runs, and what it logs as ticker.failed"


def examine_capacity(settings: Settings, database: Database, *, workers: int | None = None) -> Iterator[Finding]:
    """Everything that is found. Workers are those that have refreshed in the last quarter of an hour.

    Connections are judged for as many as these, or for `workers`, as who rests is not seen.
    """
    load = database.rows(reading("standing", statement("load", __package__)), PLAN_PARAMETERS)[0]
    yield from judge_load(load, waiting_runs(database), settings.concurrency)
    yield from judge_connections(load if workers is None else load | {"workers": workers}, settings.concurrency)
    yield from judge_ticks(measure(database, timeout_seconds=_LOOK_SECONDS), settings.tick_interval_seconds)


def is_silent(tick_age_seconds: float | None, tick_interval_seconds: float) -> bool:
    """Whether no ticker ticks, by how long ago the last one did; None before the first."""
    return tick_age_seconds is None or tick_age_seconds > _MISSED_TICKS * tick_interval_seconds


def judge_ticks(backlog: Backlog, tick_interval_seconds: float) -> Iterator[Finding]:
    """Whether what is due has waited for long, and no ticker comes to queue it."""
    age = backlog.tick_age_seconds
    if backlog.oldest_due_seconds > _LONG_SECONDS and is_silent(age, tick_interval_seconds):
        last = "there never was one" if age is None else f"the last one was {_span(age)} ago"
        yield error(
            "ticker_silent",
            f"{backlog.due} organisations are due, the first for {_span(backlog.oldest_due_seconds)}, and no ticker "
            f"ticks: {last}",
            TICKER_REMEDY,
        )


def judge_load(load: Mapping[str, Any], waiting: int, concurrency: int) -> Iterator[Finding]:
    """What is to be said of the row of `sql/load.sql`, with so many runs waiting.

    Each worker does `concurrency` refreshes at a time.
    """
    workers, seconds = load["workers"], load["seconds_per_run"] or 0.0
    if waiting and not workers and load["oldest_waiting_seconds"] > _SILENT_SECONDS:
        yield error(
            "workers_absent",
            f"{waiting} runs wait, the first for {_span(load['oldest_waiting_seconds'])}, and no worker has begun one "
            "in the last quarter of an hour",
            "start `kiket-worker worker`, or see in its log why it does not begin",
        )
        return
    if not workers or not seconds:
        return
    threads = workers * concurrency
    busy = load["runs_per_hour"] * seconds / 3600
    if busy > BUSY_SHARE * threads:
        yield warning(
            "capacity_short",
            f"the organisations' cadences ask for {load['runs_per_hour']:.0f} runs an hour of {seconds:.1f} seconds: "
            f"{busy:.1f} at a time, and {workers} workers do {threads}",
            f"{ceil(busy / BUSY_SHARE / concurrency)} workers with KIKET_CONCURRENCY {concurrency}, or longer "
            "intervals (docs/operations.md, Sizing)",
        )
    elif waiting * seconds / threads > _LONG_SECONDS:
        yield warning(
            "backlog_large",
            f"{waiting} runs wait, which takes {workers} workers about {_span(waiting * seconds / threads)}",
            "more workers for that long, if it must not take so long; they are enough for what comes every day",
        )


def judge_connections(load: Mapping[str, Any], concurrency: int) -> Iterator[Finding]:
    """Whether all that may be opened could be: `load` is the row of `sql/load.sql`."""
    workers = max(1, load["workers"])
    needed_by_login, needed_by_roles = connections.of_an_installation(
        workers=workers, tickers=_TICKERS, consoles=_CONSOLES, concurrency=concurrency
    )
    needed = needed_by_login + needed_by_roles
    who = f"{workers} workers with {concurrency} refreshes at a time, {_TICKERS} tickers and {_CONSOLES} consoles"
    limits = {
        f"max_connections leaves {load['server_connections']}": load["server_connections"],
        f"the database's limit is {load['database_connections']}": load["database_connections"],
    }
    for words, limit in limits.items():
        if 0 <= limit < needed + load["others"]:
            yield error(
                "connections_short",
                f"{who} may open {needed} connections beside {load['others']} of others, and {words}",
                "raise the limit, or have fewer workers, or a lower KIKET_CONCURRENCY",
            )
    if 0 <= load["login_connections"] < needed_by_login:
        yield error(
            "connections_short",
            f"{who} may open {needed_by_login} connections as the login of DATABASE_URL, whose limit is "
            f"{load['login_connections']}",
            "`alter role … connection limit -1`, or have fewer workers, or a lower KIKET_CONCURRENCY",
        )


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
