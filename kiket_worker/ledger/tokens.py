"""Tokens of the console and the API: made once, shown once, and kept as digests."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from kiket_worker.errors import UnknownToken, UsageError
from kiket_worker.ledger.database import Database, is_storable, statement

TokenId = NewType("TokenId", UUID)

# Recognisable, so that scanners find one that was committed or pasted somewhere.
PREFIX = "kiket_"
_SECRET_BYTES = 32
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
NAME_LIMIT = 255


class Scope(StrEnum):
    """What a token opens: everything, or one organisation."""

    OPS = "ops"
    ORGANIZATION = "organization"


@dataclass(frozen=True)
class Holder:
    """Whose token it is. `organization_id` and `organization_slug` are None for operators, who see everything."""

    token_id: TokenId
    name: str | None
    organization_id: int | None
    organization_slug: str | None

    @property
    def scope(self) -> Scope:
        """What the token opens."""
        return Scope.OPS if self.organization_id is None else Scope.ORGANIZATION


@dataclass(frozen=True)
class Token:
    """One token, without its secret. `state` is valid, expired or revoked; `last_used_at` may be five minutes old."""

    token_id: TokenId
    name: str | None
    scope: Scope
    organization: str | None
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    state: str


def create(
    database: Database,
    *,
    organization_id: int | None,
    name: str | None,
    expires_days: int,
    random_text: Callable[[int], str],
) -> tuple[TokenId, str]:
    """Make a token of an organisation, or an operator's; give its id and the secret, which is kept nowhere.

    `random_text` gives so many random bytes as URL-safe text (`secrets.token_urlsafe`). Raises `UsageError` for a name
    that the ledger cannot hold.
    """
    if name is not None and not (0 < len(name) <= NAME_LIMIT and is_storable(name)):
        raise UsageError(f"a token's name has 1 to {NAME_LIMIT} characters, all of them text")
    secret = PREFIX + random_text(_SECRET_BYTES)
    rows = database.rows(
        statement("create_token"),
        {
            "digest": digest(secret),
            "name": name,
            "scope": Scope.OPS if organization_id is None else Scope.ORGANIZATION,
            "organization_id": organization_id,
            "expires_days": expires_days,
        },
    )
    return TokenId(rows[0]["token_id"]), secret


def use(database: Database, secret: str) -> Holder | None:
    """Whose token this is; None for one that opens nothing (any more)."""
    if not is_well_formed(secret):
        return None
    rows = database.rows(statement("use_token"), {"digest": digest(secret)})
    return Holder(**rows[0]) if rows else None


def is_valid(database: Database, token_id: TokenId) -> bool:
    """Whether a token, which was good before, still is."""
    return bool(database.rows(statement("valid_token"), {"token_id": token_id}))


def newest(database: Database) -> list[Token]:
    """Every token that was ever made, newest first."""
    rows = database.rows(statement("list_tokens"))
    return [
        Token(
            organization=row.pop("organization_slug") or _gone(row["organization_id"]),
            scope=Scope(row.pop("scope")),
            **{name: value for name, value in row.items() if name != "organization_id"},
        )
        for row in rows
    ]


def revoke(database: Database, token_id: UUID) -> None:
    """End a token: it opens nothing from now on. Raises `UnknownToken`."""
    if not database.rows(statement("revoke_token"), {"token_id": token_id}):
        raise UnknownToken(f"no token has the id {token_id}; `kiket-worker tokens list` shows those there are")


def is_well_formed(secret: str) -> bool:
    """Whether it looks like a token at all; anything else need not be looked up."""
    return _FORM.fullmatch(secret) is not None


def digest(secret: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(secret.encode()).digest()


def _gone(organization_id: int | None) -> str | None:
    return None if organization_id is None else f"organisation {organization_id}, which is gone"
