"""Examining an overlay by its texts: every rule that needs neither dbt nor Postgres."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from kiket_worker.dbt.overlay import OF_DBT, Kind, Overlay, is_yaml, kind_of
from kiket_worker.definitions import rules
from kiket_worker.definitions.policy.core import Known, macros_of
from kiket_worker.definitions.policy.jinja import examine
from kiket_worker.definitions.policy.names import check_cycles, check_names, check_refs, check_sources
from kiket_worker.definitions.policy.properties import Properties
from kiket_worker.definitions.problem import Problem


@dataclass
class _File:
    """What a file gives to others, and what it takes from them."""

    models: set[str] = field(default_factory=set)
    macros: set[str] = field(default_factory=set)
    declared: set[tuple[str, str]] = field(default_factory=set)
    refs: list[tuple[str, int]] = field(default_factory=list)
    sources: list[tuple[str, str, int]] = field(default_factory=list)
    called: set[str] = field(default_factory=set)


@dataclass
class Examination:
    """What was found, and which files hang on which."""

    problems: list[Problem]
    files: dict[str, _File]

    def with_dependents(self, bad: Iterable[str]) -> set[str]:
        """Files, and all that cannot be built without them."""
        left_out, grown = set(bad), True
        while grown:
            gone = [self.files[path] for path in left_out if path in self.files]
            models = {name for file in gone for name in file.models}
            macros = {name for file in gone for name in file.macros}
            declared = {pair for file in gone for pair in file.declared}
            more = {
                path
                for path, file in self.files.items()
                if path not in left_out
                and (
                    any(name in models for name, _ in file.refs)
                    or macros & file.called
                    or any((source, table) in declared for source, table, _ in file.sources)
                )
            }
            left_out |= more
            grown = bool(more)
        return left_out


def examine_overlay(
    overlay: Overlay, known: Known, unread: Collection[str] = (), on_file: Callable[[str], None] = lambda _: None
) -> Examination:
    """Judge every file that dbt would read. `on_file` is told which is looked at, in case that does not end.

    `unread` are files that something is wrong with already: others may refer to their models.
    """
    texts = overlay.of_kind(*OF_DBT)
    own_macros = {name for text in texts.values() for name in macros_of(text)}
    problems: list[Problem] = []
    files: dict[str, _File] = {}
    for path, text in texts.items():
        on_file(path)
        files[path] = _file(path, text, known, own_macros, problems)
    for name, paths in Overlay(dict.fromkeys([*texts, *unread], "")).models.items():
        for path in paths:
            files.setdefault(path, _File()).models.add(name)
    problems += check_names(overlay.models, known)
    problems += _check_links(files, overlay.models, known)
    return Examination(problems, files)


def _file(path: str, text: str, known: Known, own_macros: set[str], problems: list[Problem]) -> _File:
    """What one file has. Whatever it does to whoever reads it, the others are judged."""
    suffix = PurePosixPath(path).suffix
    try:
        if is_yaml(path):
            return _properties(path, text, known, own_macros, problems)
        if suffix in {".csv", ".md"}:  # dbt renders docs blocks without any name that reaches anything.
            return _File()
        return _template(path, text, known, own_macros, problems, is_model=kind_of(path) is Kind.MODEL)
    except MemoryError:
        problems.append(rules.PARSE_LIMIT.problem(path, 1, "reading it took more memory than it may"))
    except RecursionError:
        problems.append(rules.PARSE_LIMIT.problem(path, 1, "it is nested too deeply to be read"))
    except Exception as fault:
        rule = rules.YAML_SHAPE if is_yaml(path) else rules.JINJA_SYNTAX
        problems.append(rule.problem(path, 1, f"the file has something that nobody expects ({type(fault).__name__})"))
    return _File(macros=set(macros_of(text)))


def _check_links(files: dict[str, _File], models: Mapping[str, list[str]], known: Known) -> Iterator[Problem]:
    """What is wrong between files."""
    there = {name for file in files.values() for name in file.models}
    declared = {pair for file in files.values() for pair in file.declared}
    for path, file in files.items():
        yield from check_refs(path, file.refs, there, known)
        yield from check_sources(path, file.sources, declared, known)
    yield from check_cycles({name: files[paths[0]].refs for name, paths in models.items()}, models)
    yield from _clashing_macros(files)


def _properties(path: str, text: str, known: Known, own_macros: set[str], problems: list[Problem]) -> _File:
    found = Properties(path, text, known, own_macros)
    found.check()
    problems += found.problems
    return _File(declared=set(found.sources), refs=found.refs, sources=found.used_sources)


def _template(
    path: str, text: str, known: Known, own_macros: set[str], problems: list[Problem], *, is_model: bool
) -> _File:
    found = examine(path, text, known, own_macros, is_model=is_model)
    problems += found.problems
    # Of what Jinja could not read, nothing is known but what it looks like.
    macros = set(found.macros) or (set(macros_of(text)) if found.problems else set())
    return _File(macros=macros, refs=found.refs, sources=found.sources, called=found.called)


def _clashing_macros(files: dict[str, _File]) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for path, file in files.items():
        for name in sorted(file.macros):
            other = first.setdefault(name, path)
            if other != path:
                yield rules.MACRO_OVERRIDE.problem(
                    path, 1, f"the macro {name!r} is defined in {other} too", "Give it another name."
                )
