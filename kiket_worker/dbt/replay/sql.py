"""Reading a statement that dbt sent: what it does, and which relations of the tenant's schema it names.

Names are found by the words that Postgres would see, and not inside of texts and comments, so that a relation can be
called otherwise for a while, and what a model prints stays as it is. Lexical rules: PostgreSQL manual, 4.1.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from kiket_worker.dbt.replay.holes import INDEX, RELATION, SCHEMA, hole

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<comment>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<text>[eE]'(?:[^'\\]|\\.|'')*'(?:\s*\n\s*'(?:[^'\\]|\\.|'')*')* | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
    | (?P<dollar>\$\$.*?\$\$ | \$(?P<tag>[^\W\d]\w*)\$.*?\$(?P=tag)\$)
    | (?P<word>(?:[^\W\d]|\x01[^\x02]*\x02)(?:[\w$]|\x01[^\x02]*\x02)*)
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_SILENT = {"space", "comment"}
_SCHEMA = hole(SCHEMA)
# What a text may have made the name of a schema of.
_NAMES = (_SCHEMA, hole("slug"), hole("reader"))

# What a statement may begin with: nothing that changes the session, or must be outside of a transaction.
_DML = {"select", "with", "values", "insert", "update", "delete", "merge"}
# Without a lock that a reader would wait for.
_HARMLESS = {"comment", "grant", "revoke", "analyze"}
_TRANSACTION = {"begin", "commit", "start", "end"}
_CREATED = {"table", "view", "index", "materialized", "temporary", "temp", "unlogged", "unique", "or", "recursive"}
_ALTERED = {"table", "view", "materialized"}
# They change the session, or wait for somebody, from inside of a query.
_SESSION_FUNCTIONS = re.compile(
    r"\b(set_config|setseed|pg_advisory\w*|pg_try_advisory\w*|pg_sleep\w*|dblink\w*|lo_\w+|pg_notify|txid_current\w*)\s*\(",
    re.IGNORECASE,
)


_CATALOG = re.compile(
    r'^"?(information_schema|pg_\w+|reg(class|proc|type|namespace)|to_reg\w+|query_to_xml|table_to_xml|cursor_to_xml)"?$',
    re.IGNORECASE,
)


_COLUMNS = re.compile(
    r"""
    \s* (/\*.*?\*/)? \s* select \s+ column_name, \s+ data_type, \s+ character_maximum_length, \s+ numeric_precision,
    \s+ numeric_scale \s+ from \s+ ("[^"]+"\.)? INFORMATION_SCHEMA\.columns \s+
    where \s+ table_name \s = \s '(?P<name>[^'"]+)' (?P<schema> \s+ and \s+ table_schema \s = \s '\x01schema\x02' )?
    \s+ order \s by \s ordinal_position \s*
    """,
    re.VERBOSE | re.DOTALL,
)


class Action(StrEnum):
    """What a command does to relations, as far as it matters for those who read them meanwhile."""

    WORK = "work"  # Writes rows, or reads.
    CREATE = "create"
    INDEX = "index"  # Makes an index of a name that somebody has chosen.
    TEMPORARY = "temporary"  # Makes a relation of this session.
    OWN = "own"  # Alters or drops a relation of this session.
    RENAME = "rename"
    DROP = "drop"
    EMPTY = "empty"  # Takes all rows away, and a lock that readers of the relation wait for.
    ALTER = "alter"  # Takes such a lock too.
    TRANSACTION = "transaction"  # The engine's own matter.


class NotReplayable(Exception):
    """A statement that cannot be replayed, and why."""


@dataclass(frozen=True)
class Token:
    """A piece of a statement; `kind` is the name of its group above."""

    kind: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a statement. `relation` is what is altered, renamed (to `name`) or dropped."""

    action: Action
    text: str
    relation: str | None = None
    name: str | None = None


def commands_of(text: str) -> tuple[Command, ...]:
    """The commands of a statement, each with holes where it names relations of the tenant's schema.

    Raises `NotReplayable`.
    """
    return tuple(_command(tokens) for tokens in _split(_with_relations(list(_tokens(text)))))


def is_frame(text: str) -> bool:
    """Whether a statement only begins or ends a transaction, or is none."""
    words = _words(list(_tokens(text)))
    return not words or words[0] in _TRANSACTION


def asks_catalog(text: str) -> bool:
    """Whether a statement asks the database what there is, or turns a text into a name."""
    return any(_CATALOG.search(token.text) for token in _tokens(text) if token.kind in {"word", "quoted"})


def with_names_in_texts(text: str, names: Collection[str]) -> str:
    """A question to the catalog with a hole for each text that is the name of one of these relations."""
    return "".join(
        f"'{hole(RELATION + token.text[1:-1])}'"
        if token.kind == "text" and token.text[0] == "'" and token.text[1:-1] in names
        else token.text
        for token in _tokens(text)
    )


def asks_columns_of(text: str) -> str | None:
    """The relation, in quotes and with holes, whose columns a statement asks for, if it asks as dbt-postgres does.

    Its macro `postgres__get_columns_in_relation`; a relation without a schema is one of the session.
    """
    found = _COLUMNS.fullmatch(text)
    if found is None:
        return None
    return f'"{_SCHEMA}"."{found["name"]}"' if found["schema"] else f'"{found["name"]}"'


def identifiers_of(text: str) -> frozenset[str]:
    """The words of a statement that Postgres may take for the name of a relation without its schema.

    Not those that the statement itself gives to a part of it, by `name as (…)` or `… as name`.
    """
    loud = [token for token in _unnamed(_with_relations(list(_tokens(text)))) if token.kind not in _SILENT]
    names = [token.text.lower() if token.kind == "word" else token.text.strip('"') for token in loud]
    given = {names[at] for at in range(1, len(names)) if names[at - 1] == "as"}
    given |= {names[at] for at in range(len(names) - 1) if names[at + 1] == "as"}
    return frozenset(
        name for name, token in zip(names, loud, strict=True) if token.kind in {"word", "quoted"} and name not in given
    )


def selects_all(text: str) -> bool:
    """Whether a query has a star that may stand for columns: any but that of `count(*)`."""
    loud = [token.text for token in _tokens(text) if token.kind not in _SILENT]
    return any(word == "*" and loud[at - 1 : at] != ["("] for at, word in enumerate(loud))


def writes(text: str) -> bool:
    """Whether a statement that is asked may write as well."""
    words = {token.text.lower() for token in _tokens(text) if token.kind == "word"}
    return bool(words & {"insert", "update", "delete", "merge", "create", "drop", "alter", "truncate", "nextval"})


def unnamed(text: str) -> str:
    """What a statement says beside its comments and the relations that it names as dbt does.

    Empty where nothing of that can be a relation's name: it has not the tenant's schema or slug in it, nor asks the
    catalog.
    """
    rest = list(_unnamed(_with_relations(list(_tokens(text)))))
    if asks_catalog(text) or any(name in token.text for token in rest for name in _NAMES):
        return " ".join(token.text for token in rest if token.kind not in _SILENT)
    return ""


def rows_of(main: str, relation: str, target: str) -> str | None:
    """The query of a `create table RELATION as (…)`, or of the `insert into RELATION` after a `create`.

    As an `insert into TARGET`; None where the statement is neither.
    """
    commands = commands_of(main)
    named = hole(RELATION + relation)
    if len(commands) == 2 and _words(list(_tokens(commands[1].text)))[:2] == ["insert", "into"]:
        return commands[1].text.replace(named, hole(RELATION + target))
    if len(commands) != 1:
        return None
    found = re.fullmatch(
        rf'(?s)(?:\s|/\*.*?\*/|--[^\n]*\n)*create\s+(?:unlogged\s+)?table\s+("[^"]*"\.)"[^"]*"\."{re.escape(named)}"'
        r"\s+as\s*(\(.*\))\s*",
        commands[0].text,
        re.IGNORECASE,
    )
    if found is None:
        return None
    return f'insert into {found[1]}"{_SCHEMA}"."{hole(RELATION + target)}"\n{found[2]}'


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None
        assert match.lastgroup is not None
        kind = "dollar" if match.lastgroup == "tag" else match.lastgroup
        if kind == "block":
            end = _end_of_comment(text, match.end())
            yield Token("comment", text[position:end])
            position = end
        else:
            yield Token(kind, match[0])
            position = match.end()


def _end_of_comment(text: str, position: int) -> int:
    """Where a comment ends that has begun before `position`: they nest."""
    depth = 1
    for mark in re.finditer(r"/\*|\*/", text[position:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return position + mark.end()
    raise NotReplayable("a comment does not end")


def _with_relations(tokens: list[Token]) -> list[Token]:
    """The tokens with a hole for each relation that is named as dbt does, with its schema and in quotes."""
    found = list(tokens)
    for position, token in enumerate(tokens):
        if (token.kind, token.text) != ("quoted", f'"{_SCHEMA}"') or position + 2 >= len(tokens):
            continue
        dot, name = tokens[position + 1 : position + 3]
        if dot.text == "." and name.kind == "quoted" and '""' not in name.text and "\x01" not in name.text:
            found[position + 2] = Token("quoted", f'"{hole(RELATION + name.text[1:-1])}"')
    return found


def _unnamed(tokens: list[Token]) -> Iterator[Token]:
    """The tokens but for comments and for the schema before a relation's name."""
    for position, token in enumerate(tokens):
        following = tokens[position + 2].text if position + 2 < len(tokens) else ""
        is_named = token.text[1:].startswith(f"\x01{RELATION}") or following.startswith(f'"\x01{RELATION}')
        if token.kind != "comment" and not is_named:
            yield token


def _split(tokens: list[Token]) -> list[list[Token]]:
    commands: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "end":
            commands.append([])
        else:
            commands[-1].append(token)
    return [command for command in commands if any(token.kind not in _SILENT for token in command)]


def _words(tokens: list[Token]) -> list[str]:
    loud = [token for token in tokens if token.kind not in _SILENT]
    return [token.text.lower() if token.kind == "word" else token.text for token in loud]


def _command(tokens: list[Token]) -> Command:
    text = "".join(token.text for token in tokens)
    words = _words(tokens)
    while words and words[0] == "(":
        words = words[1:]
    first = words[0] if words else ""
    loud = "".join(token.text.strip('"') for token in tokens if token.kind in {"word", "quoted", "other", "space"})
    if found := _SESSION_FUNCTIONS.search(loud):
        raise NotReplayable(f"calls {found[1]}, which acts beyond its transaction")
    if first in _DML | _HARMLESS:
        if first in {"select", "with"} and _makes_table(tokens):
            raise NotReplayable("makes a table by `select into`")
        return Command(Action.WORK, text)
    if first in _TRANSACTION:
        return Command(Action.TRANSACTION, text)
    if "concurrently" not in words[:6] and (command := _definition(tokens, text, words)):
        return command
    raise NotReplayable(
        f"has a statement that changes the session or cannot be in a transaction with others: {' '.join(words[:4])}"
    )


def _definition(tokens: list[Token], text: str, words: list[str]) -> Command | None:
    """A command that makes, alters or drops; None where it is of a kind that cannot be replayed."""
    relations = _relations(tokens)
    first, second = [*words, ""][:2]
    if first == "create" and second in _CREATED:
        return _creation(tokens, text, words)
    if first == "alter" and second in _ALTERED:
        return _altered(text, words, relations)
    action = {"drop": Action.DROP, "truncate": Action.EMPTY, "refresh": Action.ALTER}.get(first)
    if action is None or (first == "drop" and second not in _ALTERED) or len(relations) > 1:
        return None
    if not relations:
        return Command(Action.OWN, text, _own_name(words))
    return Command(Action.ALTER if "restart" in words else action, text, relations[0])


def _creation(tokens: list[Token], text: str, words: list[str]) -> Command | None:
    """A command that makes a relation or an index by a name that can be followed; None where it cannot."""
    at = next((at for at, word in enumerate(words) if word in {"table", "view", "index"}), None)
    if at is None or set(words[1:at]) - _CREATED - {"replace"}:
        return None
    name = next((word for word in words[at + 1 :] if word not in {"if", "not", "exists"}), "")
    if words[at] == "index":
        if not _relations(tokens):
            return None
        if name == f'"{hole(INDEX)}"':
            return Command(Action.WORK, text)
        return Command(Action.INDEX, text, name=name.strip('"'))
    if {"temporary", "temp"} & set(words[:at]):
        return Command(Action.TEMPORARY, text, name.strip('"'))
    created = _created(tokens)
    action = Action.ALTER if "replace" in words[:at] else Action.CREATE
    return Command(action, text, created) if created else None


def _own_name(words: list[str]) -> str:
    """The name of the relation of this session that a command alters or drops."""
    ignored = {"table", "view", "materialized", "if", "exists", "only"}
    return next((word.strip('"') for word in words[1:] if word not in ignored), "")


def _created(tokens: list[Token]) -> str | None:
    """The relation of the tenant's schema that is made; None for an index, or a relation of this session only."""
    words = _words(tokens)
    at = next((at for at, word in enumerate(words) if word.startswith('"')), len(words))
    if not {"table", "view"} & set(words[:at]) or {"temporary", "temp", "index"} & set(words[:at]):
        return None
    # Database, schema and name, with dots between them.
    start = f'"\x01{RELATION}'
    return next((word[len(start) : -2] for word in words[at : at + 5] if word.startswith(start)), None)


def _altered(text: str, words: list[str], relations: list[str]) -> Command:
    if not relations:
        return Command(Action.OWN, text, _own_name(words))
    if words[-3:-1] == ["rename", "to"]:
        return Command(Action.RENAME, text, relations[0], words[-1].strip('"'))
    return Command(Action.ALTER, text, relations[0])


def _relations(tokens: list[Token]) -> list[str]:
    start = f'"\x01{RELATION}'
    return [token.text[len(start) : -2] for token in tokens if token.text.startswith(start)]


def _makes_table(tokens: list[Token]) -> bool:
    """Whether `into` stands in a `select` outside of parentheses."""
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.kind == "word" and token.text.lower() == "into":
            return True
    return False
