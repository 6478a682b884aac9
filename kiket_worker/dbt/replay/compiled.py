"""A compiled bundle: what dbt does for any tenant, as statements with holes and what must hold for each of them."""

import gzip
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from kiket_worker.dbt.replay.sql import Action, Command
from kiket_worker.errors import CompiledBundleDamaged

# An answer with more rows than this is no guard.
MOST_ROWS = 1000

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Answer:
    """What dbt's Jinja was told of a statement's result: names and types of columns, and rows where it read them."""

    columns: tuple[tuple[str, int], ...] | None
    rows: tuple[Row, ...] | None


@dataclass(frozen=True)
class Step:
    """One statement that dbt sent. `is_main`: its result is the node's. Its `answer` is a guard.

    `unnamed` is what of it may name relations otherwise than by holes, and `identifiers` are the words that may;
    `asks_catalog` is whether it asks what there is, and `columns_of` of which relation, if it asks for its columns.
    """

    text: str
    commands: tuple[Command, ...]
    is_main: bool
    unnamed: str
    identifiers: frozenset[str]
    asks_catalog: bool
    answer: Answer | None
    columns_of: str | None = None


@dataclass(frozen=True)
class Trace:
    """What dbt did for a node where these relations were so (None: absent), and its guards held.

    `result` is what dbt wrote of it.
    """

    full_refresh: bool
    relations: tuple[tuple[str, str | None], ...]
    steps: tuple[Step, ...]
    compiled_code: str | None
    result: dict[str, Any]


@dataclass(frozen=True)
class Standard:
    """A view or table that is made as dbt makes them, and by nothing else: it need not be made again where it is right.

    `rows` fills the table where it is; `select`, where they do not stand in its definition, tells the columns that it
    would get if it were made anew.
    """

    kind: str
    rows: str | None = None
    select: str | None = None


@dataclass(frozen=True)
class Node:
    """One node of the project: in which file it is, what its relation is called, and what dbt did for it."""

    unique_id: str
    resource_type: str
    name: str
    file: str
    relation: str | None
    traces: tuple[Trace, ...]
    standard: Standard | None = None
    severity: str = "error"
    error_if: str = "!= 0"
    warn_if: str = "!= 0"
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """A bundle that can be replayed, or, where there are `reasons`, why it cannot.

    `nodes` are in dbt's order. `definitions` are those of the relations that dbt leaves (relations.sql), by their
    names, and `kinds` are dbt's words for what they are. Manifests, run results and each line of the log are JSON with
    holes. `learned` counts the answers that were recorded afterwards.
    """

    key: str
    versions: dict[str, str]
    reasons: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()
    definitions: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, str] = field(default_factory=dict)
    run_results: dict[str, str] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    learned: int = 0

    @property
    def is_replayable(self) -> bool:
        """Whether every node is proven."""
        return not self.reasons

    def with_traces_of(self, learned: "Compiled") -> "Compiled":
        """With the traces of a recording that was given another answer."""
        more = {node.unique_id: node.traces for node in learned.nodes}
        nodes = tuple(
            replace(node, traces=node.traces + tuple(t for t in more.get(node.unique_id, ()) if t not in node.traces))
            for node in self.nodes
        )
        return replace(self, nodes=nodes, learned=self.learned + 1)

    def dump(self) -> bytes:
        """As it is stored."""
        return gzip.compress(json.dumps(asdict(self), default=sorted).encode(), mtime=0)


@cache
def engine_digest() -> str:
    """The engine's version: SHA-256 over its own files, as what one makes, another must not replay."""
    digest = hashlib.sha256()
    folder = files(__package__)
    for file in sorted([*folder.iterdir(), *folder.joinpath("sql").iterdir()], key=lambda file: file.name):
        if file.name.endswith((".py", ".sql")):
            digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def load(content: bytes, key: str) -> Compiled:
    """What was stored under a key. Raises `CompiledBundleDamaged`."""
    try:
        document = json.loads(gzip.decompress(content))
        if document["key"] != key:
            raise CompiledBundleDamaged(f"what is stored as the compiled bundle {key} was made under another key")
        document["reasons"], document["log"] = tuple(document["reasons"]), tuple(document["log"])
        document["nodes"] = tuple(map(_node, document["nodes"]))
        return Compiled(**document)
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
        raise CompiledBundleDamaged(f"the compiled bundle {key} cannot be read ({fault!r})") from fault


def _node(node: dict[str, Any]) -> Node:
    node["traces"] = tuple(map(_trace, node["traces"]))
    node["standard"] = Standard(**node["standard"]) if node["standard"] else None
    node["waits_for"] = tuple(node["waits_for"])
    return Node(**node)


def _trace(trace: dict[str, Any]) -> Trace:
    trace["relations"] = tuple((name, kind) for name, kind in trace["relations"])
    trace["steps"] = tuple(map(_step, trace["steps"]))
    return Trace(**trace)


def _step(step: dict[str, Any]) -> Step:
    step["identifiers"] = frozenset(step["identifiers"])
    step["commands"] = tuple(Command(**command | {"action": Action(command["action"])}) for command in step["commands"])
    if answer := step["answer"]:
        columns, rows = answer["columns"], answer["rows"]
        step["answer"] = Answer(
            None if columns is None else tuple((name, kind) for name, kind in columns),
            None if rows is None else tuple(map(tuple, rows)),
        )
    return Step(**step)
