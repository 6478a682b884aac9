"""Many organisations with random rows of which each tells whose it is, whatever has become of it.

Every text holds the mark of its organisation, ids are drawn at random from one range for all, and some rows refer to
rows of other organisations, as rows of a real platform do once something went wrong there.
"""

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Identifier

_MARK = re.compile(r"\bowner(\d+)\b")
_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_COLUMNS = {
    "organizations": ("id", "slug", "name", "plan", "created_at"),
    "users": ("id", "organization_id", "name", "email", "role", "active", "created_at"),
    "projects": ("id", "organization_id", "key", "name", "archived", "created_at"),
    "issues": (
        *("id", "organization_id", "project_id", "parent_id", "assignee_id", "issue_type", "title", "status"),
        *("priority", "story_points", "due_on", "created_at", "started_at", "completed_at", "updated_at"),
    ),
    "releases": (
        *("id", "organization_id", "project_id", "version", "changelog_draft", "changelog", "released_at"),
        "created_at",
    ),
    "comments": ("id", "issue_id", "author_id", "body", "created_at"),
}


@dataclass(frozen=True)
class Row:
    """A row of a raw table, its values in the order of `_COLUMNS`."""

    owner: int
    values: tuple[Any, ...]


class Universe:
    """Rows of `count` organisations, drawn from a seed."""

    def __init__(self, seed: int, count: int) -> None:
        self._random = random.Random(seed)
        # Far above those that a database gives itself, as to the usage events of a run.
        self._ids = iter(self._random.sample(range(1_000_000, 2_000_000), 200 * count))
        self.organizations = [next(self._ids) for _ in range(count)]
        self.rows: dict[str, list[Row]] = {table: [] for table in _COLUMNS}
        for owner in self.organizations:
            plan = self._random.choice(["starter", "team", "business", "enterprise"])
            self.rows["organizations"].append(Row(owner, (owner, slug(owner), self._text(owner), plan, _NOW)))
        # Every organisation's rows of a table before anybody's of the next, so that references can point anywhere.
        for table, most, make in (
            ("users", 6, self._user),
            ("projects", 5, self._project),
            ("issues", 60, self._issue),
            ("releases", 5, self._release),
            ("comments", 40, self._comment),
        ):
            for owner in self._random.sample(self.organizations, count):
                for _ in range(self._random.randrange(most)):
                    if values := make(owner):
                        self.rows[table].append(Row(owner, values))

    def load(self, connection: Connection[Any], *, only: int | None = None) -> None:
        """Copy the rows of all organisations, or of one, in the caller's transaction; all of these are opted in.

        References are not checked: alone, an organisation's rows may refer to nothing.
        """
        connection.execute("set local session_replication_role = replica")
        for table, columns in _COLUMNS.items():
            statement = SQL("copy {} ({}) from stdin").format(
                Identifier("public", table), SQL(", ").join(map(Identifier, columns))
            )
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in self.rows[table]:
                    if only in (None, row.owner):
                        copy.write_row(row.values)
        connection.execute(
            "insert into kiket_analytics.analytics_settings (organization_id, enabled)"
            " select id, true from public.organizations"
        )
        connection.execute(
            "insert into kiket_analytics.usage_events"
            " (id, organization_id, project_id, metric, quantity, unit, recorded_at, metadata) overriding system value"
            " select id, organization_id, id, 'api_calls', organization_id, 'call', created_at,"
            " jsonb_build_object('whose', name) from public.projects"
        )

    def _user(self, owner: int) -> tuple[Any, ...]:
        role = self._random.choice(["owner", "admin", "member", "guest"])
        email = f"owner{owner} @example.com"
        return (next(self._ids), owner, self._text(owner), email, role, self._random.random() < 0.8, self._time())

    def _project(self, owner: int) -> tuple[Any, ...]:
        archived = self._random.random() < 0.2
        return (next(self._ids), owner, self._text(owner), self._text(owner), archived, self._time())

    def _issue(self, owner: int) -> tuple[Any, ...] | None:
        project = self._one_of("projects", owner)
        if project is None:
            return None
        status = self._random.choice(["backlog", "todo", "in_progress", "in_review", "blocked", "done", "cancelled"])
        created = self._time()
        return (
            *(next(self._ids), owner, project),
            *(self._one_of("issues", owner), self._one_of("users", owner)),
            *(self._random.choice(["epic", "story", "task", "bug"]), self._text(owner), status),
            *(self._random.choice(["low", "medium", "high", "urgent"]), self._random.choice([None, 1, 2, 3, 5, 8])),
            *(self._random.choice([None, created.date()]), created, self._random.choice([None, created])),
            *(created + timedelta(hours=self._random.randrange(900)) if status == "done" else None, created),
        )

    def _release(self, owner: int) -> tuple[Any, ...] | None:
        project = self._one_of("projects", owner)
        draft = self._random.choice([None, self._text(owner)])
        return project and (
            *(next(self._ids), owner, project, self._text(owner), draft),
            *(self._random.choice([None, self._text(owner)]), self._random.choice([None, self._time()]), self._time()),
        )

    def _comment(self, owner: int) -> tuple[Any, ...] | None:
        issue, author = self._one_of("issues", owner, strays=False), self._one_of("users", owner)
        return issue and author and (next(self._ids), issue, author, self._text(owner), self._time())

    def _text(self, owner: int) -> str:
        return f"of owner{owner} " + self._random.choice(["", "日本", "'; drop table x; --", "$1 %s {{ 1 }}"])

    def _time(self) -> datetime:
        return _NOW - timedelta(minutes=self._random.randrange(500 * 24 * 60))

    def _one_of(self, table: str, owner: int, *, strays: bool = True) -> int | None:
        """The id of a row to refer to: one in twenty is another organisation's."""
        is_stray = strays and self._random.random() < 0.05
        found = [row.values[0] for row in self.rows[table] if is_stray or row.owner == owner]
        return self._random.choice(found) if found else None


def slug(owner: int) -> str:
    return f"owner{owner}"


def owners_in(value: object) -> set[int]:
    """The organisations whose mark is anywhere in a value."""
    return {int(number) for number in _MARK.findall(str(value))}
