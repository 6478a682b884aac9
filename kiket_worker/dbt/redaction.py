"""What Postgres says of a failure, without the values of rows that it repeats.

Logs and artifacts are read by operators, and kept; a tenant's rows must not get there by way of an error. Postgres
quotes what it complains of, be it the name of a column or the content of one, and puts whole rows under DETAIL. So
names are kept where the words around them say that they are names and the bundle has them; any other quotation is left
out, and so are the lines that may hold rows.

The words are those of Postgres and libpq (https://www.postgresql.org/docs/current/error-style-guide.html).
"""

import re
from collections.abc import Callable, Container, Mapping
from typing import Any

_LEFT_OUT = '"…"'
_RAISED = "a function of the organisation's raised an exception, whose words are left out"

_NAME = r'"[^"\n]{1,255}"'
# Messages in which each quotation is a name; `{}` stands for one.
_OF_NAMES = [
    re.compile(text.replace("{}", _NAME))
    for text in (
        r"column (?:reference )?{}(?: of relation {})? (?:does not exist|is ambiguous|specified more than once)",
        r"column {} (?:must appear in the GROUP BY clause or be used in an aggregate function|has pseudo-type \S+)",
        r"column {} is of type [\w ]+ but expression is of type [\w ]+",
        r"column {} (?:of relation {} already exists|cannot be cast automatically to type [\w ]+)",
        r"(?:relation|table|view|index|schema|type|function|extension|role|database) {} (?:does not|already) exists?",
        r"(?:missing|invalid reference to) FROM-clause entry for table {}",
        r"table name {} specified more than once",
        r"syntax error at or near {}",
        r"(?:cannot \w+ )?(?:\w+ )?{} is not (?:a|an) [\w ]+",
        r"permission denied (?:for|to) [\w -]*{}",
        r"must be able to SET ROLE {}",
        r"(?:cannot set )?parameter {} (?:cannot be changed|within security-definer function)",
        r"access to library {} is not allowed",
        r"cannot modify statistics for relation {}",
        r"duplicate key value violates unique constraint {}",
        r"null value in column {} of relation {} violates not-null constraint",
        r"new row for relation {} violates check constraint {}",
        r"(?:insert or update|update or delete) on table {} violates foreign key constraint {}(?: on table {})?",
        r"cannot \w+ [\w ]+ {} because other objects depend on it",
        r"cannot \w+ columns? [\w ]+ {}(?: to {})?",
        r"connection to server at {}(?: \([\d.:a-f]+\))?, port \d+ failed: (?:FATAL:  )?[\w ,]*(?:{})?[\w ,]*",
    )
]
# What may follow the message: where in the statement, what to try, and dbt's own word of where the statement is.
_FOLLOWING = re.compile(r"\s*(?:LINE \d+: |\^$|HINT:\s|compiled code at )")
_FIELD = re.compile(r"\s*(?:LINE \d+: |\^$|(?:DETAIL|HINT|CONTEXT|QUERY):\s|compiled code at )")
_STATEMENT_OF_A_FUNCTION = re.compile(r"^\s*QUERY:\s", re.MULTILINE)
_RAISE = re.compile(r"^.*\bat RAISE\b", re.MULTILINE)
_HEAD = re.compile(r"(?s)(.*?\bDatabase Error(?: in [^\n]*)?\n)(.*)")
# What dbt says by itself: of the project, and nothing of rows.
_DBTS_OWN = re.compile(
    r"\s*(?:Encountered an error:\n)?(?:\w+ ?Error\b|Got \d+ results?|Failure in |Warning in |File \")"
)
_WORD = re.compile(r"\w+")
# What dbt adds to a relation's name while it is built.
_OF_DBT = re.compile(r"__dbt_\w+$")
# Where dbt's events have the words of an error.
_WORDS_OF_AN_ERROR = ("msg", "exc", "exc_info", "message", "base_msg")

Names = Container[str]


def words_of(*texts: str) -> frozenset[str]:
    """The words of texts, by which a name is told from a value."""
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


def redacted(text: str, names: Names) -> str:
    """An error's words as dbt or Postgres gives them, without values. `names` are words in lower case."""
    if found := _HEAD.fullmatch(text):
        return found[1] + _redacted(found[2], names)
    if _DBTS_OWN.match(text):
        return text
    return _redacted(text, names)


def redact_event(event: dict[str, Any], names: Callable[[], Names]) -> bool:
    """Redact an event of dbt's log where it tells of an error; gives whether anything was left out."""
    if event["info"].get("level") != "error":
        return False
    changed = False
    for part in (event["info"], event["data"]):
        for key in _WORDS_OF_AN_ERROR:
            if isinstance(part.get(key), str) and (words := redacted(part[key], names())) != part[key]:
                part[key], changed = words, True
    return changed


def redact_results(document: Mapping[str, Any], names: Callable[[], Names]) -> bool:
    """Redact the messages of a `run_results.json`; gives whether anything was left out."""
    changed = False
    for result in document["results"]:
        if result.get("status") not in {"success", "pass", "skipped"} and isinstance(result.get("message"), str):
            words = redacted(result["message"], names())
            changed |= words != result["message"]
            result["message"] = words
    return changed


def _redacted(text: str, names: Names) -> str:
    if _RAISE.search(text):
        return _indented(text, _RAISED) + "".join(_compiled_code(text))
    lines = text.splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if _FIELD.match(line)), len(lines))
    message, rest = "".join(lines[:end]), lines[end:]
    if '"' in message and not _is_of_names(message.strip(), names):
        # To the last quotation mark of all: a value may hold such marks, and lines that look like those that follow.
        before, _, after = text.partition('"')
        tail = after.rpartition('"')[2]
        message, *rest = (before + _LEFT_OUT + tail).splitlines(keepends=True)
    if _STATEMENT_OF_A_FUNCTION.search(text):
        rest = [line for line in rest if "compiled code at " in line]
    return message + "".join(_kept(rest))


def _kept(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.strip() or _FOLLOWING.match(line)]


def _is_of_names(message: str, names: Names) -> bool:
    return any(pattern.fullmatch(message) for pattern in _OF_NAMES) and all(
        _OF_DBT.sub("", word) in names
        for quotation in re.findall(_NAME, message)
        for word in _WORD.findall(quotation.lower())
    )


def _compiled_code(text: str) -> list[str]:
    return [f"\n{line}" for line in text.splitlines() if line.strip().startswith("compiled code at ")]


def _indented(text: str, words: str) -> str:
    return text[: len(text) - len(text.lstrip())] + words
