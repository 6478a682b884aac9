"""The policy on the YAML of dbt: what it describes, how it configures, and exposures."""

from collections.abc import Collection, Iterator
from typing import Any

from kiket_worker.dbt.placeholders import OPENING, kept_literal
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.config import check_config
from kiket_worker.definitions.policy.core import Known
from kiket_worker.definitions.policy.jinja import Template, examine
from kiket_worker.definitions.policy.sql import check_sql
from kiket_worker.definitions.problem import Problem
from kiket_worker.definitions.yaml_document import Located, read_yaml

_SECTIONS = frozenset(
    ["models", "sources", "seeds", "macros", "exposures", "unit_tests", "data_tests", "tests", "groups", "analyses"]
)
_OTHERS = frozenset(["version", "anchors"])
# What is for people, and configures nothing.
_PROSE = frozenset(["meta", "owner"])
# dbt takes these for configuration where they stand among a test's arguments.
_OF_TESTS = frozenset(
    [
        *("where", "warn_if", "error_if", "fail_calc", "limit", "severity", "enabled", "tags", "meta", "group"),
        *("store_failures", "store_failures_as", "alias", "schema", "database"),
    ]
)
_EXPOSURE_TYPES = ("dashboard", "notebook", "analysis", "ml", "application")
_MATURITIES = ("high", "medium", "low")


class Properties:
    """One YAML file of the overlay: what is wrong with it, and what it names."""

    def __init__(self, file: str, text: str, known: Known, own_macros: Collection[str]) -> None:
        self.file = file
        self.text = text
        self.document = read_yaml(text)
        self.known = known
        self.own_macros = own_macros
        self.problems: list[Problem] = []
        self.sources: list[tuple[str, str]] = []
        self.refs: list[tuple[str, int]] = []
        self.used_sources: list[tuple[str, str, int]] = []

    def check(self) -> None:
        """Look through the file."""
        content = self.document.content
        if content is None:  # Only comments.
            return
        if not isinstance(content, dict):
            self._shape(self.document.line, "the file is no mapping")
            return
        for section, value in content.items():
            line = self.document.key_lines[section]
            if section in _OTHERS:
                continue
            if section not in _SECTIONS:
                self._shape(line, f"{section!r} is not among what is built")
                continue
            if not isinstance(value.content, list):
                self._shape(line, f"{section!r} is no list")
                continue
            for item in value.items():
                self._check_item(section, item)
        # As dbt reads it, so that what hides a brace from that is judged.
        self._check_texts(read_yaml(kept_literal(self.text)))

    def _shape(self, line: int, message: str) -> None:
        self.problems.append(rules.YAML_SHAPE.problem(self.file, line, message))

    def _check_item(self, section: str, item: Located) -> None:
        name = item.get("name")
        if name is None or not isinstance(name.content, str) or not name.content.strip():
            self._shape(item.line, f"an entry of {section!r} is no mapping with a name")
            return
        self._check_shapes(item, name.content)
        if section == "exposures":
            self._check_exposure(item, name.content)
        elif section == "unit_tests":
            model = item.get("model")
            if model is None or not isinstance(model.content, str) or not model.content.strip():
                self._shape((model or item).line, f"the unit test {name.content!r} names no model")
            else:
                self.refs.append((model.content, model.line))
            self._check_statements(item)
        elif section == "sources":
            self._check_source(item, name.content)
        elif (section in {"models", "seeds"} and name.content in self.known.models) or (
            section == "macros" and name.content in self.known.macros
        ):
            self.problems.append(
                rules.CORE_OVERRIDE.problem(
                    self.file,
                    name.line,
                    f"{name.content!r} is described by the core project, or by another overlay",
                    "Describe your own models only; one of your own can be built on it.",
                )
            )
        self._check_configs(item)

    def _check_shapes(self, item: Located, name: str) -> None:
        """Lists and mappings of an entry that are something else, of which dbt would say little, or nothing."""
        for key in ("tables", "columns", "depends_on"):
            given = item.get(key)
            if given is not None and not isinstance(given.content, list | None):
                self._shape(item.line_of(key), f"{key!r} of {name!r} is no list")
        parts = [part for key in ("tables", "columns") if (given := item.get(key)) for part in given.items()]
        for part in (item, *parts):
            config = part.get("config")
            if config is not None and not isinstance(config.content, dict | None):
                self._shape(part.line_of("config"), f"a 'config' of {name!r} is no mapping")

    def _check_statements(self, unit_test: Located) -> None:
        """The rows of a unit test may be given as a statement, which dbt runs as it is."""
        given = unit_test.get("given")
        for part in (*(given.items() if given else ()), unit_test.get("expect")):
            rows = part.get("rows") if part else None
            style = part.get("format") if part else None
            if rows is not None and isinstance(rows.content, str) and style is not None and style.content == "sql":
                self.problems += [
                    fault.rule.problem(self.file, rows.line, f"a unit test: {fault.message}", fault.hint)
                    for fault in check_sql(rows.content, ())
                ]

    def _check_source(self, item: Located, source: str) -> None:
        for table in tables.items() if (tables := item.get("tables")) else ():
            name = table.get("name")
            if name is None or not isinstance(name.content, str) or not name.content.strip():
                self._shape(table.line, f"a table of source {source!r} has no name")
                continue
            if (source, name.content) in self.known.sources:
                self.problems.append(
                    rules.CORE_OVERRIDE.problem(
                        self.file,
                        name.line,
                        f"the source {source}.{name.content} is declared by the core project, or by another overlay",
                        "Use it as it is.",
                    )
                )
            self.sources.append((source, name.content))

    def _check_exposure(self, item: Located, name: str) -> None:
        def wrong(line: int, message: str, hint: str) -> None:
            self.problems.append(rules.EXPOSURE.problem(self.file, line, f"exposure {name!r} {message}", hint))

        kind, owner, maturity = item.get("type"), item.get("owner"), item.get("maturity")
        if kind is None or kind.content not in _EXPOSURE_TYPES:
            wrong((kind or item).line, "has no type that is known", f"There are {', '.join(_EXPOSURE_TYPES)}.")
        if owner is None or not any(
            isinstance(given.content, str) and given.content
            for key in ("name", "email")
            if (given := owner.get(key)) is not None
        ):
            wrong((owner or item).line, "has no owner", "Give `owner` a `name` or an `email`.")
        if maturity is None or maturity.content not in _MATURITIES:
            self.problems.append(
                rules.EXPOSURE_MATURITY.problem(
                    self.file,
                    (maturity or item).line,
                    f"exposure {name!r} does not say how mature it is",
                    f"Give `maturity` one of {', '.join(_MATURITIES)}.",
                )
            )
        depends = item.get("depends_on")
        for used in depends.items() if depends else ():
            text = used.content if isinstance(used.content, str) else ""
            template = examine(self.file, "{{ " + text + " }}", self.known, (), first_line=used.line)
            if template.problems or not (template.refs or template.sources):
                what = repr(text) if text else "what is no text"
                wrong(used.line, f"depends on {what}, which is no ref or source", "Write ref('model').")
            self.refs += template.refs
            self.used_sources += template.sources

    def _check_configs(self, here: Located) -> None:
        if isinstance(here.content, dict):
            for key, value in here.content.items():
                if key == "config" and isinstance(value.content, dict):
                    for name, given in value.content.items():
                        line = value.key_lines[name]
                        self.problems += check_config(self.file, name, list(_scalars(given)), line)
                elif key not in _PROSE:
                    if key in {"tests", "data_tests"}:
                        self._check_tests(value)
                    self._check_configs(value)
        for item in here.items():
            self._check_configs(item)

    def _check_tests(self, tests: Located) -> None:
        for test in tests.items():
            for arguments in test.content.values() if isinstance(test.content, dict) else ():
                for name, given in arguments.content.items() if isinstance(arguments.content, dict) else ():
                    if name in _OF_TESTS:
                        line = arguments.key_lines[name]
                        self.problems += check_config(self.file, name, list(_scalars(given)), line)

    def _check_texts(self, here: Located) -> None:
        if isinstance(here.content, dict):
            for value in here.content.values():
                self._check_texts(value)
        elif isinstance(here.content, list):
            for item in here.content:
                self._check_texts(item)
        elif isinstance(here.content, str) and OPENING.search(here.content):
            template: Template = examine(self.file, here.content, self.known, self.own_macros, first_line=here.line)
            # Where a block of text begins, only YAML knows: its lines are not told apart.
            self.problems += [
                rules.BY_NAME[found.rule].problem(self.file, here.line, found.message, found.hint)
                for found in template.problems
            ]


def _scalars(here: Located) -> Iterator[Any]:
    if isinstance(here.content, dict):
        for value in here.content.values():
            yield from _scalars(value)
    elif isinstance(here.content, list):
        for item in here.content:
            yield from _scalars(item)
    else:
        yield here.content
