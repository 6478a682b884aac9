"""Why an organisation's refresh is late, or is not due. Takes values and gives findings: no clock, no database."""

from collections.abc import Iterator, Mapping
from typing import Any

from kiket_worker.doctor.capacity import TICKER_REMEDY, is_silent
from kiket_worker.doctor.finding import Finding, at, error, info, warning
from kiket_worker.ledger.organizations import Organization


def explain_delays(
    organization: Organization, progress: Mapping[str, Any], *, tick_interval_seconds: float
) -> Iterator[Finding]:
    """Who or what the next refresh waits for. `progress` is the row of `sql/progress.sql`."""
    yield from _settings_of_it(organization)
    yield from _delay(organization, progress, tick_interval_seconds)


def _settings_of_it(one: Organization) -> Iterator[Finding]:
    if not one.enabled:
        yield warning(
            "organization_disabled",
            f"analytics is not enabled for {one.slug}, so nothing is scheduled",
            f"`kiket-worker settings set {one.slug} --enabled`",
            one.slug,
        )
    if one.quarantine_reason:
        yield error(
            "organization_quarantined",
            f"{one.slug} is in quarantine: {one.quarantine_reason}",
            f"find what killed its workers, then `kiket-worker settings release {one.slug}`",
            one.slug,
        )
    if one.interval_hours is None:
        yield error(
            "plan_unknown",
            f"{one.slug} has the plan {one.plan!r}, which has no interval, so it never becomes due",
            f"`kiket-worker settings set {one.slug} --interval-hours 24`, or correct the plan",
            one.slug,
        )


def _delay(one: Organization, progress: Mapping[str, Any], tick_interval_seconds: float) -> Iterator[Finding]:
    if progress["executing_run_id"]:
        yield _executing(one.slug, progress)
    if progress["queued_run_id"]:
        yield _queued(one.slug, progress)
    if progress["executing_run_id"] or progress["queued_run_id"]:
        return
    if not one.enabled or one.quarantine_reason or one.due_at is None:
        return
    if one.due_at > progress["now"]:
        yield info(
            "not_due",
            f"{one.slug} is next due at {at(one.due_at)}: every {one.interval_hours} h, last run {at(one.last_run_at)}",
            f"nothing; `kiket-worker refresh {one.slug}` refreshes it now",
            one.slug,
        )
        return
    if is_silent(progress["tick_age_seconds"], tick_interval_seconds):
        yield error(
            "ticker_silent",
            f"{one.slug} is due since {at(one.due_at)} and not queued: the last tick was {at(progress['ticked_at'])}",
            TICKER_REMEDY,
            one.slug,
        )
    else:
        yield info(
            "due",
            f"{one.slug} is due since {at(one.due_at)}, and is queued with the next tick",
            "nothing",
            one.slug,
        )


def _executing(slug: str, progress: Mapping[str, Any]) -> Finding:
    run, since = progress["executing_run_id"], f"{progress['executing_seconds']:.0f} s"
    if progress["retry_at"] and progress["retry_at"] > progress["now"]:
        return warning(
            "waits_for_retry",
            f"run {run} of {slug} met a fault that may pass, and is tried again at {at(progress['retry_at'])}",
            "see to the service that the event run.retried names",
            slug,
        )
    if progress["lease_worker"] is None:
        return warning(
            "waits_for_worker",
            f"run {run} of {slug} was given back and waits for a worker",
            "see that a `kiket-worker worker` and a `kiket-worker ticker` run",
            slug,
        )
    if progress["lease_has_expired"]:
        return error(
            "worker_silent",
            f"worker {progress['lease_worker']}, which has run {run} of {slug}, has let its lease expire",
            "see that a `kiket-worker ticker` runs and another worker: they take the run over",
            slug,
        )
    return info(
        "executing",
        f"run {run} of {slug} is {progress['executing_status']} at {progress['executing_worker']} for {since}",
        f"nothing; `kiket-worker runs show {run}` follows it",
        slug,
    )


def _queued(slug: str, progress: Mapping[str, Any]) -> Finding:
    run, since = progress["queued_run_id"], f"{progress['queued_seconds']:.0f} s"
    if progress["executing_run_id"]:
        return info(
            "queued_behind_its_own",
            f"run {run} of {slug} waits until run {progress['executing_run_id']} has ended",
            "nothing",
            slug,
        )
    if progress["published_at"] is None:
        return warning(
            "not_published",
            f"run {run} of {slug} waits for {since}, and its message was not published yet",
            "see that a `kiket-worker ticker` runs and reaches RabbitMQ",
            slug,
        )
    return warning(
        "queued",
        f"run {run} of {slug} waits for {since}, behind {progress['runs_ahead']} others; "
        f"{progress['runs_executing']} are being executed",
        "if that takes too long, start more workers; if none is executed, see that a `kiket-worker worker` runs",
        slug,
    )
