"""The process of a trial, run as `process REQUEST`: reads and builds an overlay in bounded memory, and has it judged.

It has the login of the trial's own role and nothing else. What it has found so far is on the disk before each step that
may not end, so that whoever ends this process has it all the same.

An error in one file does not hide those in others: what cannot be built without that file is left out, and the rest
goes on to the next step.
"""

import json
import os
import re
import resource
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dbt_common.clients.jinja as dbt_jinja
from dbt.cli.main import dbtRunner
from dbt.task.compile import CompileTask

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.overlay import Kind, Overlay
from kiket_worker.dbt.replay.inspection import Inspection, Watch, follow_runs, install
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.policy.examination import examine_overlay
from kiket_worker.definitions.trial.judging import Judge

_MOST_BYTES = 1536 * 1024 * 1024
# Each time dbt stops at a file, it is read again without that file.
_MOST_READINGS = 20
_TESTS = frozenset({"test", "unit_test"})


class _Trial:
    def __init__(self, request: dict[str, Any]) -> None:
        self.folder = Path(request["folder"])
        self.name: str = request["name"]
        self.overlay = Overlay(request["files"])
        self.others = {name: Overlay(files) for name, files in request["others"].items()}
        self.arguments: list[str] = request["arguments"]
        variables = json.loads(self.arguments[self.arguments.index("--vars") + 1])
        names = {str(value) for value in variables.values()} | ({role} if (role := request["role"]) else set())
        self.watch = Watch(texts=names, number=variables["organization_id"], schema=None)
        self.looks: set[Inspection] = set()
        self.judge = Judge(self.overlay, self.name, request["unread"], variables)
        self.reporting = threading.Lock()
        self.at = ""
        self.models: set[str] = set()
        self.core_models: frozenset[str] = frozenset()

    def run(self) -> None:
        """Everything, as far as it goes."""
        self.report("")
        core = compose(core_bundle(), self.others, _empty(self.folder / "core"))
        known = Known.of(core.project_dir, self.others)
        self.core_models, self.models = known.models, set(self.overlay.models)
        self.judge.examination = examine_overlay(self.overlay, known, self.judge.left_out, self.report)
        self.judge.found(self.judge.examination.problems)
        manifest = self.read()
        if manifest is None:
            self.judge.unbuilt |= self.core_models | self.models
            return
        self.judge.judge_configuration(manifest)
        self.judge_statements(manifest, [])
        types = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
        self.build(manifest, [*types, *self.wanted()])
        changing = [node.name for node in self.judge.nodes(manifest) if node.config.materialized == "incremental"]
        if wanted := [name for name in changing if name not in self.judge.unbuilt]:
            # Now that they are there, they are compiled to other statements.
            self.judge_statements(manifest, ["--select", *wanted])
            self.build(manifest, ["--select", *(name for name in wanted if name not in self.judge.unbuilt)])
        if any(node.resource_type in _TESTS for node in self.judge.nodes(manifest)):
            self.try_tests(manifest)

    def report(self, file: str) -> None:
        """Write down what is known, and at which file this process is."""
        self.at = file or self.at
        document = {
            "at": file,
            "problems": [asdict(problem) for problem in sorted(set(self.judge.problems))],
            "unbuilt": sorted(self.judge.unbuilt),
            "models": sorted(self.models | self.core_models),
        }
        with self.reporting:  # dbt renders in threads.
            fresh = self.folder / "report.new"
            fresh.write_text(json.dumps(document), encoding="utf-8")
            fresh.replace(self.folder / "report.json")

    def read(self) -> Any:
        """The manifest of the core project with what is left of the overlay; None where dbt cannot read that."""
        for attempt in range(_MOST_READINGS):
            overlays = self.others | {self.name: self.overlay.without(self.judge.left_out)}
            project = compose(core_bundle(), overlays, _empty(self.folder / f"project-{attempt}")).project_dir
            os.environ["DBT_PROJECT_DIR"] = str(project)
            os.environ["DBT_PROFILES_DIR"] = str(project / "profiles")
            outcome = self.dbt(None, "parse", [])
            if outcome.exception is None:
                return outcome.result
            problem = self.judge.problem_of(outcome.exception)
            self.judge.found([problem])
            if not problem.file:
                return None
        return None

    def dbt(self, manifest: Any, command: str, arguments: list[str]) -> Any:
        self.report("")
        # Each command has a manifest of its own: what one has compiled, the next would take for compiled already.
        runner = dbtRunner(manifest=manifest.deepcopy() if manifest else None)
        outcome = runner.invoke([command, *self.arguments, *arguments])
        looks, self.looks = self.watch.found - self.looks, set(self.watch.found)
        self.judge.judge_looks(looks)
        return outcome

    def judge_statements(self, manifest: Any, selection: list[str]) -> None:
        """Compile, and have judged what Postgres would be given. What was not judged is not built."""
        outcome = self.dbt(manifest, "compile", [*(selection or self.everything()), *self.excluded()])
        self.judge.judge_compiled(manifest, outcome, selection[1:])

    def wanted(self) -> list[str]:
        """The overlay's own nodes, and what they or its dashboards read of the core project and of other overlays."""
        shown = set(re.findall(r"\w+", " ".join(self.overlay.of_kind(Kind.DASHBOARD, Kind.QUERY).values())))
        names = [f"path:models/definitions/{self.name}", f"path:seeds/definitions/{self.name}"]
        return ["--select", *(f"+{name}" for name in [*names, *sorted(shown & self.core_models)])]

    def everything(self) -> list[str]:
        return ["--select", *(f"path:{folder}/definitions/{self.name}" for folder in ("models", "tests", "seeds"))]

    def build(self, manifest: Any, selection: list[str]) -> None:
        """Build; what Postgres refuses is a problem of the model.

        There are no rows, as the sources have none. dbt's own `--empty` is not used: it puts a subquery with an alias
        of its own in place of each relation, and so refuses `from {{ ref('a') }} as b`, and columns such as `a.b`.
        """
        self.judge.judge_results(self.dbt(manifest, "build", [*selection, *self.excluded()]))

    def try_tests(self, manifest: Any) -> None:
        """Tests are run over no rows: whether they hold is nothing, whether Postgres can read them is."""
        self.judge.judge_results(self.dbt(manifest, "test", [*self.everything(), *self.excluded()]))

    def excluded(self) -> list[str]:
        names = sorted(self.judge.unbuilt & self.models)
        return ["--exclude", *(f"{name}+" for name in names)] if names else []


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _watch_files(trial: _Trial) -> None:
    """Have `report` know which file dbt renders, should that never end. No public interface tells it."""
    original = dbt_jinja.get_environment

    def get_environment(node: Any = None, *arguments: Any, **named: Any) -> Any:
        if path := trial.judge.places.get(getattr(node, "original_file_path", "")):
            trial.report(path)
        return original(node, *arguments, **named)

    dbt_jinja.get_environment = get_environment


def _compile_all() -> None:
    """Have `dbt compile` tell every model's error: by itself it stops at one, and says nothing of the others."""
    CompileTask.raise_on_first_error = lambda self: False  # type: ignore[method-assign]


def main() -> None:
    """Try what the request names."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
    trial = _Trial(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    install(trial.watch)
    follow_runs(trial.watch)
    _watch_files(trial)
    _compile_all()
    try:
        trial.run()
    except MemoryError:
        trial.judge.found([rules.PARSE_LIMIT.problem(trial.at, 1, "reading it took more memory than it may")])
    except Exception as fault:  # Whatever dbt has no words for, a file of the overlay has done it.
        words = f"reading it ended with {type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
        trial.judge.found([rules.DBT.problem(trial.at, 1, words)])
    trial.report("")


if __name__ == "__main__":
    main()
