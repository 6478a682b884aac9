"""Twin installations: the same platform and organisations twice, refreshed by replay in one and by dbt in the other."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Listener, Options, Outcome, Tenant
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.dbt.replay.compiled import Compiled
from kiket_worker.dbt.replay.engine import ReplayEngine
from kiket_worker.ledger.database import statement
from kiket_worker.refresh.compilation import CompiledBundles
from kiket_worker.refresh.services import open_isolation
from kiket_worker.tenants.provisioning import Candidate
from kiket_worker.tenants.schema import reader_name, schema_name
from tests.support import warm_dbt
from tests.support.installations import Installation
from tests.support.tenants import KEYS, settings_of

PROJECTS = Path(__file__).parents[1] / "projects"


@dataclass
class Side:
    """One installation and both of its engines."""

    installation: Installation
    bundle: Bundle
    folder: Path
    command: str = "run"
    partial: bool = False
    compiled: CompiledBundles = field(init=False)
    executable: ExecutableEngine = field(init=False)
    replay: ReplayEngine = field(init=False)

    def __post_init__(self) -> None:
        settings = settings_of(self.installation.ledger_url)
        self.connection = DbtConnection.from_settings(settings)
        isolation = open_isolation(settings, self.connection)
        self.store = DirectoryStore(self.folder / "store")
        self.compiled = CompiledBundles(
            self.installation.ledger, self.store, isolation, self.connection, worker="here", command=self.command
        )
        self.executable = ExecutableEngine(
            warm_dbt.executable(), self.connection, time_limit_seconds=120, command=self.command
        )
        self.replay = ReplayEngine(
            self.executable, self.connection, self.compiled, time_limit_seconds=120, partial=self.partial
        )

    def tenant(self, candidate: Candidate) -> Tenant:
        schema = schema_name(candidate.slug)
        return Tenant(
            candidate.organization_id,
            candidate.slug,
            schema,
            "analytics_shared",
            "analytics_raw",
            "analytics_raw",
            schema,
            KEYS.password(schema, KEYS.current),
        )

    def options(self, **options: Any) -> Options:
        workdir = self.folder / f"run-{uuid4().hex[:8]}"
        workdir.mkdir()
        exclusion = options.pop("exclusion", ("tag:shared",))
        return Options(workdir, f"kiket-run-{uuid4()}", exclusion=exclusion, **options)

    def compile(self, candidate: Candidate) -> Compiled:
        found = self.compile_or_none(candidate)
        assert found is not None
        return found

    def compile_or_none(self, candidate: Candidate) -> Compiled | None:
        return self.compiled.compile(self.bundle, self.tenant(candidate), self.options())

    def run(self, candidate: Candidate, *, by: str = "replay", **options: Any) -> Outcome:
        engine = self.replay if by == "replay" else self.executable
        return engine.run(self.bundle, self.tenant(candidate), self.options(**options), Listener(), Cancellation())

    def relations(self, candidate: Candidate) -> dict[str, Any]:
        """Everything that can be seen of an organisation's relations: what they are, and their rows."""
        schema = schema_name(candidate.slug)
        with self.installation.database.connect() as connection:
            connection.execute(f"set search_path = {schema}")
            rows = connection.execute(
                statement("relations", "kiket_worker.dbt.replay"), {"schema_name": schema}
            ).fetchall()
            database = self.connection.database
            return {
                row["name"]: (
                    row["definition"],
                    [
                        json.loads(json.dumps(found, default=str).replace(database, "DATABASE"))
                        for found in connection.execute(
                            f'select to_jsonb(t) as row from "{schema}"."{row["name"]}" as t order by to_jsonb(t)::text'
                        ).fetchall()
                    ],
                )
                for row in rows
            }


@dataclass
class Twins:
    """Both sides. Whatever happens to the platform or to a schema happens to both."""

    replayed: Side
    by_dbt: Side

    def add(self, slug: str) -> Candidate:
        """An organisation with some issues, on both sides, provisioned."""
        made = [side.installation.add(slug) for side in self.sides]
        assert made[0] == made[1]
        for side in self.sides:
            side.installation.provision(made[0])
        return made[0]

    def execute(self, text: str, *parameters: object) -> None:
        for side in self.sides:
            side.installation.execute(text, *parameters)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.replayed, self.by_dbt

    def run(self, candidate: Candidate, **options: Any) -> tuple[Outcome, Outcome]:
        return self.replayed.run(candidate, **options), self.by_dbt.run(candidate, by="executable", **options)

    def assert_equal(self, candidate: Candidate) -> None:
        """That nobody could tell by the relations which side is which."""
        replayed, by_dbt = (side.relations(candidate) for side in self.sides)
        assert replayed.keys() == by_dbt.keys()
        for name in replayed:
            assert replayed[name][0] == by_dbt[name][0], name
            assert _without_times(replayed[name][1]) == _without_times(by_dbt[name][1]), name


def _without_times(rows: list[dict[str, Any]]) -> list[str]:
    """Rows without what is another one in each run: identifiers of the run, and the clock of the moment."""
    text = [json.dumps(row, sort_keys=True, default=str) for row in rows]
    text = [re.sub(r'"(invocation|at|dbt_scd_id|dbt_updated_at|dbt_valid_from)": "[^"]*"', "", row) for row in text]
    return sorted(re.sub(r'"(invocation)": "[^"]*"', "", row) for row in text)


def normalised(document: Any, side: Side, outcome: Outcome) -> Any:
    """An artifact without what differs between any two runs of dbt: times, threads, invocations, folders, databases."""
    text = json.dumps(document)
    workdir = str(outcome.files["run_results.json"].parent.parent)
    database = side.connection.database
    return _stripped(json.loads(text.replace(workdir, "WORKDIR").replace(database, "DATABASE")))


_OF_A_RUN = {
    *("generated_at", "created_at", "invocation_id", "invocation_started_at", "run_started_at", "timing", "thread_id"),
    *("execution_time", "elapsed_time", "ts", "pid", "thread", "node_started_at", "node_finished_at", "threads"),
    *("invocation_command", "num_threads", "compiled_code", "compiled_path", "build_path"),
}


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(item) for name, item in value.items() if name not in _OF_A_RUN}
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    return value


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two documents differ, place by place. Results are compared by their nodes, as threads mix their order."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(one.keys() | other.keys())
        return [found for name in names for found in differences(one.get(name), other.get(name), f"{where}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        if one and isinstance(one[0], dict) and "unique_id" in one[0]:
            one, other = (sorted(items, key=lambda item: item["unique_id"]) for items in (one, other))
        pairs = enumerate(zip(one, other, strict=True))
        return [found for at, pair in pairs for found in differences(*pair, f"{where}[{at}]")]
    return [] if one == other else [f"{where}: {one!r} against {other!r}"]


def read(outcome: Outcome, name: str) -> Any:
    return json.loads(outcome.files[name].read_text())


def stored_bundle(side: Side) -> Path:
    """Where the one compiled bundle is stored."""
    (path,) = (side.folder / "store" / "_engine").rglob("compiled.json.gz")
    return path


def project(folder: Path, models: dict[str, str], *, like: str = "everything", **files: str) -> Bundle:
    """A project with these models, and the configuration and macros of another."""
    for name in ("profiles", "macros"):
        shutil.copytree(PROJECTS / like / name, folder / name)
    (folder / "dbt_project.yml").write_text(
        f"name: made\nprofile: kiket_analytics\nversion: '1.0'\nconfig-version: 2\n{files.pop('project', '')}\n"
    )
    (folder / "models").mkdir()
    shutil.copyfile(PROJECTS / like / "models" / "sources.yml", folder / "models" / "sources.yml")
    for name, text in models.items():
        (folder / "models" / f"{name}.sql").write_text(text)
    for name, text in files.items():
        (folder / name).write_text(text)
    return Bundle(folder)


@contextmanager
def twins(databases: tuple[Any, Any], bundle: Bundle, folder: Path, **options: Any) -> Iterator[Twins]:
    with Installation.of(databases[0]) as first, Installation.of(databases[1]) as second:
        sides = []
        for name, installation in (("replayed", first), ("dbt", second)):
            (folder / name).mkdir(parents=True)
            sides.append(Side(installation, bundle, folder / name, **options))
        try:
            yield Twins(*sides)
        finally:
            # Roles are the server's: they can go once neither database has anything of theirs.
            for slug in second.made:
                for role in (schema_name(slug), reader_name(slug)):
                    second.execute(f"drop owned by {role} cascade")
            second.made.clear()
