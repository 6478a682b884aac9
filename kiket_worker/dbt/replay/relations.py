"""The relations of a tenant's schema during a replay: what is there, what each is called, and what waits to be swapped.

dbt makes a relation under another name, renames the old one, gives the new one its name and drops the old one. Each of
these locks out whoever reads it, until the transaction ends. Here, what was there before is renamed and dropped in mind
only; statements get the names that relations have in truth; and at the end the swap is made at once, downstream first:
whoever reads a view locks the view first and then what it reads, so that neither waits for the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

from psycopg import sql

from kiket_worker.dbt.replay.compiled import Standard
from kiket_worker.dbt.replay.holes import INDEX, RELATION

_KINDS = {"r": "table", "p": "table", "v": "view", "m": "materialized_view", "f": "external"}
_IN_SQL = {"table": "table", "view": "view", "materialized_view": "materialized view", "external": "foreign table"}

# Rows are replaced where they are in tables up to this size. A larger one is made anew and swapped, which leaves no
# dead rows; so is one with many dead rows, because vacuum does not keep up with it.
_IN_PLACE_BYTES = 32 * 2**20
_DEAD_PER_LIVE_ROW = 3
_DEAD_ROWS = 10_000


@dataclass(frozen=True)
class Live:
    """A relation as it was when the replay began. `reads` are the ids of what a view reads."""

    name: str
    kind: str
    id: int
    reads: frozenset[int]
    columns: tuple[str, ...]
    definition: str
    size: int
    live_rows: int
    dead_rows: int

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of `relations.sql`."""
        return cls(
            name=row["name"],
            kind=_KINDS[row["kind"]],
            id=row["id"],
            reads=frozenset(row["reads"] or ()),
            columns=tuple(row["columns"] or ()),
            definition=row["definition"],
            size=row["size"],
            live_rows=row["live_rows"],
            dead_rows=row["dead_rows"],
        )

    @property
    def is_moderate(self) -> bool:
        """Whether its rows may be replaced where they are."""
        return self.size <= _IN_PLACE_BYTES and self.dead_rows <= _DEAD_PER_LIVE_ROW * self.live_rows + _DEAD_ROWS


@dataclass
class Relations:
    """What dbt takes to be there, by the names that dbt knows: `kinds`, and what each is called in truth."""

    live: Mapping[str, Live]
    kinds: dict[str, str]
    _called: dict[str, str]
    _dropped: list[str] = field(default_factory=list)
    # Whether it is known that nothing in the schema names relations when it is called.
    is_followed: bool = False

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """At the beginning, from the rows of `relations.sql`."""
        live = {row["name"]: Live.of_row(row) for row in rows}
        return cls(live, {name: one.kind for name, one in live.items()}, {name: name for name in live})

    def copy(self) -> "Relations":
        """To come back to when a node fails."""
        return Relations(self.live, dict(self.kinds), dict(self._called), list(self._dropped), self.is_followed)

    @property
    def waiting(self) -> set[str]:
        """The names that mean something else than in truth, until the swap."""
        return {name for name, called in self._called.items() if name != called} | set(self._dropped)

    @property
    def dropped(self) -> tuple[str, ...]:
        """What is dropped in mind only."""
        return tuple(self._dropped)

    def names(self) -> "Names":
        """What fills the holes of relations."""
        return Names(self._called)

    def called(self, name: str) -> str:
        """What a relation is called in truth."""
        return self._called.get(name, name)

    def is_live(self, name: str) -> bool:
        """Whether what has this name was there before, so that others may be reading it."""
        return self._called.get(name) in self.live

    def made(self, name: str, kind: str) -> None:
        """A node has made its relation, unless it knows of it already."""
        self.kinds[name] = kind
        self._called.setdefault(name, name)

    def make_room(self, name: str) -> None:
        """See that a relation of this name can be made, where one that was dropped in mind still has it."""
        if name not in self._called and name in self.live:
            self._called[name] = f"kiket_{uuid4().hex}"

    def rename(self, old: str, new: str, kind: str) -> bool:
        """Rename; whether that is to be done in truth, because nobody else can be reading either."""
        called = self._called.pop(old, old)
        self.kinds[new] = self.kinds.pop(old, kind)
        if called in self.live or new in self._called.values() or new in self._dropped:
            self._called[new] = called
            return False
        self._called[new] = new
        return True

    def drop(self, name: str) -> bool:
        """Drop with all views that read it; whether that is to be done in truth."""
        called = self._called.pop(name, name)
        self.kinds.pop(name, None)
        if called not in self.live:
            return True
        self._dropped.append(called)
        for other in list(self._called):
            above = self.live.get(self._called.get(other, ""))
            if above and self.live[called].id in above.reads:
                self.drop(other)
        return False

    def keeps(self, name: str, standard: Standard, definition: str) -> bool:
        """Whether a view need not be made again, or a table's rows can be replaced where they are."""
        one = self.live.get(name)
        if one is None or self._called.get(name) != name or one.definition != definition:
            return False
        if one.kind != standard.kind:
            return False
        return standard.kind == "view" or (standard.rows is not None and one.is_moderate)

    def swap(self, schema: str) -> list[sql.Composed]:
        """The statements that make true what is so in mind, in an order in which no reader is met half-way."""
        statements = [
            sql.SQL("drop {} {}").format(sql.SQL(_IN_SQL[self.live[name].kind]), sql.Identifier(schema, name))
            for name in self._downstream_first()
        ]
        waiting = {name: called for name, called in self._called.items() if name != called}
        while waiting:
            # A name is free once the relation that had it has got another.
            name = next((name for name in waiting if name not in waiting.values()), None)
            if name is None:
                raise ValueError(f"relations that exchange their names: {', '.join(sorted(waiting))}")
            kind, called = sql.SQL(_IN_SQL[self.kinds[name]]), waiting.pop(name)
            statements.append(
                sql.SQL("alter {} {} rename to {}").format(kind, sql.Identifier(schema, called), sql.Identifier(name))
            )
        return statements

    def _downstream_first(self) -> list[str]:
        waiting = {name: self.live[name] for name in self._dropped}
        ordered: list[str] = []
        while waiting:
            read = frozenset().union(*(one.reads for one in waiting.values()))
            # Views cannot read each other in a circle.
            ready = [name for name, one in waiting.items() if one.id not in read]
            for name in ready:
                del waiting[name]
            ordered += ready
        return ordered


class Names(dict[str, str]):
    """Fills the holes of relations with what they are called in truth, and those of indexes with a new name."""

    def __init__(self, called: Mapping[str, str]) -> None:
        super().__init__()
        self._relations = called

    def __missing__(self, hole: str) -> str:
        if hole == INDEX:
            return uuid4().hex
        if not hole.startswith(RELATION):
            raise KeyError(hole)
        name = hole.removeprefix(RELATION)
        return self._relations.get(name, name)
