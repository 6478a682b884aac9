"""Real failures of real processes: each is told of by the lines and the numbers that its alert looks at, and no other.

All failures happen once, to one installation, and what they left is looked at from every side.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pika
import pytest
import yaml

from kiket_worker.contract import QUEUE_REQUESTS
from kiket_worker.dev import rabbitmq
from kiket_worker.events import CATALOGUE
from kiket_worker.telemetry.log_line import schema_document
from tests.faults.proxy import Proxy
from tests.faults.site import DBT, Service, Site
from tests.support import alerts
from tests.support.alerts import LogAlert
from tests.support.dbt_scripts import until
from tests.support.scrapes import samples

MONITORED = {"KIKET_METRICS_ADDRESS": "127.0.0.1:0", "KIKET_CONCURRENCY": "1", "KIKET_MAX_CRASHES": "2"}

Line = dict[str, Any]
Scrape = dict[str, float]


@dataclass
class Aftermath:
    """What the failures have left: every line of every process, in its order, and the last scrape of each."""

    lines: list[Line] = field(default_factory=list)
    scrapes: dict[str, Scrape] = field(default_factory=dict)
    outage: Scrape = field(default_factory=dict)
    cut_off: str = ""

    def of(self, name: str, **fields: object) -> list[Line]:
        """The lines of an event with these fields."""
        wanted = {"event": name} | fields
        return [line for line in self.lines if wanted.items() <= line.items()]


class Incident:
    """One installation, and the failures that happen to it one after the other."""

    def __init__(self, site: Site, s3: Proxy, rabbitmq_of_ticker: Proxy) -> None:
        self.site = site
        self.s3 = s3
        self.rabbitmq_of_ticker = rabbitmq_of_ticker
        self.left = Aftermath()

    def start(self, command: str, **variables: str) -> Service:
        service = self.site.start(command, **MONITORED, **variables)
        service.until_event("monitoring.started")
        if command == "worker":
            service.until_event("worker.started")
        return service

    def scrape(self, service: Service) -> Scrape:
        found = samples(f"http://{service.events('monitoring.started')[0]['address']}")
        self.left.scrapes[service.log.stem] = found
        return found

    def all_succeed(self) -> None:
        for slug in ("acme", "blue-harbor", "north_star", "quiet-orchard"):
            self.site.ask(slug, idempotency_key=f"first-{slug}")
        self.site.until_succeeded("acme", "blue-harbor", "north_star", "quiet-orchard")

    def a_model_fails(self) -> None:
        self.site.execute("alter table analytics_org_blue_harbor.built add constraint broken check (false) not valid")
        self.site.ask("blue-harbor", idempotency_key="broken")
        self.until_line("run.failed", "blue-harbor")

    def a_worker_is_cut_off(self) -> None:
        with self.site.held(DBT) as held:
            self.site.ask("acme", idempotency_key="cut-off")
            held.until_reached()
            (lease,) = self.site.rows("select worker from kiket_analytics.leases where worker is not null")
            stopped = self.site.service_of(lease["worker"])
            stopped.send(signal.SIGSTOP)
            self.until_line("run.taken_over", "acme")
            held.open()
            self.site.until(lambda: self.count("acme") == 2, "another worker has refreshed it")
        stopped.send(signal.SIGCONT)
        self.left.cut_off = stopped.until_event("lease.lost")["worker"]

    def the_store_is_away(self) -> None:
        self.s3.refuse()
        self.site.ask("north_star", idempotency_key="no-store")
        self.until_line("run.retried", "north_star")
        self.s3.restore()
        self.site.until(lambda: self.count("north_star") == 2, "the store is back and it is refreshed")

    def messages_are_poison(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.site.rabbitmq_url)) as connection:
            for body in (b"not json", b'{"version": 1, "organization": "nobody"}'):
                connection.channel().basic_publish("", QUEUE_REQUESTS, body)
        until(lambda: len(self.lines("refresh.rejected")) == 2, "both are refused")

    def a_tenant_kills_its_workers(self, workers: list[Service]) -> None:
        (self.site.folder / "crash-quiet-orchard").touch()
        self.site.ask("quiet-orchard", idempotency_key="crash")
        self.site.until(lambda: all(worker.has_ended() for worker in workers), "both workers are dead")
        last = self.start("worker")
        last.until_event("organization.quarantined")
        self.scrape(last)
        last.send(signal.SIGTERM)
        last.process.wait(20)

    def nobody_is_told_of_what_is_due(self, ticker: Service) -> None:
        self.rabbitmq_of_ticker.refuse()
        self.site.execute(
            "update kiket_analytics.analytics_settings set last_run_at = now() - interval '30 days'"
            " where organization_id = (select id from public.organizations where slug = 'acme')"
        )
        ticker.until_event("ticker.failed")

        def is_behind() -> bool:
            self.left.outage = self.scrape(ticker)
            return self.left.outage["kiket_queue_up"] == 0 and self.left.outage["kiket_oldest_due_seconds"] > 1800

        until(is_behind, "the ticker says that nobody refreshes what is due")

    def count(self, slug: str) -> int:
        return len(
            self.site.rows(
                "select from kiket_analytics.runs where organization_slug = %s and status = 'succeeded'", slug
            )
        )

    def lines(self, name: str) -> list[Line]:
        return [line for service in self.site.services for line in service.events(name)]

    def until_line(self, name: str, slug: str) -> None:
        self.site.until(lambda: [line for line in self.lines(name) if line["organization"] == slug], f"{slug}: {name}")


@pytest.fixture(scope="module")
def aftermath(
    tmp_path_factory: pytest.TempPathFactory, sample_databases: Any, rabbitmq_folder: Path, s3_bucket: str
) -> Iterator[Aftermath]:
    rabbitmq_url = rabbitmq.start(rabbitmq_folder)
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
    with ExitStack() as stack:
        site = Site.prepare(tmp_path_factory.mktemp("alarms"), sample_databases[0].url, rabbitmq_url)
        stack.callback(site.end)
        s3 = stack.enter_context(Proxy((endpoint.hostname or "", endpoint.port or 0)))
        mq = stack.enter_context(Proxy(("127.0.0.1", urlsplit(rabbitmq_url).port or 0)))
        site.variables |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        site.variables |= {
            "ARTIFACTS_URL": f"s3://{s3_bucket}/alarms",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3.port}",
        }
        incident = Incident(site, s3, mq)
        ticker = incident.start("ticker", RABBITMQ_URL=f"amqp://guest:guest@127.0.0.1:{mq.port}/%2F")
        workers = [incident.start("worker") for _ in range(2)]

        incident.all_succeed()
        incident.a_model_fails()
        incident.a_worker_is_cut_off()
        incident.the_store_is_away()
        incident.messages_are_poison()
        for service in (ticker, *workers):
            incident.scrape(service)
        incident.a_tenant_kills_its_workers(workers)
        quiet = incident.left.scrapes[ticker.log.stem]
        incident.nobody_is_told_of_what_is_due(ticker)
        incident.left.scrapes[ticker.log.stem] = quiet

        site.stop()
        for service in site.services:
            incident.left.lines += [json.loads(line) for line in service.log.read_text().splitlines()]
        yield incident.left


def selected(aftermath: Aftermath, rules: list[LogAlert]) -> dict[str, list[Line]]:
    """The lines that each rule selects, of the rules that select any."""
    found = {alert.name: [line for line in aftermath.lines if alert.rule.selects(line)] for alert in rules}
    return {name: lines for name, lines in found.items() if lines and name != "KiketTickerAbsent"}


@pytest.mark.parametrize("rules", [alerts.loki(), alerts.cloudwatch()], ids=["loki", "cloudwatch"])
def test_each_rule_selects_the_lines_of_its_failure_and_no_other(aftermath: Aftermath, rules: list[LogAlert]) -> None:
    found = selected(aftermath, rules)
    assert found == {
        "KiketModelFailed": aftermath.of("run.failed", organization="blue-harbor"),
        "KiketLeaseLost": aftermath.of("lease.lost", worker=aftermath.cut_off),
        "KiketArtifactStoreDown": aftermath.of("run.retried", organization="north_star"),
        "KiketMessageRejected": aftermath.of("refresh.rejected"),
        "KiketOrganizationQuarantined": aftermath.of("organization.quarantined", organization="quiet-orchard"),
        "KiketWorkerDied": [
            line for line in aftermath.of("run.taken_over") if line["organization"] in {"acme", "quiet-orchard"}
        ],
        "KiketServiceUnreachable": aftermath.of("ticker.failed"),
    }
    times = {name: len(lines) for name, lines in found.items()}
    del times["KiketServiceUnreachable"], times["KiketArtifactStoreDown"]  # As often as they were tried in vain.
    assert times == {
        "KiketModelFailed": 1,
        "KiketLeaseLost": 1,
        "KiketMessageRejected": 2,
        "KiketOrganizationQuarantined": 1,
        "KiketWorkerDied": 3,
    }
    assert {line["error_kind"] for line in found["KiketModelFailed"]} == {"model_failed"}
    assert {line["error_kind"] for line in found["KiketArtifactStoreDown"]} == {"artifacts_unreachable"}


def test_what_no_rule_selects_is_no_failure_of_its_own(aftermath: Aftermath) -> None:
    rules = alerts.loki()
    unheard = [line for line in aftermath.lines if not any(alert.rule.selects(line) for alert in rules)]
    loud = {(line["event"], line.get("error_kind")) for line in unheard if line["level"] in {"warning", "error"}}
    # The first is told of as a failed run, the second as a quarantine; libraries speak of what a failure did to them.
    assert loud - {("library.warned", None)} == {("model.failed", None), ("run.failed", "attempts_exhausted")}
    assert not any(alert.rule.selects(line) for alert in rules for line in aftermath.of("run.succeeded"))
    assert len(aftermath.of("run.succeeded")) == 6


def test_every_line_of_a_good_and_a_failed_run_follows_the_schema(aftermath: Aftermath) -> None:
    schema = jsonschema.Draft202012Validator(schema_document())
    for line in aftermath.lines:
        schema.validate(line)
    seen = {line["event"] for line in aftermath.lines}
    assert {"run.claimed", "model.finished", "run.archived", "run.succeeded", "model.failed", "run.failed"} <= seen
    assert seen <= set(CATALOGUE)


def firing(folder: Path, scrapes: dict[str, Scrape], at: str) -> set[str]:
    """What fires, as Prometheus' own tool says, when these numbers were scraped: counters from 0 on, at minute 5."""
    given = [
        {
            "series": _with_instance(series, instance),
            "values": f"0x4 {value:g}x60" if "_total" in series else f"{value:g}x60",
        }
        for instance, scrape in scrapes.items()
        for series, value in scrape.items()
        if series.startswith("kiket_")
    ]
    document = {
        "rule_files": [str(alerts.PROMETHEUS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": at,
                        # What nothing gives: the tool then prints what it got.
                        "exp_samples": [{"labels": '{alertname="none"}', "value": 1}],
                    }
                ],
            }
        ],
    }
    file = folder / "scraped.test.yaml"
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=120, check=False)
    (got,) = re.findall(r"got: ?(.*)", done.stdout + done.stderr)
    return set(re.findall(r'alertname="(\w+)"', got))


def _with_instance(series: str, instance: str) -> str:
    label = f'instance="{instance}"'
    return f"{series[:-1]},{label}}}" if series.endswith("}") else f"{series}{{{label}}}"


def test_the_rules_on_metrics_say_the_same_of_the_numbers_that_were_scraped(
    aftermath: Aftermath, tmp_path: Path
) -> None:
    assert firing(tmp_path, aftermath.scrapes, "12m") == {
        *("KiketModelFailed", "KiketLeaseLost", "KiketArtifactStoreDown", "KiketMessageRejected"),
        *("KiketOrganizationQuarantined", "KiketWorkerDied"),
    }
    assert firing(tmp_path, aftermath.scrapes, "40m") == {"KiketDeadLettersWait"}


def test_what_is_overdue_is_told_of_by_the_ticker_that_cannot_publish(aftermath: Aftermath, tmp_path: Path) -> None:
    worker = {"kiket_worker_concurrency": 1.0}
    assert aftermath.outage["kiket_due_organizations"] == 1
    assert aftermath.outage['kiket_active_runs{status="queued"}'] == 1
    assert firing(tmp_path, {"ticker": aftermath.outage, "worker": worker}, "40m") == {
        *("KiketOrganizationsOverdue", "KiketServiceUnreachable"),
    }
