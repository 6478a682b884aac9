"""Judging what dbt has made of an overlay: its manifest, the SQL that it has compiled, and what Postgres said.

What is built on a file that something is wrong with is left out from then on.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from kiket_worker.dbt.overlay import Overlay, is_yaml, place_of
from kiket_worker.dbt.replay.inspection import CONFIGURATION, Inspection
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.examination import Examination
from kiket_worker.definitions.policy.nodes import check_header, judge_node, judge_source
from kiket_worker.definitions.policy.sql import Fault, check_sql, line_in_source
from kiket_worker.definitions.policy.tenancy import check_tenancy
from kiket_worker.definitions.problem import Problem
from kiket_worker.definitions.trial.words import line_of, words_of


class Judge:
    """Of one overlay, under its name. `unread` are files that could not be read, `variables` dbt's.

    `left_out` are those and all that are left out because of others, `unbuilt` the models that are not there therefore.
    """

    def __init__(self, overlay: Overlay, name: str, unread: Collection[str], variables: dict[str, Any]) -> None:
        self.places = {place: path for path in overlay.files if (place := place_of(path, name))}
        self.problems: list[Problem] = []
        self.left_out: set[str] = set(unread)
        self.unbuilt: set[str] = set()
        self.examination = Examination([], {})
        self._files = overlay.files
        # Where the trial builds, and what it may read; none of these names is known to the author.
        self._schema: str = variables["organization_schema"]
        self._raw_schemas = {variables["raw_schema"], variables["ledger_schema"]}
        self._schemas = {self._schema, *self._raw_schemas}
        self._organization_id: int = variables["organization_id"]

    def found(self, problems: Iterable[Problem]) -> None:
        """Note problems, and leave out what is built on their files."""
        problems = list(problems)
        self.problems += problems
        bad = {problem.file for problem in problems if problem.severity == "error"}
        self.left_out = self.examination.with_dependents(self.left_out | bad)
        self.unbuilt |= Overlay(dict.fromkeys(self.left_out, "")).models.keys()

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
        """What dbt has understood in the end: once more what was judged by texts, and what was computed from them."""
        for node in list(self.nodes(manifest)):
            self.found(self._located(judge_node(node, self._schema, self._schemas), node))
            if node.resource_type == "seed":
                self.found(self._located(check_header(self._text_of(node), node.config), node))
        for source in manifest.sources.values():
            if (path := self.places.get(source.original_file_path)) and path not in self.left_out:
                self.found(self._located(judge_source(source, self._schemas), source))

    def _text_of(self, node: Any) -> str:
        return self._files[self.places[node.original_file_path]]

    def _located(self, faults: Iterable[Fault], node: Any) -> Iterator[Problem]:
        """Problems of a node, told in the file that has the word of each: its own, or the one that describes it."""
        own = self.places[node.original_file_path]
        described = self.places.get(str(getattr(node, "patch_path", None) or "").partition("://")[2], own)
        for fault in faults:
            lines = [
                (path, number)
                for path in (own, described)
                for number, line in enumerate(self._files[path].split("\n"), 1)
                if fault.word and fault.word in line
            ]
            path, number = lines[0] if lines else (own, 1)
            yield fault.rule.problem(path, number, fault.message, fault.hint)

    def judge_looks(self, looks: Iterable[Inspection]) -> None:
        """What the overlay's Jinja has looked at that differs between organisations, or between runs."""
        for look in sorted(looks, key=str):
            if path := self.places.get(look.file):
                self.found([rules.JINJA_TENANT.problem(path, look.line, f"Jinja {look.what}")])
            elif look.file == CONFIGURATION:
                self.found([rules.JINJA_TENANT.problem(self._rendered_yaml(), 1, f"Jinja in YAML {look.what}")])

    def _rendered_yaml(self) -> str:
        """A file of YAML that has Jinja: of what dbt renders there, it does not say in which one it is."""
        files = (path for path in self.places.values() if path not in self.left_out)
        return next((path for path in files if is_yaml(path) and "{{" in self._files[path]), "")

    def judge_compiled(self, manifest: Any, outcome: Any, names: Collection[str]) -> None:
        """What Postgres would be given of the nodes of these names, or of all models where there are none."""
        if outcome.result is None:
            self.found([self.problem_of(outcome.exception)])
        judged = set()
        for result in outcome.result.results if outcome.result else []:
            node = result.node
            if (path := self.places.get(node.original_file_path)) and node.resource_type != "seed":
                judged.add(node.name)
                self.found(self._faults_of(node, path, result))
        wanted = names or [node.name for node in self.nodes(manifest) if node.resource_type == "model"]
        for node in list(self.nodes(manifest)):
            if node.name in wanted and node.name not in judged | self.unbuilt:
                self.found([rules.DBT.problem(self.places[node.original_file_path], 1, "dbt did not compile it")])

    def _faults_of(self, node: Any, path: str, result: Any) -> Iterator[Problem]:
        if result.status == "skipped":  # For what is wrong with another.
            self.unbuilt.add(node.name)
            return
        if result.status == "error" or not node.compiled_code:
            words = words_of(result.message or "dbt did not compile it", self.places)
            yield rules.DBT.problem(path, line_of(result.message or "", node.raw_code), words)
            return
        try:
            faults = check_sql(node.compiled_code, self._schemas)
            if node.resource_type == "model":
                faults += check_tenancy(node.compiled_code, self._raw_schemas, self._organization_id)
        except MemoryError:
            raise
        except Exception as odd:  # Of the parser, which expects no such text.
            message = f"the SQL has something that nobody expects ({type(odd).__name__})"
            yield rules.SQL_SYNTAX.problem(path, 1, message)
            return
        for fault in faults:
            line = line_in_source(fault, node.raw_code, node.compiled_code)
            yield fault.rule.problem(path, line, fault.message, fault.hint)

    def judge_results(self, outcome: Any) -> None:
        """What Postgres said of what was built or tried."""
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

    def problem_of(self, fault: BaseException) -> Problem:
        """What dbt says when it stops at a file."""
        text = str(fault)
        if _is_of_memory(fault):
            return rules.PARSE_LIMIT.problem(self._file_named_in(text), 1, "reading it took more memory than it may")
        file = self._file_named_in(text)
        found = re.search(r"\bline (\d+)", text)
        return rules.DBT.problem(file, int(found[1]) if found else 1, words_of(text, self.places))

    def _file_named_in(self, text: str) -> str:
        return next((path for place, path in sorted(self.places.items(), reverse=True) if _ends_in(text, place)), "")


def _is_of_memory(fault: BaseException | None) -> bool:
    """Whether memory ran out, which dbt tells as an error without words."""
    return fault is not None and (isinstance(fault, MemoryError) or _is_of_memory(fault.__cause__))


def _ends_in(text: str, place: str) -> bool:
    # dbt names files as they lie in the project, and those of YAML from the folder of models on.
    return place in text or place.removeprefix("models/") in text
