"""The process of a trial, run as `process REQUEST`: reads, judges and builds an overlay in bounded memory.

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
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dbt_common.clients.jinja as dbt_jinja
from dbt.cli.main import dbtRunner
from dbt.task.compile import CompileTask

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.overlay import Kind, Overlay, place_of
from kiket_worker.dbt.replay.inspection import CONFIGURATION, Inspection, Watch, follow_runs, install
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.policy.examination import Examination, examine_overlay
from kiket_worker.definitions.policy.nodes import check_header, judge_node, judge_source
from kiket_worker.definitions.policy.sql import Fault, check_sql, line_in_source
from kiket_worker.definitions.policy.tenancy import check_tenancy
from kiket_worker.definitions.problem import Problem
from kiket_worker.definitions.trial.words import line_of, words_of

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
        self.variables: dict[str, Any] = json.loads(self.arguments[self.arguments.index("--vars") + 1])
        # Where the trial builds, and what it may read; none of these names is known to the author.
        self.schema: str = self.variables["organization_schema"]
        self.schemas = {self.schema, self.variables["raw_schema"], self.variables["ledger_schema"]}
        identity, slug = self.variables["organization_id"], self.variables["organization_slug"]
        names = [*self.schemas, slug, str(identity), *([role] if (role := request["role"]) else [])]
        self.watch = Watch(texts=names, number=identity, schema=None)
        self.inspected: set[Inspection] = set()
        self.problems: list[Problem] = []
        self.reporting = threading.Lock()
        self.at = ""
        self.unbuilt: set[str] = set()
        self.models: set[str] = set()
        self.core_models: frozenset[str] = frozenset()
        self.examination = Examination([], {})
        # Files that could not be read, and all that are left out because of others.
        self.left_out: set[str] = set(request["unread"])
        self.places = {place: path for path in self.overlay.files if (place := place_of(path, self.name))}

    def run(self) -> None:
        """Everything, as far as it goes."""
        self.report("")
        core = compose(core_bundle(), self.others, _empty(self.folder / "core"))
        known = Known.of(core.project_dir, self.others)
        self.core_models, self.models = known.models, set(self.overlay.models)
        self.examination = examine_overlay(self.overlay, known, self.left_out, self.report)
        self.found(self.examination.problems)
        manifest = self.read()
        if manifest is None:
            self.unbuilt |= self.core_models | self.models
            return
        self.judge_configuration(manifest)
        self.judge_statements(manifest, [])
        types = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
        self.build(manifest, [*types, *self.wanted()])
        changing = [node.name for node in self.nodes(manifest) if node.config.materialized == "incremental"]
        if wanted := [name for name in changing if name not in self.unbuilt]:
            # Now that they are there, they are compiled to other statements.
            self.judge_statements(manifest, ["--select", *wanted])
            self.build(manifest, ["--select", *(name for name in wanted if name not in self.unbuilt)])
        if any(node.resource_type in _TESTS for node in self.nodes(manifest)):
            self.try_tests(manifest)

    def found(self, problems: Iterable[Problem]) -> None:
        """Note problems, and leave out what is built on their files."""
        problems = list(problems)
        self.problems += problems
        bad = {problem.file for problem in problems if problem.severity == "error"}
        self.left_out = self.examination.with_dependents(self.left_out | bad)
        self.unbuilt |= Overlay(dict.fromkeys(self.left_out, "")).models.keys()

    def report(self, file: str) -> None:
        """Write down what is known, and at which file this process is."""
        self.at = file or self.at
        document = {
            "at": file,
            "problems": [asdict(problem) for problem in sorted(set(self.problems))],
            "unbuilt": sorted(self.unbuilt),
            "models": sorted(self.models | self.core_models),
        }
        with self.reporting:  # dbt renders in threads.
            fresh = self.folder / "report.new"
            fresh.write_text(json.dumps(document), encoding="utf-8")
            fresh.replace(self.folder / "report.json")

    def read(self) -> Any:
        """The manifest of the core project with what is left of the overlay; None where dbt cannot read that."""
        for attempt in range(_MOST_READINGS):
            overlays = self.others | {self.name: self.overlay.without(self.left_out)}
            project = compose(core_bundle(), overlays, _empty(self.folder / f"project-{attempt}")).project_dir
            os.environ["DBT_PROJECT_DIR"] = str(project)
            os.environ["DBT_PROFILES_DIR"] = str(project / "profiles")
            outcome = self.dbt(None, "parse", [])
            if outcome.exception is None:
                return outcome.result
            problem = self.problem_of(outcome.exception)
            self.found([problem])
            if not problem.file:
                return None
        return None

    def dbt(self, manifest: Any, command: str, arguments: list[str]) -> Any:
        self.report("")
        # Each command has a manifest of its own: what one has compiled, the next would take for compiled already.
        runner = dbtRunner(manifest=manifest.deepcopy() if manifest else None)
        outcome = runner.invoke([command, *self.arguments, *arguments])
        self.found(self.inspections())
        return outcome

    def inspections(self) -> Iterator[Problem]:
        """What the overlay's Jinja has looked at since this was last asked, and that differs between organisations."""
        fresh, self.inspected = self.watch.found - self.inspected, set(self.watch.found)
        for found in sorted(fresh, key=str):
            if path := self.places.get(found.file):
                yield rules.JINJA_TENANT.problem(path, found.line, f"Jinja {found.what}")
            elif found.file == CONFIGURATION:
                yield rules.JINJA_TENANT.problem(self.configured_by_jinja(), 1, f"Jinja in YAML {found.what}")

    def configured_by_jinja(self) -> str:
        """A file of YAML that has Jinja; of what dbt renders there, it does not say from which one it is."""
        files = (path for path, text in self.overlay.files.items() if path.endswith((".yml", ".yaml")) and "{{" in text)
        return next((path for path in files if path in self.places.values() and path not in self.left_out), "")

    def problem_of(self, fault: BaseException) -> Problem:
        """What dbt says when it stops at a file."""
        text = str(fault)
        if _is_of_memory(fault):
            return rules.PARSE_LIMIT.problem(self.file_named_in(text), 1, "reading it took more memory than it may")
        file = self.file_named_in(text)
        found = re.search(r"\bline (\d+)", text)
        return rules.DBT.problem(file, int(found[1]) if found else 1, words_of(text, self.places))

    def file_named_in(self, text: str) -> str:
        return next((path for place, path in sorted(self.places.items(), reverse=True) if _ends_in(text, place)), "")

    def nodes(self, manifest: Any) -> Iterator[Any]:
        """The overlay's own nodes, of those that are not left out."""
        for node in manifest.nodes.values():
            path = self.places.get(node.original_file_path)
            if path and path not in self.left_out:
                yield node
        for node in manifest.unit_tests.values():
            if (path := self.places.get(node.original_file_path)) and path not in self.left_out:
                yield node

    def judge_configuration(self, manifest: Any) -> None:
        """Once more what the policy has judged by texts, as dbt has understood it in the end."""
        for node in list(self.nodes(manifest)):
            self.found(self.located(judge_node(node, self.schema, self.schemas), node))
        for source in manifest.sources.values():
            if self.places.get(source.original_file_path, "") in self.overlay.files.keys() - self.left_out:
                self.found(self.located(judge_source(source, self.schemas), source))
        for node in list(self.nodes(manifest)):
            if node.resource_type == "seed":
                text, config = self.overlay.files[self.places[node.original_file_path]], node.config
                delimiter = config.get("delimiter") or ","
                is_quoted = config.get("quote_columns") is not False
                self.found(self.located(check_header(text, delimiter, is_quoted=is_quoted), node))

    def located(self, faults: Iterable[Fault], node: Any) -> Iterator[Problem]:
        """Problems of a node, told in the file that has the word of each: its own, or the one that describes it."""
        own = self.places[node.original_file_path]
        described = self.places.get(str(getattr(node, "patch_path", None) or "").partition("://")[2], own)
        for fault in faults:
            for path in (own, described):
                lines = self.overlay.files[path].splitlines()
                number = next((n for n, line in enumerate(lines, 1) if fault.word and fault.word in line), 0)
                if number:
                    break
            yield fault.rule.problem(path if number else own, number or 1, fault.message, fault.hint)

    def judge_statements(self, manifest: Any, selection: list[str]) -> None:
        """Compile, and judge what Postgres would be given. What was not judged is not built."""
        outcome = self.dbt(manifest, "compile", [*(selection or self.everything()), *self.excluded()])
        if outcome.result is None:
            self.found([self.problem_of(outcome.exception)])
        results = outcome.result.results if outcome.result else []
        judged = set()
        for result in results:
            node = result.node
            if (path := self.places.get(node.original_file_path)) and node.resource_type != "seed":
                judged.add(node.name)
                self.found(self.faults_of(node, path, result))
        names = selection[1:] or [node.name for node in self.nodes(manifest) if node.resource_type == "model"]
        for node in list(self.nodes(manifest)):
            if node.name in names and node.name not in judged | self.unbuilt:
                self.found([rules.DBT.problem(self.places[node.original_file_path], 1, "dbt did not compile it")])

    def faults_of(self, node: Any, path: str, result: Any) -> Iterator[Problem]:
        if result.status == "skipped":  # For what is wrong with another.
            self.unbuilt.add(node.name)
            return
        if result.status == "error" or not node.compiled_code:
            words = words_of(result.message or "dbt did not compile it", self.places)
            yield rules.DBT.problem(path, line_of(result.message or "", node.raw_code), words)
            return
        try:
            faults = [*check_sql(node.compiled_code, self.schemas), *self.untenanted(node)]
        except MemoryError:
            raise
        except Exception as odd:  # Of the parser, which expects no such text.
            message = f"the SQL has something that nobody expects ({type(odd).__name__})"
            yield rules.SQL_SYNTAX.problem(path, 1, message)
            return
        for fault in faults:
            line = line_in_source(fault, node.raw_code, node.compiled_code)
            yield fault.rule.problem(path, line, fault.message, fault.hint)

    def untenanted(self, node: Any) -> list[Fault]:
        if node.resource_type != "model":
            return []
        raw_schemas = {self.variables["raw_schema"], self.variables["ledger_schema"]}
        return check_tenancy(node.compiled_code, raw_schemas, self.variables["organization_id"])

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
        self.judge_results(self.dbt(manifest, "build", [*selection, *self.excluded()]))

    def try_tests(self, manifest: Any) -> None:
        """Tests are run over no rows: whether they hold is nothing, whether Postgres can read them is."""
        self.judge_results(self.dbt(manifest, "test", [*self.everything(), *self.excluded()]))

    def judge_results(self, outcome: Any) -> None:
        if outcome.result is None:
            self.found([self.problem_of(outcome.exception)])
            return
        for result in outcome.result.results:
            node = result.node
            path = self.places.get(node.original_file_path)
            if result.status == "skipped":
                self.unbuilt.add(node.name)
            if result.status != "error":
                continue
            self.unbuilt.add(node.name)
            self.found(
                [
                    rules.DATABASE.problem(
                        path or "",
                        line_of(result.message, getattr(node, "raw_code", "") or ""),
                        words_of(result.message, self.places),
                        "" if path else "This is the core project's: tell the operator of the installation.",
                    )
                ]
            )

    def excluded(self) -> list[str]:
        names = sorted(self.unbuilt & self.models)
        return ["--exclude", *(f"{name}+" for name in names)] if names else []


def _is_of_memory(fault: BaseException | None) -> bool:
    """Whether memory ran out, which dbt tells as an error without words."""
    return fault is not None and (isinstance(fault, MemoryError) or _is_of_memory(fault.__cause__))


def _ends_in(text: str, place: str) -> bool:
    # dbt names files as they lie in the project, and those of YAML from the folder of models on.
    return place in text or place.removeprefix("models/") in text


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _watch_files(trial: _Trial) -> None:
    """Have `report` know which file dbt renders, should that never end. No public interface tells it."""
    original = dbt_jinja.get_environment

    def get_environment(node: Any = None, *arguments: Any, **named: Any) -> Any:
        if path := trial.places.get(getattr(node, "original_file_path", "")):
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
        trial.found([rules.PARSE_LIMIT.problem(trial.at, 1, "reading it took more memory than it may")])
    except Exception as fault:  # Whatever dbt has no words for, a file of the overlay has done it.
        words = f"reading it ended with {type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
        trial.found([rules.DBT.problem(trial.at, 1, words)])
    trial.report("")


if __name__ == "__main__":
    main()
