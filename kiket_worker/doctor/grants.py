"""Whether each role has the rights that `deploy/sql/roles.sql` gives it: what was revoked, or never granted."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiket_worker.doctor.finding import Finding, error
from kiket_worker.ledger.database import Database, statement
from kiket_worker.shipped import shipped

# A grant that begins a line. Those within blocks are conditional, and of names that only the database knows.
_GRANT = re.compile(
    r"^grant (?P<privileges>[a-z, ]+?)(?: \((?P<columns>[^)]*)\))? on\s+(?P<kind>function\s+|schema\s+|parameter\s+|)"
    r"(?P<names>[^;]+?)\s+to (?P<roles>[a-z_, ]+);",
    re.MULTILINE,
)
_EVERY_TABLE = re.compile(r"all tables in schema (\w+)")
_SHOWN = 10
_TABLES = b"select format('%s.%s', schemaname, tablename) as name from pg_tables where schemaname = 'kiket_analytics'"


@dataclass(frozen=True)
class Right:
    """One right of one role. `column` is empty where it is on the whole."""

    role: str
    kind: str
    name: str
    column: str
    privilege: str


def rights_of(script: str) -> list[Right]:
    """The rights that a script grants at the beginning of its lines; `*` is every table of a schema."""
    found = []
    for grant in _GRANT.finditer(script):
        kind = grant["kind"].strip() or "table"
        every = _EVERY_TABLE.fullmatch(grant["names"])
        names = [f"{every[1]}.*"] if every else _split(grant["names"])
        found += [
            Right(role, kind, name, column, privilege)
            for role in _split(grant["roles"])
            for name in names
            for column in _split(grant["columns"] or "") or [""]
            for privilege in _split(grant["privileges"])
        ]
    return found


def examine_grants(database: Database) -> Iterator[Finding]:
    """What the installation's roles lack, and what the login of DATABASE_URL lacks where it is none of them."""
    login = database.rows(b"select current_user::text as login")[0]["login"]
    tables = [row["name"] for row in database.rows(_TABLES)]
    wanted = []
    for right in rights_of(shipped("deploy/sql/roles.sql").read_text(encoding="utf-8")):
        of = [right.role] if right.role != "kiket_ledger" or login == "kiket_ledger" else [right.role, login]
        names = tables if right.name == "kiket_analytics.*" else [right.name]
        wanted += [Right(role, right.kind, name, right.column, right.privilege) for role in of for name in names]
    parameters = {
        "roles": [right.role for right in wanted],
        "kinds": [right.kind for right in wanted],
        "names": [right.name for right in wanted],
        "columns": [right.column for right in wanted],
        "privileges": [right.privilege for right in wanted],
    }
    rows = database.rows(statement("lacking", __package__), parameters)
    lacking = [f"{row['role']}: {row['privilege']} on {row['name']}" for row in rows]
    others = database.rows(statement("lacking_memberships", __package__))
    lacking = [f"{row['role']}: {row['lacks']}" for row in others] + list(dict.fromkeys(lacking))
    if lacking:
        more = f", and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        yield error(
            "rights_lacking",
            f"roles lack rights that they need: {', '.join(lacking[:_SHOWN])}{more}",
            "run `kiket-worker migrate --roles` with the DATABASE_URL of a superuser, which grants them again",
        )


def _split(text: str) -> list[str]:
    """What commas part, but for those within parentheses, as of a function's parameters."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]
