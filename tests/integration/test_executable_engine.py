"""The executable engine with real child processes: stand-ins for dbt that misbehave, and dbt itself."""

import json
import os
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from kiket_worker.dbt.bundle import Bundle, core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Listener, Options, Outcome, Tenant
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.dbt.results import ModelResult
from kiket_worker.errors import KiketError, PostgresUnreachable, RunCancelled
from tests.support import warm_dbt
from tests.support.dbt_scripts import dbt_script, processes_of, until

PASSWORD = "corr:ct-h\\rse"
ACME = Tenant(1, "acme", "analytics_org_acme", "analytics_shared")


class Database(Protocol):
    url: str


@dataclass
class Rig:
    """Runs executables as dbt, each run in a folder of its own and with a mark in its environment."""

    folder: Path
    mark: str
    connection: DbtConnection = field(default_factory=lambda: DbtConnection("h", 1, "d", "u", PASSWORD))
    bundle: Bundle = field(default_factory=core_bundle)
    events: list[ModelResult] = field(default_factory=list)
    workdirs: list[Path] = field(default_factory=list)

    def script(self, body: str) -> Path:
        return dbt_script(self.folder, body)

    def run(
        self,
        executable: Path,
        *,
        time_limit_seconds: float = 60,
        cancellation: Cancellation | None = None,
        on_model: Callable[[ModelResult], None] | None = None,
        has_telemetry: bool = False,
        **options: Any,
    ) -> Outcome:
        workdir = self.folder / f"run-{len(self.workdirs)}"
        workdir.mkdir()
        self.workdirs.append(workdir)
        engine = ExecutableEngine(
            executable, self.connection, time_limit_seconds=time_limit_seconds, has_telemetry=has_telemetry
        )
        return engine.run(
            self.bundle,
            ACME,
            Options(workdir, self.mark, **options),
            Listener(on_model or self.events.append),
            cancellation or Cancellation(),
        )

    def in_background(self, executable: Path, **options: Any) -> Callable[[], Outcome]:
        """Start a run in a thread; what is given waits for its outcome."""
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(self.run(executable, **options)), daemon=True)
        thread.start()

        def outcome() -> Outcome:
            thread.join(30)
            assert not thread.is_alive(), "the run does not end"
            return outcomes[0]

        return outcome

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def tell(self, name: str) -> None:
        (self.folder / name).touch()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, f"test-{tmp_path.name}-{os.getpid()}")
    yield rig
    left = processes_of(rig.mark)
    for process in left:
        process.kill()
    assert left == [], "a process of the run outlived it"


def failure(outcome: Outcome) -> KiketError:
    assert outcome.failure is not None
    return outcome.failure


def test_models_files_and_nothing_else_come_of_a_run_that_succeeds(rig: Rig) -> None:
    outcome = rig.run(rig.script("say('MainReportVersion', version='=1.11.16')\nbuild('a', 'b')"))
    assert outcome.failure is None
    assert [(model.model_id, model.status, model.rows_affected) for model in outcome.models] == [
        ("model.fake.a", "success", 5),
        ("model.fake.b", "success", 5),
    ]
    assert [(model.model_id, model.status) for model in rig.events] == [
        (f"model.fake.{name}", status) for name in "ab" for status in ("running", "success")
    ]
    assert outcome.versions == {"dbt": "1.11.16"}
    assert set(outcome.files) == {"run_results.json", "dbt.log"}
    assert len(outcome.files["dbt.log"].read_text().splitlines()) == 5


def test_an_executable_that_is_not_there_is_named_with_the_variable_to_set(rig: Rig) -> None:
    fault = failure(rig.run(rig.folder / "no-such-dbt"))
    assert fault.kind == "dbt_executable_missing"
    assert "no-such-dbt" in str(fault)
    assert "KIKET_DBT_EXECUTABLE" in str(fault)


def test_what_cannot_be_executed_is_no_executable(rig: Rig) -> None:
    plain = rig.folder / "plain"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    no_program = rig.folder / "no-program"
    no_program.write_bytes(b"\x00\x01\x02")
    no_program.chmod(0o755)
    no_interpreter = rig.folder / "no-interpreter"
    no_interpreter.write_text("#!/no/such/interpreter\n")
    no_interpreter.chmod(0o755)
    for path in (plain, rig.folder, no_program, no_interpreter):
        fault = failure(rig.run(path))
        assert fault.kind == "dbt_executable_missing", path
        assert str(path) in str(fault)


def test_a_relative_path_is_one_from_where_the_worker_was_started(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    script = rig.script("build('a')")
    monkeypatch.chdir(script.parents[1])
    assert rig.run(script.relative_to(script.parents[1])).failure is None
    monkeypatch.chdir(script.parent)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    assert rig.run(Path("fake-dbt")).failure is None


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("", "dbt_no_results", ["without writing run_results.json", "code 0", "it printed nothing"]),
        ("print('boom')\nsys.exit(1)", "dbt_no_results", ["code 1", "boom"]),
        (
            "say('MainEncounteredError', 'error', 'Compilation Error\\n  no such ref')\nsys.exit(1)",
            "dbt_failed",
            ["code 1 before it built anything", "Compilation Error", "no such ref"],
        ),
        ("print('usage: dbt', file=sys.stderr)\nsys.exit(2)", "dbt_no_results", ["code 2", "usage: dbt"]),
        ("build('a')\nwrite(b'{]')", "dbt_no_results", ["cannot be read", "code 0"]),
        ("write(b'[' * 100_000)", "dbt_no_results", ["cannot be read"]),
        ("write({'results': [5]})", "dbt_no_results", ["cannot be read"]),
        ("(target / 'run_results.json').mkdir(parents=True)", "dbt_no_results", ["cannot be read"]),
        ("write({'results': []})", "selection_empty", ["no model is selected by nothing_like_it"]),
        ("write({'results': []})\nsys.exit(1)", "dbt_failed", ["code 1"]),
        ("build('a')\nsys.exit(1)", "dbt_failed", ["code 1"]),
        ("build('a')\nsys.exit(2)", "dbt_failed", ["code 2"]),
        (
            "write({'results': [result('a'), result('b', 'error', 'no column x')]})",
            "model_failed",
            ["1 of 2", "b. no co"],
        ),
        ("build('a')\nos.kill(os.getpid(), 9)", "dbt_killed", ["killed"]),
    ],
)
def test_only_what_says_in_every_way_that_it_succeeded_has_succeeded(
    rig: Rig, body: str, kind: str, words: list[str]
) -> None:
    fault = failure(rig.run(rig.script(body), selection=("nothing_like_it",)))
    assert fault.kind == kind, fault
    for word in words:
        assert word in str(fault)


def test_models_that_were_built_before_a_failure_are_told(rig: Rig) -> None:
    outcome = rig.run(rig.script("write({'results': [result('a'), result('b', 'error', 'x')]})\nsys.exit(1)"))
    assert [(model.model_id, model.status, model.message) for model in outcome.models] == [
        ("model.fake.a", "success", None),
        ("model.fake.b", "error", "x"),
    ]
    assert set(outcome.files) == {"run_results.json", "dbt.log"}


def test_no_output_however_odd_stops_a_run_that_succeeds(rig: Rig) -> None:
    body = r"""
out = sys.stdout.buffer
out.write(bytes(range(256)) * 50 + b"\n")
out.write(b"x" * 5_000_000 + b"\n")
out.write(b"\xff\xfe\n\n\n")
out.write(b"[" * 200_000 + b"\n")
out.write(b'5\n[]\n"text"\n{"info": 5, "data": []}\n{"info": {}, "data": {}}\n')
out.write(b'{"info": {"name": {}, "level": []}, "data": {"node_info": {"resource_type": "model"}, "version": {}}}\n')
out.flush()
say("LogStartLine", node_info=[1])
say("LogModelResult", node_info={"resource_type": "model", "unique_id": "m", "node_status": [1]}, execution_time="x")
say("LogModelResult", node_info=node("b", "success"), execution_time=10**400)
build("a")
out.write(b"and no newline at the end")
"""
    outcome = rig.run(rig.script(body))
    assert outcome.failure is None
    assert {model.model_id for model in rig.events} == {"model.fake.a"}
    assert outcome.files["dbt.log"].stat().st_size > 5_000_000


def test_events_arrive_while_dbt_runs(rig: Rig) -> None:
    outcome = rig.in_background(rig.script("start('a')\nwait_for('seen')\nbuild('a')"))
    until(lambda: rig.events, "the first event, while dbt waits for this test")
    assert rig.events == [ModelResult("model.fake.a", "running")]
    rig.tell("seen")
    assert outcome().failure is None


def test_dbt_gets_what_it_needs_and_no_secret_of_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "RABBITMQ_URL", "AWS_SECRET_ACCESS_KEY", "DBT_PASSWORD", "PGPASSWORD", "KIKET_X"):
        monkeypatch.setenv(name, f"secret-{PASSWORD}")
    body = """
tell("seen.json", json.dumps({
    "environment": dict(os.environ), "arguments": arguments, "cwd": os.getcwd(),
    "passfile": Path(os.environ["PGPASSFILE"]).read_text(), "mode": os.stat(os.environ["PGPASSFILE"]).st_mode,
    "input": sys.stdin.read(), "group": os.getpgrp() == os.getppid(),
}))
build("a")
"""
    rig.run(rig.script(body), full_refresh=True)
    seen = json.loads((rig.folder / "seen.json").read_text())
    assert set(seen["environment"]) - {"LC_CTYPE"} == {
        *("PATH", "HOME", "LANG", "TZ", "PYTHONUNBUFFERED", "PGPASSFILE"),
        *("DBT_HOST", "DBT_PORT", "DBT_DATABASE", "DBT_USER", "DBT_APPLICATION_NAME"),
        *("DBT_SEND_ANONYMOUS_USAGE_STATS", "DBT_USE_COLORS", "DBT_LOG_LEVEL_FILE", "DBT_PARTIAL_PARSE"),
        "DBT_ORGANIZATION_SCHEMA",
    }
    assert PASSWORD not in json.dumps([seen["environment"], seen["arguments"]]).replace("\\\\", "\\")
    assert seen["passfile"] == "*:*:*:*:corr\\:ct-h\\\\rse\n"
    assert stat.S_IMODE(seen["mode"]) == 0o600
    assert seen["cwd"] == str(rig.workdirs[0])
    assert seen["input"] == ""
    assert seen["group"]
    assert "--full-refresh" in seen["arguments"]
    assert json.loads(seen["arguments"][seen["arguments"].index("--vars") + 1]) == {
        "organization_id": 1,
        "organization_slug": "acme",
        "organization_schema": "analytics_org_acme",
        "shared_schema": "analytics_shared",
        "raw_schema": "public",
        "ledger_schema": "kiket_analytics",
    }


def test_what_is_selected_can_never_be_an_option(rig: Rig) -> None:
    hostile = ("a+", "--vars", '{"organization_id": 2}', "-x", "--project-dir=/tmp")
    rig.run(rig.script("tell('seen.json', json.dumps(arguments))"), selection=hostile, exclusion=("--no", "tag:shared"))
    arguments = json.loads((rig.folder / "seen.json").read_text())
    assert arguments[-7:] == [*(f"--select={item}" for item in hostile), "--exclude=--no", "--exclude=tag:shared"]
    assert arguments.count("--vars") == 1


def test_two_runs_share_no_folder(rig: Rig) -> None:
    script = rig.script("(here / 'targets').open('a').write(f\"{target} {os.environ['HOME']}\\n\")\nbuild('a')")
    for _ in range(2):
        assert rig.run(script).failure is None
    first, second = ((rig.folder / "targets").read_text()).splitlines()
    assert first == f"{rig.workdirs[0]}/target {rig.workdirs[0]}/home"
    assert second == f"{rig.workdirs[1]}/target {rig.workdirs[1]}/home"


def test_a_run_that_hangs_ends_at_its_time_limit_with_all_that_it_started(rig: Rig) -> None:
    body = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"])
start("a")
write({"results": [result("a")]})
hang()
"""
    outcome = rig.run(rig.script(body), time_limit_seconds=1)
    assert failure(outcome).kind == "dbt_timed_out"
    assert "1 seconds" in str(outcome.failure)
    assert rig.events, "it had not begun when its time was over: the test shows nothing"
    assert processes_of(rig.mark) == []
    assert [model.model_id for model in outcome.models] == ["model.fake.a"]


def test_a_cancelled_run_ends_with_the_reason_given_and_leaves_no_process(rig: Rig) -> None:
    cancellation = Cancellation()
    outcome = rig.in_background(
        rig.script("subprocess.Popen(['sleep', '600'])\nstart('a')\nhang()"), cancellation=cancellation
    )
    until(lambda: rig.events, "the first event")
    assert len(processes_of(rig.mark)) == 3, "the guard, dbt, and what dbt has started"
    reason = RunCancelled("on request")
    cancellation.cancel(reason)
    assert outcome().failure is reason
    assert processes_of(rig.mark) == []


def test_a_run_cancelled_before_it_begins_builds_nothing(rig: Rig) -> None:
    cancellation = Cancellation()
    cancellation.cancel(reason := RunCancelled("on request"))
    assert rig.run(rig.script("time.sleep(5)\ntell('built')"), cancellation=cancellation).failure is reason
    assert not rig.has("built")


def test_a_process_left_behind_is_ended_and_does_not_hold_the_run_up(rig: Rig) -> None:
    outcome = rig.run(rig.script("subprocess.Popen(['sleep', '600'])\nbuild('a')"))
    assert outcome.failure is None
    assert processes_of(rig.mark) == []


def test_a_process_that_left_the_group_fails_the_run_instead_of_hanging_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiket_worker.dbt.child._PIPE_CLOSE_MILLISECONDS", 200)
    body = "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\ntell('pid', str(child.pid))\nbuild('a')"
    try:
        fault = failure(rig.run(rig.script(body)))
    finally:
        os.kill(int((rig.folder / "pid").read_text()), signal.SIGKILL)
    assert fault.kind == "dbt_failed"
    assert "left a process behind" in str(fault)
    until(lambda: not processes_of(rig.mark), "the killed process to go")


def test_dbt_killed_by_somebody_else_is_a_failure_with_its_signal(rig: Rig) -> None:
    outcome = rig.in_background(rig.script("start('a')\ntell('pid', str(os.getpid()))\nhang()"))
    until(lambda: rig.has("pid"), "dbt to start")
    os.kill(int((rig.folder / "pid").read_text()), signal.SIGKILL)
    assert failure(outcome()).kind == "dbt_killed"
    assert failure(outcome()).retryable


OWN_TELEMETRY = """
logs = Path(arguments[arguments.index("--log-path") + 1])
logs.mkdir()
with (logs / arguments[arguments.index("--otel-file-name") + 1]).open("w") as file:
    print('{"severity_text": "INFO", "body": "Started \\\\"a\\\\""}', file=file)
    for number in range(COUNT):
        record = {"severity_text": "ERROR", "attributes": {"msg": 'no integer: "Fix the payroll leak"'}}
        print(json.dumps(record), file=file)
build("a")
"""


def test_records_that_a_dbt_writes_by_itself_are_kept_without_values_of_rows(rig: Rig) -> None:
    script = rig.script(OWN_TELEMETRY.replace("COUNT", "1"))
    kept = rig.run(script, has_telemetry=True).files["dbt-otel.jsonl"].read_text().splitlines()
    assert kept[0] == '{"severity_text": "INFO", "body": "Started \\"a\\""}'
    assert json.loads(kept[1]) == {"severity_text": "ERROR", "attributes": {"msg": 'no integer: "…"'}}


def test_of_too_many_records_the_middle_is_left_out(rig: Rig) -> None:
    script = rig.script(OWN_TELEMETRY.replace("COUNT", "1000"))
    outcome = rig.run(script, has_telemetry=True, most_log_bytes=10_000)
    kept = outcome.files["dbt-otel.jsonl"].read_text().splitlines()
    assert outcome.cut["dbt-otel.jsonl"].lines + len(kept) - 1 == 1001
    assert len("".join(kept)) < 11_000


def test_a_dbt_without_records_of_its_own_is_not_asked_for_any(rig: Rig) -> None:
    outcome = rig.run(rig.script("assert '--otel-file-name' not in arguments\nbuild('a')"))
    assert outcome.failure is None
    assert "dbt-otel.jsonl" not in outcome.files


def test_a_ledger_that_does_not_answer_stops_dbt_with_its_own_error(rig: Rig) -> None:
    gone = PostgresUnreachable("gone")

    def on_model(_: ModelResult) -> None:
        raise gone

    assert rig.run(rig.script("start('a')\nhang()"), on_model=on_model).failure is gone


def test_a_slow_ledger_is_waited_for_when_dbt_has_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiket_worker.dbt.child._PIPE_CLOSE_MILLISECONDS", 200)
    slow = threading.Event()

    def on_model(model: ModelResult) -> None:
        rig.events.append(model)
        slow.wait(0.3)  # Never set: each of four events takes longer than a process may hold the pipe.

    assert rig.run(rig.script("build('a', 'b')"), on_model=on_model).failure is None
    assert len(rig.events) == 4


# dbt itself.


@dataclass
class Real:
    """dbt for acme in a database of its own."""

    rig: Rig
    url: str

    def query(self, text: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(text.encode()).fetchall()

    def relations(self) -> set[tuple[str, str]]:
        return set(
            self.query(
                "select table_schema, table_name from information_schema.tables where table_schema ~ '^analytics'"
            )
        )


@pytest.fixture
def real(rig: Rig, sample_database: Database) -> Iterator[Real]:
    """Connects as a role of its own, which Postgres asks for its password."""
    parts = conninfo_to_dict(sample_database.url)
    role = f"dbt_{parts['dbname']}"
    rig.connection = DbtConnection(str(parts["host"]), 5432, str(parts["dbname"]), role, PASSWORD)
    with psycopg.connect(sample_database.url, autocommit=True) as admin:
        name = sql.Identifier(role)
        admin.execute(sql.SQL("create role {} login superuser password {}").format(name, sql.Literal(PASSWORD)))
        yield Real(rig, sample_database.url)
        admin.execute(sql.SQL("reassign owned by {} to postgres").format(name))
        admin.execute(sql.SQL("drop role {}").format(name))


def test_dbt_builds_an_organisation_and_documents_it(real: Real) -> None:
    digest = Bundle(core_bundle().project_dir).digest
    outcome = real.rig.run(Path("dbt"), docs=True, exclusion=("tag:shared",))
    assert outcome.failure is None
    assert len(outcome.models) == 12
    assert {model.status for model in outcome.models} == {"success"}
    assert {schema for schema, _ in real.relations()} == {"analytics_org_acme"}
    assert len(real.relations()) == 12
    assert [event.model_id for event in real.rig.events if event.status == "success"] != []
    assert {event.model_id for event in real.rig.events} == {model.model_id for model in outcome.models}

    documents = {name: json.loads(path.read_bytes()) for name, path in outcome.files.items() if name != "dbt.log"}
    assert set(documents) == {"manifest.json", "run_results.json", "catalog.json"}
    assert documents["run_results.json"]["args"]["which"] == "run"
    # The check of the schemas, which dbt runs before the models, has a result too.
    assert len(documents["run_results.json"]["results"]) == 12 + 1
    assert {entry["metadata"]["schema"] for entry in documents["catalog.json"]["nodes"].values()} == {
        "analytics_org_acme"
    }
    assert outcome.docs is not None
    page = outcome.docs.shell.read_text()
    documentation = real.rig.workdirs[-1] / "docs"
    for name, hole in outcome.docs.holes.items():
        page = page.replace(hole, (documentation / name).read_text())
    assert page == (documentation / "static_index.html").read_text()
    assert "acme" not in outcome.docs.shell.read_text()
    lines = [json.loads(line) for line in outcome.files["dbt.log"].read_text().splitlines()]
    assert {"info", "data"} == set().union(*lines)
    assert outcome.versions["dbt"].startswith("1.")
    assert Bundle(core_bundle().project_dir).digest == digest
    text = "".join(path.read_text() for path in outcome.files.values())
    assert PASSWORD not in text
    assert json.dumps(PASSWORD)[1:-1] not in text


def test_a_broken_model_is_named_and_the_others_are_as_dbt_left_them(real: Real) -> None:
    project = real.rig.folder / "project"
    shutil.copytree(core_bundle().project_dir, project)
    models = project / "models" / "marts"
    view = "{{ config(materialized='view', contract={'enforced': false}) }}\n"
    (models / "broken.sql").write_text(view + "select no_such_column from {{ ref('stg_projects') }}")
    (models / "after_broken.sql").write_text(view + "select * from {{ ref('broken') }}")
    real.rig.bundle = Bundle(project)
    # The last is no model; as an option it would take the next argument and end dbt before it builds anything.
    selection = ("stg_projects", "broken+", "--vars")
    outcome = real.rig.run(warm_dbt.executable(), selection=selection, exclusion=("tag:shared",))
    fault = failure(outcome)
    assert fault.kind == "model_failed"
    assert "1 of 3 models failed: broken." in str(fault)
    assert 'column "no_such_column" does not exist' in str(fault)
    assert {model.model_id.rpartition(".")[2]: model.status for model in outcome.models} == {
        "stg_projects": "success",
        "broken": "error",
        "after_broken": "skipped",
    }
    assert real.relations() == {("analytics_org_acme", "stg_projects")}
    assert "no_such_column" not in str(fault).partition("\n")[0]
