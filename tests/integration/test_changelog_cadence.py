"""The ticker's turns at changelogs: one ticker in an interval, behind the ticks, and whatever fails is an event."""

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.changelog import cadence as module
from kiket_worker.changelog.cadence import ChangelogCadence
from kiket_worker.ledger import evaluations
from kiket_worker.ledger.database import Database
from kiket_worker.telemetry.logs import set_up_logs
from tests.support.dbt_scripts import until


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    set_up_logs(stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_of_many_tickers_one_evaluates_in_an_interval(ledger: Database, sample_database: Any, log: io.StringIO) -> None:
    tickers = [ChangelogCadence(ledger, interval_hours=24, output=None) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.run_if_due(), tickers))
    (line,) = lines(log)
    assert line["event"] == "changelog.evaluated"
    (row,) = sample_database.rows("select count(*)::int as n from kiket_analytics.changelog_evaluations")
    assert row["n"] == line["releases"] > 10
    sample_database.execute("update kiket_analytics.changelog_turn set begun_at = begun_at - interval '23 hours'")
    tickers[0].run_if_due()
    assert len(lines(log)) == 1
    sample_database.execute("update kiket_analytics.changelog_turn set begun_at = begun_at - interval '1 hour'")
    tickers[1].run_if_due()
    assert [line["releases"] for line in lines(log)][1:] == [0]


def test_it_exports_where_a_file_is_named(ledger: Database, tmp_path: Path) -> None:
    output = tmp_path / "data" / "evaluations.json"
    ChangelogCadence(ledger, interval_hours=1, output=output).run_if_due()
    assert len(json.loads(output.read_text())) == len(evaluations.newest(ledger, organization_id=None, limit=200)) > 10


def test_the_ticks_do_not_wait_for_it_and_it_ends_when_it_is_told(
    ledger: Database, sample_database: Any, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slow(*_: Any, is_stopped: Any, **__: Any) -> int:
        begun.set()
        assert goes_on.wait(30)
        assert is_stopped()
        return 0

    monkeypatch.setattr(module, "evaluate", slow)
    cadence = ChangelogCadence(ledger, interval_hours=1, output=Path("/nowhere"))
    cadence.begin_if_due()
    assert begun.wait(30)
    sample_database.execute("update kiket_analytics.changelog_turn set begun_at = null")
    cadence.begin_if_due()  # One is at it.
    assert sample_database.rows("select from kiket_analytics.changelog_turn where begun_at is null")
    stopping = threading.Thread(target=cadence.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    goes_on.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert lines(log) == []


def test_what_fails_is_an_event_and_no_more(
    ledger: Database, sample_database: Any, log: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    cadence = ChangelogCadence(ledger, interval_hours=1, output=tmp_path / "file" / "evaluations.json")
    cadence.begin_if_due()
    until(lambda: lines(log), "it has failed")

    def broken(*_: Any, **__: Any) -> int:
        raise ValueError("words of a tenant")

    monkeypatch.setattr(module, "evaluate", broken)
    sample_database.execute("update kiket_analytics.changelog_turn set begun_at = null")
    cadence.run_if_due()
    sample_database.execute("drop table public.releases cascade")
    monkeypatch.undo()
    sample_database.execute("update kiket_analytics.changelog_turn set begun_at = null")
    cadence.run_if_due()
    assert [(line["event"], line["error_kind"]) for line in lines(log)] == [
        ("changelog.failed", "export_failed"),
        ("changelog.failed", "internal"),
        ("changelog.failed", "ledger_not_migrated"),
    ]
    assert "words of a tenant" not in log.getvalue()
    assert "ValueError at " in lines(log)[1]["error"]
