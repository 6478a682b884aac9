"""`kiket-worker ticker`: queue what is due, at every interval."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from kiket_worker.changelog.cadence import ChangelogCadence
from kiket_worker.cli.monitoring import monitored
from kiket_worker.cli.signals import Signals
from kiket_worker.cli.worker import Working, open_database
from kiket_worker.definitions.trial.left import PREFIX, is_left
from kiket_worker.errors import UsageError
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.level import check_level
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.monitoring.vitals import Pulse
from kiket_worker.queue.broker import open_broker
from kiket_worker.queue.publisher import publish_run
from kiket_worker.refresh.services import process_name
from kiket_worker.schedule.sweep import sweep as sweep_sessions
from kiket_worker.schedule.ticker import tick, tick_until
from kiket_worker.settings import IsolationMode, Settings, load_settings
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.tenants.provisioning import Limits, drop_probes


def ticker(
    once: Annotated[bool, typer.Option("--once", help="Tick once and end; for a scheduler of one's own.")] = False,
    changelog_interval_hours: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=8760,
            help="Evaluate changelogs too, so often; 0 never. KIKET_CHANGELOG_INTERVAL_HOURS unless given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Queue the organisations that are due and publish their messages, until a signal comes.

    With RABBITMQ_URL=memory:// it also does the worker's part, in this process.
    """
    set_up_logs()
    settings = load_settings()
    if once and settings.in_one_process:
        raise UsageError("with RABBITMQ_URL=memory:// the ticker is the worker too, and has to stay: leave --once out")
    with open_database(settings, settings.concurrency) as database, _telling(settings):
        check_level(database)
        broker = open_broker(settings)
        pulse = Pulse(rest_seconds=min(settings.outbox_interval_seconds, settings.tick_interval_seconds))

        def publish(run: Waiting) -> None:
            pulse.beat()  # Ten thousand of these in one tick are life enough.
            publish_run(broker, run)

        sweep = _sweep(settings, database)
        changelogs = _changelogs(settings, database, changelog_interval_hours)
        if once:
            tick(
                database,
                publish,
                now=datetime.now(UTC),
                republish_after_seconds=settings.republish_after_seconds,
            )
            sweep()
            if changelogs:
                changelogs.run_if_due()
            broker.close()
            return
        # Only now: while connecting, a signal ends the command at once.
        with Signals() as signals, monitored(settings, database, broker) as monitoring:
            working = Working(settings, database, broker, settings.concurrency) if settings.in_one_process else None
            if monitoring:
                monitoring.add_ticker(pulse.goes_on)
                if working:
                    working.add_to(monitoring)

            def look_after() -> None:
                if changelogs:
                    changelogs.begin_if_due()
                sweep()

            tick_until(
                signals.asked,
                database,
                publish,
                look_after,
                pulse.beat,
                interval_seconds=settings.tick_interval_seconds,
                outbox_interval_seconds=settings.outbox_interval_seconds,
                republish_after_seconds=settings.republish_after_seconds,
            )
            if changelogs:
                changelogs.stop()
            if working:
                working.end(signals)
            else:
                broker.close()


@contextmanager
def _telling(settings: Settings) -> Iterator[None]:
    """Send the ticker's events to a collector until the block ends, where one is named."""
    if settings.in_one_process or not settings.exports_logs:  # In one process, the worker's part does so.
        yield
        return
    from kiket_worker.telemetry.process import Telemetry  # noqa: PLC0415  # an SDK, for those who have a collector

    telemetry = Telemetry.from_settings(settings, process_name())
    try:
        yield
    finally:
        telemetry.close()


def _sweep(settings: Settings, database: Database) -> Callable[[], None]:
    if settings.isolation is IsolationMode.SHARED:
        # Whose sessions they are, only names would tell.
        return lambda: None
    limits = Limits.from_settings(settings)

    def sweep() -> None:
        sweep_sessions(database, limits)
        drop_probes(database, PREFIX, is_left)

    return sweep


def _changelogs(settings: Settings, database: Database, interval_hours: int | None) -> ChangelogCadence | None:
    hours = settings.changelog_interval_hours if interval_hours is None else interval_hours
    if not hours:
        return None
    return ChangelogCadence(database, interval_hours=hours, output=settings.changelog_output)
