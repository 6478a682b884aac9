"""How problems are told: as text with the author's own lines, as JSON, and as SARIF for what annotates code."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kiket_worker import __version__
from kiket_worker.definitions.problem import Problem, Severity
from kiket_worker.definitions.rules import BY_NAME, PAGE

_MOST_CHARACTERS = 160
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def as_lines(problems: Sequence[Problem], files: Mapping[str, str]) -> Iterator[str]:
    """Each problem with its line of the source, what helps, and where its rule is explained."""
    for problem in problems:
        place = f"{problem.file}:{problem.line}" if problem.file else "repository"
        yield f"{visible(place)}: {problem.severity}: {visible(problem.message)} [{problem.rule}]"
        # Only line feeds were counted.
        lines = files.get(problem.file, "").split("\n")
        if problem.line <= len(lines) and lines[problem.line - 1].strip():
            yield f"  {problem.line:>4} | {visible(lines[problem.line - 1])[:_MOST_CHARACTERS]}"
        if problem.hint:
            yield f"       = {visible(problem.hint)}"
        yield f"       = {link(problem.rule)}"
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    yield f"{errors} errors, {len(problems) - errors} warnings"


def as_document(problem: Problem) -> dict[str, Any]:
    """The problem as JSON has it."""
    return {name: visible(value) if isinstance(value, str) else value for name, value in asdict(problem).items()} | {
        "docs": link(problem.rule)
    }


def as_sarif(problems: Sequence[Problem]) -> dict[str, Any]:
    """SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), which code hosts show beside the lines."""
    used = sorted({problem.rule for problem in problems})
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "kiket-worker",
                        "version": __version__,
                        "rules": [_rule(name) for name in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(problem, used.index(problem.rule)) for problem in problems],
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    rule = BY_NAME[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.why} See {link(name)}."},
        "defaultConfiguration": {"level": str(rule.severity)},
    }


def _result(problem: Problem, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": problem.rule,
        "ruleIndex": index,
        "level": str(problem.severity),
        "message": {"text": " ".join(text for text in (visible(problem.message), problem.hint) if text)},
    }
    # What is about the whole repository has no place.
    if problem.file:
        result["locations"] = [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": problem.file},
                    "region": {"startLine": problem.line},
                }
            }
        ]
    return result


def link(rule: str) -> str:
    """Where a rule is explained."""
    return f"{PAGE}#{rule}"


def visible(text: str) -> str:
    """A stranger's text without what would move a terminal's cursor or turn its direction."""
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
