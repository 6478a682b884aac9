"""What must not be found in anything that a refresh leaves: secrets, and values of organisations' rows."""

import gzip
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.ledger import runs
from kiket_worker.ledger.runs import Request, Status
from kiket_worker.refresh.bundles import PublishedBundles
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.services import Services, open_services, prepare
from kiket_worker.telemetry.logs import set_up_logs
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import reader_name, schema_name
from tests.support import warm_dbt
from tests.support.collector import Collector, collector
from tests.support.dbt_scripts import until
from tests.support.installations import Installation
from tests.support.refreshes import shared_models
from tests.support.tenants import KEYS, SECRETS, settings_of
from tests.support.twins import project

ROW = "Zanzibar merger with Xanthippe"
WORDS_OF_THE_ROW = ("Zanzibar", "merger", "Xanthippe")

_ISSUES = "from {{ source('raw', 'issues') }}"
_TABLE = "{{ config(materialized='table', post_hook=hook) }} select id, title " + _ISSUES
_EACH = "do $$ declare words text; begin for words in select title from {{ this }} loop %s end loop; end $$"


def _with_hook(hook: str) -> str:
    return f"{{% set hook %}}{hook}{{% endset %}}{_TABLE}"


# Each fails where there is an issue, and Postgres tells of the row in another way.
FAILING = {
    "quoted": "{{ config(materialized='table') }} select title::integer as number " + _ISSUES,
    "doubled": _with_hook("insert into {{ this }} select * from {{ this }}; create unique index on {{ this }} (title)"),
}
# And these in ways that cannot be replayed.
NOT_REPLAYED = {
    "checked": _with_hook("alter table {{ this }} add constraint short check (length(title) < 3)"),
    "not_null": _with_hook(
        "alter table {{ this }} add column gone text; alter table {{ this }} alter gone set not null"
    ),
    "raised": _with_hook(_EACH % "raise exception '%', words using hint = words, detail = words;"),
    "dynamic": _with_hook(_EACH % "execute format('select %L::integer', words);"),
}


@dataclass
class Left:
    """Everything that was left somewhere, by what it is."""

    found: dict[str, str] = field(default_factory=dict)

    def assert_without(self, *words: str) -> None:
        for what, text in self.found.items():
            for word in words:
                assert word not in text, f"{word} in {what}: …{text[max(0, text.index(word) - 200) :][:400]}…"


@dataclass
class Site:
    """An installation whose every secret is known to the test, with a bucket and a collector."""

    installation: Installation
    services: Services
    log: io.StringIO
    collector: Collector
    bucket: str
    prefix: str
    secrets: list[str]

    def refresh(self, candidate: Candidate) -> Status:
        ledger = self.installation.ledger
        run_id = runs.request(ledger, Request(candidate.organization_id, candidate.slug)).run_id
        refresh(run_id, self.services, Cancellation())
        return runs.get(ledger, run_id).status

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, self.log.getvalue().splitlines()) if event["event"] == name]

    def left(self) -> Left:
        self.services.telemetry.close()
        client, found = boto3.client("s3"), Left()
        for item in client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix)["Contents"]:
            raw = client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
            found.found[item["Key"]] = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
        found.found["log"] = self.log.getvalue()
        found.found["collector"] = f"{self.collector.logs}{self.collector.traces}"
        for table in ("runs", "run_models", "attempts", "usage_events"):
            found.found[table] = str(self.installation.rows(f"select * from kiket_analytics.{table}"))
        return found


@pytest.fixture
def site(
    installation: Installation, tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str], str], Site]]:
    """Set up the site for a project of these models and an engine."""
    made: list[Site] = []
    with collector() as receiving:

        def set_up(models: dict[str, str], engine: str) -> Site:
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-s3-key")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiving.url)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=planted-token")
            bundle = project(tmp_path / "project", models)
            installation.execute(shared_models(bundle))
            settings = settings_of(
                installation.ledger_url,
                ARTIFACTS_URL=f"s3://{s3_bucket}/{tmp_path.name}",
                KIKET_DBT_ENGINE=engine,
                KIKET_DBT_EXECUTABLE=warm_dbt.executable(),
                KIKET_SHADOW_CHECK_SHARE=0,
            )
            log = io.StringIO()
            set_up_logs(log)
            services = open_services(settings, installation.ledger, lambda _: None)
            services = replace(services, bundles=PublishedBundles(bundle, services.store))
            secrets = [
                SECRETS.ledger_password,
                SECRETS.tenant_keys.partition(":")[2],
                "planted-s3-key",
                "planted-token",
            ]
            made.append(Site(installation, services, log, receiving, s3_bucket, tmp_path.name, secrets))
            return made[-1]

        yield set_up
        for site in made:
            site.services.telemetry.close()


@contextmanager
def watched() -> Iterator[Left]:
    """Look at the arguments and environments of all processes that this one starts, again and again."""
    seen, ended = Left(), threading.Event()

    def look() -> None:
        # Each of them lives for a second at least, and to look through all processes takes a while.
        while not ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    seen.found[f"arguments of {process.pid}"] = " ".join(process.cmdline())
                    environment = process.environ()
                except psutil.Error:
                    continue
                if "DBT_APPLICATION_NAME" in environment:
                    seen.found[f"environment of {process.pid}"] = str(environment)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def plant(installation: Installation) -> tuple[Candidate, Candidate]:
    """An organisation with one issue, whose title is a secret, and one with none."""
    full, empty = installation.add(), installation.add()
    key = installation.rows("select max(id) + 1 as id from public.issues")[0]["id"]
    installation.execute(
        "insert into public.projects values (%s, %s, 'P', 'p', false, now())", key, full.organization_id
    )
    installation.execute(
        "insert into public.issues (id, organization_id, project_id, issue_type, title, status, priority, created_at,"
        " updated_at) values (%s, %s, %s, 'task', %s, 'todo', 'low', now(), now())",
        key,
        full.organization_id,
        key,
        ROW,
    )
    return full, empty


def passwords(*candidates: Candidate) -> list[str]:
    names = [name for one in candidates for name in (schema_name(one.slug), reader_name(one.slug))]
    return [KEYS.password(name, KEYS.current) for name in names]


def test_neither_secrets_nor_rows_are_in_anything_that_dbts_runs_leave(site: Callable[..., Site]) -> None:
    made = site(FAILING | NOT_REPLAYED, "executable")
    full, empty = plant(made.installation)
    with watched() as processes:
        assert made.refresh(full) is Status.FAILED
        assert made.refresh(empty) is Status.SUCCEEDED
    assert len(made.events("model.failed")) == len(FAILING | NOT_REPLAYED)
    left = made.left()
    assert {key.rpartition("/")[2] for key in left.found} >= {"manifest.json", "run_results.json", "dbt.log", "log"}
    left.assert_without(*WORDS_OF_THE_ROW)
    left.assert_without(*made.secrets, *passwords(full, empty))
    assert any("environment of" in name for name in processes.found)
    processes.assert_without(*WORDS_OF_THE_ROW, *made.secrets, *passwords(full, empty))


def test_neither_secrets_nor_rows_are_in_anything_that_replays_leave(site: Callable[..., Site]) -> None:
    made = site(FAILING, "replay")
    full, empty = plant(made.installation)
    prepare(made.services)
    until(lambda: made.events("engine.compiled"), "the bundle to be compiled", seconds=120)
    assert made.refresh(full) is Status.FAILED
    assert made.refresh(empty) is Status.SUCCEEDED
    assert [event["error"] for event in made.events("engine.deoptimised")] == []
    assert len(made.events("model.failed")) == len(FAILING)
    left = made.left()
    left.assert_without(*WORDS_OF_THE_ROW)
    left.assert_without(*made.secrets, *passwords(full, empty))
