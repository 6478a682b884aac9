"""What is wrong with the services around the worker: their releases, their clocks, queues, and rights in the store."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from kiket_worker.artifacts.store import Store
from kiket_worker.doctor.finding import Finding, error, info, warning
from kiket_worker.errors import ArtifactsAccessDenied, KiketError, RabbitmqUnreachable
from kiket_worker.ledger.database import Database
from kiket_worker.queue.inspection import inspect
from kiket_worker.settings import Settings

# Roles need the first; what deployments have, and tests run on, is no older than the second.
POSTGRES_NEEDED, POSTGRES_TESTED = 16, 17
RABBITMQ_NEEDED = (3, 8)
DBT_TESTED = (1, 11)
# dbt asks PyPI for the newest release when it tells its own; refused at once, it does without.
_NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
_DBT_SECONDS = 60
# What is due is decided by tickers' clocks. S3 refuses a signature that is a quarter of an hour off.
CLOCK_WARNING_SECONDS, CLOCK_ERROR_SECONDS = 5, 300
# Where no set of artifacts is: a run's folder begins with a slug, which has no dot. Always the same, as whoever may not
# remove it leaves it behind.
PROBES = ".doctor"
_PROBE = f"{PROBES}/probe"

_STORE_REMEDIES = {
    "artifacts_bucket_missing": "make the bucket, or mend ARTIFACTS_URL",
    "artifacts_access_denied": "give the credentials the right that is missing (docs/artifacts.md, Stores, lists them)",
    "artifacts_region_wrong": "set AWS_DEFAULT_REGION to the region that the message names",
    "artifacts_credentials_expired": "see that whatever renews the credentials of AWS_* does so",
    "artifacts_disk_full": "make room, as `kiket-worker artifacts prune` does",
    "artifacts_unreachable": "see that the store answers at ARTIFACTS_URL and AWS_ENDPOINT_URL_S3",
}


def examine_services(
    settings: Settings, database: Database, store: Store, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[Finding]:
    """Everything that is found. The store gets a probe, which goes again where that is allowed; no more is changed."""
    yield from _postgres(database, now)
    yield from _dbt(settings)
    if not settings.in_one_process:
        yield from _rabbitmq(settings)
    yield from examine_store(store)


def _postgres(database: Database, now: Callable[[], datetime]) -> Iterator[Finding]:
    query = b"select current_setting('server_version_num')::integer / 10000 as version, clock_timestamp() as at"
    began = now()
    row = database.rows(query)[0]
    yield from judge_postgres(row["version"])
    # Somewhere between asking and being told, it looked at its clock.
    yield from judge_clocks(began, now(), row["at"])


def judge_postgres(version: int) -> Iterator[Finding]:
    """What is to be said of a Postgres of this major version."""
    if version < POSTGRES_NEEDED:
        yield error(
            "postgres_too_old",
            f"Postgres is {version}, and organisations' roles need {POSTGRES_NEEDED}",
            f"upgrade Postgres to {POSTGRES_TESTED} or newer",
        )
    elif version < POSTGRES_TESTED:
        yield warning(
            "postgres_too_old",
            f"Postgres is {version}, and this release is not tried with less than {POSTGRES_TESTED}",
            f"upgrade Postgres to {POSTGRES_TESTED} or newer",
        )


def judge_clocks(asked: datetime, told: datetime, of_postgres: datetime) -> Iterator[Finding]:
    """What is to be said of Postgres' clock, looked at between two looks at this machine's."""
    off = max((asked - of_postgres).total_seconds(), (of_postgres - told).total_seconds(), 0.0)
    if off > CLOCK_WARNING_SECONDS:
        say = error if off > CLOCK_ERROR_SECONDS else warning
        yield say(
            "clock_skewed",
            f"this machine's clock and that of Postgres differ by {off:.0f} seconds: a ticker here finds due what "
            "is not, or not what is, and S3 refuses signatures that are too far off",
            "keep the clocks of all machines by NTP (chrony, systemd-timesyncd)",
        )


def _dbt(settings: Settings) -> Iterator[Finding]:
    named = settings.dbt_executable
    programs = Path(sys.executable).parent
    if (programs / named).exists() and (programs / named).parent == programs:
        yield from judge_dbt(str(named), f"installed: {version('dbt-core')}")  # Of the same packages.
        return
    found = shutil.which(str(named))
    if not found:
        yield error(
            "dbt_executable_missing",
            f"there is no executable {named}, of KIKET_DBT_EXECUTABLE",
            "mend KIKET_DBT_EXECUTABLE, or leave it out: a dbt is installed beside the worker",
        )
        return
    try:
        done = subprocess.run(
            [found, "--version"],
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | _NO_NETWORK,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DBT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as fault:
        yield error(
            "dbt_executable_broken",
            f"`{named} --version`, of KIKET_DBT_EXECUTABLE, does not end well: {fault}",
            "mend that dbt, or leave KIKET_DBT_EXECUTABLE out: a dbt is installed beside the worker",
        )
        return
    yield from judge_dbt(str(named), done.stdout + done.stderr)


def judge_dbt(named: str, told: str) -> Iterator[Finding]:
    """What is to be said of an executable that tells this of its version; nothing of a dbt that is not dbt-core."""
    core = re.search(r"installed:\s*(\d+)\.(\d+)\S*", told)
    if core and (int(core[1]), int(core[2])) != DBT_TESTED:
        wanted = ".".join(map(str, DBT_TESTED))
        yield warning(
            "dbt_untested",
            f"{named} is dbt-core {core[0].partition(':')[2].strip()}, and this release is tried with {wanted} only",
            f"install dbt-core {wanted}, as the worker's own packages have it (docs/operations.md, Upgrading dbt)",
        )


def _rabbitmq(settings: Settings) -> Iterator[Finding]:
    try:
        found = inspect(settings.rabbitmq_url.get_secret_value())
    except RabbitmqUnreachable as fault:
        yield error(fault.kind, str(fault), "see that RabbitMQ answers at RABBITMQ_URL, with that login and vhost")
        return
    yield from judge_rabbitmq(found.version)
    for name, words in found.refused.items():
        if name in found.forbidden:
            yield error(
                "queue_forbidden",
                f"the login of RABBITMQ_URL may not use the queue {name}: {words}",
                "`rabbitmqctl set_permissions` for it: configure, write and read `kiket\\.analytics\\..*`, and write "
                "`amq\\.default`",
            )
        else:
            yield error(
                "queue_mismatch",
                f"RabbitMQ has the queue {name} with other arguments than this release declares: {words}",
                "let workers of the earlier release finish its messages, delete the queue, and start again: it is "
                "declared anew, and the ledger publishes what waits",
            )


def judge_rabbitmq(version: str) -> Iterator[Finding]:
    """What is to be said of a RabbitMQ that calls itself so; nothing of one that does not say."""
    parts = re.match(r"(\d+)\.(\d+)", version)
    if parts and (int(parts[1]), int(parts[2])) < RABBITMQ_NEEDED:
        needed = ".".join(map(str, RABBITMQ_NEEDED))
        yield error(
            "rabbitmq_too_old",
            f"RabbitMQ is {version}, and quorum queues need {needed}",
            f"upgrade RabbitMQ to {needed} or newer",
        )


def examine_store(store: Store) -> Iterator[Finding]:
    """Whether a file can be written, read and listed, and whether it may be removed, which workers need not.

    What stands in the way is told at each of these, and of what cannot be written, only that.
    """
    content = b"kiket-worker doctor"

    def write() -> None:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(content)
            store.put(_PROBE, Path(file.name), sha256=sha256(content).hexdigest(), content_type="text/plain")

    def read() -> None:
        if store.get(_PROBE) != content:
            raise KiketError("what was read is not what was written")

    def look() -> None:
        if _PROBE not in [one.key for one in store.list(PROBES)]:
            raise KiketError("what was written is not listed")

    def remove() -> None:
        store.remove([_PROBE])

    for what, step in (("written", write), ("read", read), ("listed", look), ("removed", remove)):
        try:
            step()
        except (KiketError, FileNotFoundError) as fault:
            if step is remove and isinstance(fault, ArtifactsAccessDenied):
                yield info(
                    "artifacts_not_removable",
                    f"these credentials may remove nothing from the store, so that a probe stays at "
                    f"{store.location(_PROBE)}",
                    "nothing for workers, who remove nothing; `artifacts prune` needs credentials that may "
                    "(docs/artifacts.md, Stores)",
                )
                return
            kind = (
                fault.kind if isinstance(fault, KiketError) and fault.kind in _STORE_REMEDIES else "artifacts_refused"
            )
            yield error(
                kind,
                f"a probe cannot be {what} at {store.location(_PROBE)}: {' '.join(str(fault).split())}",
                _STORE_REMEDIES.get(kind, "see docs/artifacts.md, Stores, for what a store has to do"),
            )
            if what == "written":
                return
