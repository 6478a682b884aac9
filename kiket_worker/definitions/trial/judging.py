"""Judging what dbt has made of an overlay: its manifest, the SQL that it has compiled, and what Postgres said.

What is built on a file that something is wrong with is left out from then on.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from kiket_worker.dbt.overlay import Overlay, place_of
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.config import MATERIALIZATIONS, SHARED_TAG
from kiket_worker.definitions.policy.examination import Examination
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
        self._variables = variables

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
        """Once more what the policy has judged by texts, as dbt has understood it in the end."""
        for node in list(self.nodes(manifest)):
            if node.resource_type not in {"model", "seed"}:
                continue
            path, config = self.places[node.original_file_path], node.config
            if node.resource_type == "model" and config.materialized not in MATERIALIZATIONS:
                message = f"the materialisation {config.materialized!r} is not run"
                self.found([rules.MATERIALIZATION.problem(path, 1, message)])
            if config.pre_hook or config.post_hook or getattr(config, "sql_header", None):
                self.found([rules.HOOK.problem(path, 1, f"{node.name} has hooks")])
            is_elsewhere = node.schema != os.environ["DBT_ORGANIZATION_SCHEMA"] or node.alias != node.name
            if is_elsewhere or SHARED_TAG in node.tags or config.grants:
                message = f"{node.name} would be built elsewhere, or for others"
                self.found([rules.CONFIG_KEY.problem(path, 1, message)])

    def judge_compiled(self, manifest: Any, outcome: Any, names: Collection[str]) -> None:
        """What Postgres would be given of the nodes of these names, or of all models where there are none."""
        if outcome.result is None:
            self.found([self.problem_of(outcome.exception)])
        judged = set()
        for result in outcome.result.results if outcome.result else []:
            node = result.node
            if path := self.places.get(node.original_file_path):
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
            faults = [*check_sql(node.compiled_code), *self._untenanted(node)]
        except MemoryError:
            raise
        except Exception as odd:  # Of the parser, which expects no such text.
            message = f"the SQL has something that nobody expects ({type(odd).__name__})"
            yield rules.SQL_SYNTAX.problem(path, 1, message)
            return
        for fault in faults:
            line = line_in_source(fault, node.raw_code, node.compiled_code)
            yield fault.rule.problem(path, line, fault.message, fault.hint)

    def _untenanted(self, node: Any) -> list[Fault]:
        if node.resource_type != "model":
            return []
        raw_schemas = {self._variables["raw_schema"], self._variables["ledger_schema"]}
        return check_tenancy(node.compiled_code, raw_schemas, self._variables["organization_id"])

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
