"""What an attack is: hostile SQL, the ways in which a tenant could bring it in, and what has to come of it.

The attacker is the organisation `acme` (id 1), the victim `blue-harbor` (id 2), both of `sample.tiny()`: the attacker
owns 64 of the 176 issues. Names are written out, so that each attack reads as the SQL that it is.
"""

import re
from dataclasses import dataclass
from enum import Enum

import psycopg

OWN, OWN_READER = "analytics_org_acme", "analytics_ro_acme"
VICTIM, VICTIM_READER = "analytics_org_blue_harbor", "analytics_ro_blue_harbor"


class Way(Enum):
    """How hostile SQL gets into the database."""

    MODEL = "as a dbt model"
    HOOK = "as a hook of a dbt model"
    DASHBOARD = "as a query of a dashboard"
    SESSION = "in a session of the tenant's role"


# A query can be a model; a statement has to be a hook. Both can be sent in a session.
QUERY = (Way.MODEL, Way.DASHBOARD, Way.SESSION)
STATEMENT = (Way.HOOK, Way.DASHBOARD, Way.SESSION)
# What the read-only twin could not even begin: it owns nothing.
OF_OWNER = (Way.HOOK, Way.SESSION)
SESSION = (Way.SESSION,)


@dataclass(frozen=True)
class Refused:
    """The database refuses it, with exactly this class of error, and these words in its message."""

    error: type[psycopg.Error]
    words: str


@dataclass(frozen=True)
class Shows:
    """It is carried out, and its last statement gives exactly these rows.

    `notices` are all that Postgres or the attack's own functions said on the way, if that matters.
    """

    rows: tuple[tuple[object, ...], ...]
    notices: frozenset[str] | None = None


@dataclass(frozen=True)
class Done:
    """It is carried out, and what it changes is the attacker's own. `notices` as in `Shows`."""

    notices: frozenset[str] | None = None


Expected = Refused | Shows | Done


@dataclass(frozen=True)
class Attack:
    """One attack.

    `before` is what the tenant's role does first, with success: it makes the trap that `sql` springs. `sql` is one
    statement, or several that are sent one after the other, of which the last is judged. `as_reader` is what comes of
    it in a session of the read-only twin, where that differs. `drift` is what provisioning finds afterwards and mends.
    `is_visible` marks what a tenant can see all the same: the documentation has to say it.
    """

    name: str
    says: str
    sql: str | tuple[str, ...]
    expected: Expected
    ways: tuple[Way, ...]
    before: tuple[str, ...] = ()
    as_reader: Expected | None = None
    drift: tuple[str, ...] = ()
    is_visible: bool = False

    def __post_init__(self) -> None:
        assert re.fullmatch("[a-z0-9_]{3,50}", self.name), self.name

    @property
    def statements(self) -> tuple[str, ...]:
        return (self.sql,) if isinstance(self.sql, str) else self.sql

    def expected_in(self, way: Way) -> Expected:
        return self.as_reader if way is Way.DASHBOARD and self.as_reader else self.expected


def forbidden(words: str) -> Refused:
    """Refused for want of a right."""
    return Refused(psycopg.errors.InsufficientPrivilege, words)


NO_PUBLIC = forbidden("permission denied for schema public")
NO_LEDGER = forbidden("permission denied for schema kiket_analytics")
NO_GATES = forbidden("permission denied for schema analytics_raw")
NO_VICTIM = forbidden("permission denied for schema analytics_org_blue_harbor")
NOTHING = Shows(((0,),))
