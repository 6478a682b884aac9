"""What doctor says of delays and failures, from values alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kiket_worker.doctor.delays import explain_delays
from kiket_worker.doctor.failures import explain_failures
from kiket_worker.doctor.finding import Finding, Severity
from kiket_worker.ledger.organizations import Organization

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
ACME = Organization(
    organization_id=1,
    slug="acme",
    name="Acme",
    plan="business",
    enabled=True,
    refresh_interval_hours=None,
    interval_hours=6,
    last_run_at=NOW - timedelta(hours=2),
    quarantine_reason=None,
    can_have_schema=True,
    due_at=NOW + timedelta(hours=4),
)
NOTHING: dict[str, Any] = {
    **dict.fromkeys(["queued_run_id", "published_at", "queued_seconds", "executing_run_id", "executing_status"]),
    **dict.fromkeys(["executing_worker", "retry_at", "retry_error", "executing_seconds", "lease_worker"]),
    **dict.fromkeys(["lease_has_expired", "succeeded_at", "failing_since", "failed_run_id", "error_kind"]),
    **dict.fromkeys(["error_message", "failed_selection", "sync_run_id", "sync_error_kind", "sync_error_message"]),
    "now": NOW,
    "ticked_at": NOW - timedelta(seconds=5),
    "tick_age_seconds": 5.0,
    "runs_ahead": 0,
    "runs_executing": 0,
    "failures": 0,
}
EXECUTING = {
    "executing_run_id": "run-1",
    "executing_status": "running",
    "executing_worker": "host:1",
    "executing_seconds": 7.2,
    "lease_worker": "host:1",
    "lease_has_expired": False,
}
QUEUED = {"queued_run_id": "run-2", "queued_seconds": 90.0, "published_at": NOW, "runs_ahead": 3, "runs_executing": 2}
DUE = replace(ACME, due_at=NOW - timedelta(hours=1), last_run_at=NOW - timedelta(hours=7))


def delays(organization: Organization, **progress: Any) -> list[Finding]:
    return list(explain_delays(organization, NOTHING | progress, tick_interval_seconds=30))


def failures(message: str | None = None, **progress: Any) -> list[Finding]:
    models = [{"model_id": "model.kiket_analytics.fct", "message": message}] if message else []
    return list(explain_failures(ACME, NOTHING | progress, models, known_models={"fct_throughput"}, gates={"issues"}))


@pytest.mark.parametrize(
    ("organization", "progress", "kind", "words"),
    [
        (replace(ACME, enabled=False), {}, "organization_disabled", "settings set acme --enabled"),
        (replace(ACME, quarantine_reason="3 crashes"), {}, "organization_quarantined", "settings release acme"),
        (replace(ACME, plan="gold", interval_hours=None, due_at=None), {}, "plan_unknown", "--interval-hours"),
        (ACME, {}, "not_due", "2026-06-15 16:00:00Z"),
        (DUE, {}, "due", "next tick"),
        (DUE, {"tick_age_seconds": 91.0}, "ticker_silent", "kiket-worker ticker"),
        (DUE, {"tick_age_seconds": None, "ticked_at": None}, "ticker_silent", "never"),
        (ACME, EXECUTING, "executing", "host:1"),
        (ACME, EXECUTING | {"retry_at": NOW + timedelta(seconds=9)}, "waits_for_retry", "12:00:09Z"),
        (ACME, EXECUTING | {"retry_at": NOW - timedelta(seconds=9)}, "executing", "host:1"),
        (ACME, EXECUTING | {"lease_worker": None}, "waits_for_worker", "worker"),
        (ACME, EXECUTING | {"lease_has_expired": True}, "worker_silent", "host:1"),
        (DUE, QUEUED, "queued", "behind 3 others; 2 are being executed"),
        (DUE, QUEUED | {"published_at": None}, "not_published", "RabbitMQ"),
        (DUE, EXECUTING | QUEUED, "queued_behind_its_own", "run-1"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_every_cause_of_a_delay_has_its_own_finding(
    organization: Organization, progress: dict[str, Any], kind: str, words: str
) -> None:
    found = [finding for finding in delays(organization, **progress) if finding.kind == kind]
    assert len(found) == 1, delays(organization, **progress)
    assert words in f"{found[0].message} {found[0].remedy}"
    assert found[0].organization == "acme"


def test_whoever_is_paused_or_in_quarantine_is_not_said_to_be_due() -> None:
    for organization in (replace(DUE, enabled=False), replace(DUE, quarantine_reason="crashes")):
        assert {finding.kind for finding in delays(organization)} & {"due", "not_due", "ticker_silent"} == set()


FAILED = {
    "failed_run_id": "run-3",
    "failing_since": NOW - timedelta(days=1),
    "failures": 4,
    "succeeded_at": NOW - timedelta(days=2),
    "error_kind": "model_failed",
    "error_message": "1 of 12 models failed: fct. Database Error\n  a value of a row",
}


def test_failing_says_since_when_how_often_and_why_without_values_of_rows() -> None:
    (finding,) = failures(**FAILED)
    assert finding.kind == "failing"
    assert finding.severity is Severity.ERROR
    for words in ("2026-06-14 12:00:00Z", "4 times", "2026-06-13 12:00:00Z", "model_failed", "1 of 12 models failed"):
        assert words in finding.message
    assert "a value of a row" not in finding.message
    assert "runs show run-3" in finding.remedy


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ("Database Error\n  permission denied for schema public", "permission_denied", "source('raw'"),
        ("permission denied for table secrets", "permission_denied", "list of gates"),
        ("permission denied for view issues", "permission_denied", "migrate --roles"),
        ("permission denied for materialized view x", "permission_denied", "view x"),
        ('relation "analytics_raw.goals" does not exist', "relation_absent", "analytics_raw.goals"),
        ("must be owner of table fct", "relation_owned_by_another", "tenants provision acme"),
    ],
)
def test_what_postgres_says_of_a_model_is_explained(message: str, kind: str, words: str) -> None:
    found = [finding for finding in failures(message, **FAILED) if finding.kind == kind]
    assert len(found) == 1
    assert words in f"{found[0].message} {found[0].remedy}"


def test_other_words_of_postgres_are_left_to_the_run() -> None:
    assert [finding.kind for finding in failures("division by zero", **FAILED)] == ["failing"]


def test_a_selected_model_that_the_bundle_lacks_is_named() -> None:
    selection = ["+fct_throughput", "2+fct_thruput+", "tag:marts", "path:models/marts"]
    found = failures(**FAILED | {"failed_selection": selection})
    assert [finding.kind for finding in found] == ["failing", "model_not_in_bundle"]
    assert "2+fct_thruput+" in found[1].message


def test_a_last_success_that_is_too_old_is_lag_unless_it_fails() -> None:
    old = {"succeeded_at": NOW - timedelta(hours=13)}
    assert [finding.kind for finding in failures(**old)] == ["lagging"]
    assert failures(succeeded_at=NOW - timedelta(hours=11)) == []
    assert [finding.kind for finding in failures(**FAILED | old)] == ["failing"]


def test_a_failed_sync_is_told() -> None:
    found = failures(sync_run_id="run-4", sync_error_kind="model_failed", sync_error_message="broken")
    assert [finding.kind for finding in found] == ["sync_failed"]
    assert "runs show run-4" in found[0].remedy
