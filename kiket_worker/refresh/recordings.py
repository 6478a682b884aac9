"""dbt recorded for probes, and what that proves: each in a process of its own, whose memory ends with it.

A recording is several times as large as the bundle that is made of it. A worker that read recordings itself would keep
pages of that for good, as what it needs for longer is made in between.
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.child import keep_end, run_child
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.executable import time_limit
from kiket_worker.dbt.invocation import arguments, command_of, environment
from kiket_worker.dbt.replay.probe import Probe, pair, values_of
from kiket_worker.dbt.replay.proof import FULL_REFRESH, STATES, ProbeFailed
from kiket_worker.dbt.workdir import workdir
from kiket_worker.errors import CompilationFailed, WorkerStopped
from kiket_worker.ledger.database import Database
from kiket_worker.tenants.isolation import Isolation
from kiket_worker.tenants.provisioning import Candidate

# What dbt's Jinja is to be told of a node's query, both with holes, instead of what the database says of a probe.
Answers = dict[str, list[list[str | None]]]

# Less than the lease of a compilation.
_TIME_LIMIT_SECONDS = 360
_OUTPUT_BYTES_KEPT = 2000


@dataclass(frozen=True)
class Subject:
    """What dbt is recorded with. Of the tenant, only what is the same for all tenants counts."""

    bundle: Bundle
    tenant: Tenant
    options: Options
    answers: Answers = field(default_factory=dict)


# As the prover takes it: where the recorder has written, and what stands there instead of holes.
_Recording = dict[str, Any]


class Recordings:
    """Records dbt in an installation."""

    def __init__(self, database: Database, isolation: Isolation, connection: DbtConnection, command: str) -> None:
        self._database = database
        self._isolation = isolation
        self._connection = connection
        self._command = command

    def prove(self, key: str, versions: dict[str, str], subject: Subject, cancellation: Cancellation) -> bytes:
        """The compiled bundle as it is stored, from recordings of two probes in every state.

        Raises `ProbeFailed` and `CompilationFailed`, and what `run_child` raises.
        """
        with workdir() as folder, time_limit(_TIME_LIMIT_SECONDS, cancellation), ThreadPoolExecutor(2) as pool:
            waiting = [
                pool.submit(self._record, probe, folder / name, _of_probe(subject, probe), STATES, cancellation)
                for probe, name in zip(pair(), ("first", "second"), strict=True)
            ]
            try:
                # Where one has failed, the other is of no use any more.
                for recording in wait(waiting, return_when=FIRST_EXCEPTION).done:
                    recording.result()
                recordings = [recording.result() for recording in waiting]
            except BaseException:  # An interrupt too: neither is waited for any longer.
                cancellation.cancel(WorkerStopped("the compilation was ended"))
                raise
            bundle = folder / "bundle"
            asked = {"known": None, "key": key, "versions": versions, "bundle": str(bundle)}
            if failed := _judged(folder, asked, recordings, cancellation):
                raise ProbeFailed(failed)
            return bundle.read_bytes()

    def compare(self, key: str, known: bytes, subject: Subject, cancellation: Cancellation) -> list[str]:
        """Where dbt does something else for the organisation, in a probe's schema, than would be replayed there.

        `known` is the compiled bundle as it is stored. Raises `CompilationFailed`, and what `run_child` raises.
        """
        with workdir() as folder, time_limit(_TIME_LIMIT_SECONDS, cancellation):
            recording = self._record(pair()[0], folder / "check", subject, STATES[:1], cancellation)
            (folder / "known").write_bytes(known)
            return _judged(folder, {"known": str(folder / "known"), "key": key}, [recording], cancellation)

    def _record(
        self, probe: Probe, folder: Path, subject: Subject, states: Sequence[str], cancellation: Cancellation
    ) -> _Recording:
        """What dbt does for the subject's tenant, by the probe's clock and in its schema, which is gone afterwards."""
        tenant = subject.tenant
        candidate = Candidate(tenant.organization_id, probe.slug)
        with self._isolation.probe(self._database, candidate, probe.schema) as login:
            beside = replace(
                tenant,
                schema=probe.schema,
                user=login.role if login else None,
                password=login.password if login else "",
                session=None,
            )
            return self._run_recorder(probe, folder, replace(subject, tenant=beside), states, cancellation)

    def _run_recorder(
        self, probe: Probe, folder: Path, subject: Subject, states: Sequence[str], cancellation: Cancellation
    ) -> _Recording:
        folder.mkdir()
        bundle, tenant, target, output = subject.bundle, subject.tenant, folder / "target", folder / "recording.json"
        values = values_of(tenant.organization_id, tenant.slug, tenant.schema)
        asked = {
            "values": values,
            "answers": subject.answers,
            "clock_shift_seconds": probe.clock_shift_seconds,
            "target_path": str(target),
            "arguments": [
                *command_of(self._command, bundle),
                *arguments(bundle, tenant, workdir=folder, target=target),
                *(f"--exclude={item}" for item in subject.options.exclusion),
            ],
            "states": [[state, ["--full-refresh"] if state == FULL_REFRESH else []] for state in states],
            "output": str(output),
        }
        # One thread: the order of nodes is dbt's own, and a session sees what the node before has left in it.
        variables = environment(self._connection, tenant, workdir=folder, application_name=f"kiket-{probe.slug}")
        _run("recorder", folder, asked, variables | {"DBT_THREADS": "1"}, cancellation)
        places = {"workdir": str(folder), "project_dir": str(bundle.project_dir.absolute())}
        return {"file": str(output), "values": values, "places": places}


def _of_probe(subject: Subject, probe: Probe) -> Subject:
    """The same for a tenant that is made up."""
    return replace(subject, tenant=replace(subject.tenant, organization_id=probe.organization_id, slug=probe.slug))


def _judged(
    folder: Path, asked: dict[str, Any], recordings: Sequence[_Recording], cancellation: Cancellation
) -> list[str]:
    """What the prover says of recordings."""
    output = folder / "judgement.json"
    _run("prover", folder, asked | {"recordings": recordings, "output": str(output)}, {}, cancellation)
    judgement: list[str] = json.loads(output.read_text(encoding="utf-8"))
    return judgement


def _run(name: str, folder: Path, asked: dict[str, Any], variables: dict[str, str], cancellation: Cancellation) -> None:
    """Run the recorder or the prover to its end, until which it has written its output.

    Raises `CompilationFailed`, and what `run_child` raises: `DbtKilled` where memory was short, say.
    """
    request, said = folder / "request.json", bytearray()
    request.write_text(json.dumps(asked), encoding="utf-8")
    code = run_child(
        [sys.executable, "-I", "-m", f"kiket_worker.dbt.replay.{name}", str(request)],
        folder=folder,
        environment=variables,
        read=lambda pipe: keep_end(pipe, said, most_bytes=_OUTPUT_BYTES_KEPT),
        cancellation=cancellation,
    )
    if cancellation.reason:
        raise CompilationFailed(f"recording dbt was ended: {cancellation.reason}")
    if code != 0 or not Path(asked["output"]).is_file():
        words = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise CompilationFailed(f"dbt could not be recorded: {words or f'its {name} ended with code {code}'}")
