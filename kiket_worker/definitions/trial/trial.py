"""A trial of an overlay: the parent's side, which makes the role and the schema, and ends what does not end."""

import json
import secrets
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.child import keep_end, run_child
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Tenant
from kiket_worker.dbt.invocation import arguments, environment
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.dbt.workdir import workdir
from kiket_worker.definitions import rules
from kiket_worker.definitions.problem import Problem, Severity
from kiket_worker.definitions.trial.left import PREFIX, is_left, new_slug
from kiket_worker.errors import DbtKilled, DefinitionsUntried
from kiket_worker.ledger.database import Connection, Database
from kiket_worker.tenants.isolation import Isolation
from kiket_worker.tenants.login import Login, session
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import schema_name

_OUTPUT_BYTES_KEPT = 4000


@dataclass(frozen=True)
class Tried:
    """What a trial found. `unbuilt` are models that are not there because of what is wrong with them or others."""

    problems: tuple[Problem, ...]
    unbuilt: frozenset[str]
    session: Connection
    schema: str


class Trials:
    """Where overlays are tried: the database of an installation, and how it keeps organisations apart."""

    def __init__(
        self, database: Database, isolation: Isolation, connection: DbtConnection, *, time_limit_seconds: float
    ) -> None:
        self._database = database
        self._isolation = isolation
        self._connection = connection
        self._time_limit_seconds = time_limit_seconds

    @contextmanager
    def tried(
        self, overlay: Overlay, name: str, others: Mapping[str, Overlay], unread: Collection[str]
    ) -> Iterator[Tried]:
        """Try an overlay; what was found has a session in which its relations are, until the block ends.

        `unread` are files of it that could not be read. Afterwards the schema and the role are gone. Raises
        `DefinitionsUntried`, and what provisioning raises.
        """
        self._isolation.drop_probes(self._database, PREFIX, is_left)
        candidate = Candidate(
            # Of Postgres' type integer, as a literal of a small id is; no organisation's.
            1_000_000_000 + secrets.randbelow(1_000_000_000),
            new_slug(),
        )
        schema = schema_name(candidate.slug)
        with (
            workdir() as folder,
            self._isolation.probe(self._database, candidate, schema) as login,
            self._isolation.empty_sources(candidate, schema) as (raw_schema, ledger_schema),
        ):
            tenant = Tenant(
                organization_id=candidate.organization_id,
                slug=candidate.slug,
                schema=schema,
                # Shared models are built in the same place: whether this installation has them yet does not matter.
                shared_schema=schema,
                raw_schema=raw_schema,
                ledger_schema=ledger_schema,
                user=login.role if login else None,
                password=login.password if login else "",
            )
            given = arguments(Bundle(folder), tenant, workdir=folder, target=folder / "target")
            request = {
                "folder": str(folder),
                "name": name,
                "files": dict(overlay.files),
                "others": {other: dict(its.files) for other, its in others.items()},
                "unread": sorted(unread),
                "arguments": _without_project(given),
                "role": tenant.user,
            }
            problems, unbuilt = self._run(folder, request, tenant)
            role = login or Login(self._connection.user, self._connection.password)
            with session(self._connection.address, role) as connection:
                yield Tried(problems, unbuilt, connection, schema)

    def _run(self, folder: Path, request: dict[str, Any], tenant: Tenant) -> tuple[tuple[Problem, ...], frozenset[str]]:
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        said = bytearray()
        cancellation = Cancellation()
        began = time.monotonic()
        variables = environment(self._connection, tenant, workdir=folder, application_name=f"kiket-{tenant.slug}")
        cancellation.allow(began + self._time_limit_seconds)
        was_killed, code = False, 1
        try:
            code = run_child(
                [sys.executable, "-I", "-m", "kiket_worker.definitions.trial.process", str(folder / "request.json")],
                folder=folder,
                environment=variables,
                read=lambda pipe: keep_end(pipe, said, most_bytes=_OUTPUT_BYTES_KEPT),
                cancellation=cancellation,
            )
        except DbtKilled:
            was_killed = True
        report = _report(folder)
        # By a signal, as guards tell it: killed by us or by the kernel, or a stack that has run over.
        has_died = was_killed or code >= 128 or b"MemoryError" in said
        if report is None or (code != 0 and not has_died):
            words = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise DefinitionsUntried(f"the definitions could not be tried: {words or f'exit code {code}'}")
        problems = [Problem(**problem | {"severity": Severity(problem["severity"])}) for problem in report["problems"]]
        if code != 0:
            ran_out = time.monotonic() - began >= self._time_limit_seconds
            limit = f"more than {self._time_limit_seconds:g} seconds" if ran_out else "more memory than it may"
            problems.append(rules.PARSE_LIMIT.problem(report["at"], 1, f"reading and building it took {limit}"))
        unbuilt = frozenset(report["unbuilt"]) | (frozenset(report["models"]) if code != 0 else frozenset())
        return tuple(problems), unbuilt


def _without_project(given: list[str]) -> list[str]:
    """dbt's arguments but for the folders of the project, which the process makes itself."""
    return [
        argument
        for option, value in zip(given[::2], given[1::2], strict=True)
        if option not in {"--project-dir", "--profiles-dir"}
        for argument in (option, value)
    ]


def _report(folder: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document
