"""The refresh message: what any AMQP client may publish to ask for a refresh (design, "Contracts").

The message is plain JSON in UTF-8. Unknown fields are ignored, so that newer publishers can talk to older workers;
a missing or wrong field makes the whole message invalid.
"""

import json
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

QUEUE_REQUESTS = "kiket.analytics.refresh"
QUEUE_SCHEDULED = "kiket.analytics.refresh.scheduled"
QUEUE_DEAD = "kiket.analytics.refresh.dead"

MESSAGE_LIMIT_BYTES = 64 * 1024


class Reason(StrEnum):
    """Why a run exists."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    SYNC = "sync"
    RETRY = "retry"


class InvalidMessage(ValueError):
    """A message body that does not follow the contract; the text says how."""


# Postgres' text cannot hold the character NUL, though JSON's strings can.
_Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


class RefreshMessage(BaseModel):
    """One request to refresh one organisation."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    version: Literal[1]
    organization: _Text
    reason: Reason = Reason.MANUAL
    requested_by: _Text | None = None
    idempotency_key: _Text | None = None
    full_refresh: bool = False
    docs: bool = False
    select: Annotated[list[_Text], Field(min_length=1, max_length=100)] | None = None
    # Names a run that the ledger holds already: the message only wakes a worker for it and asks for nothing new.
    run_id: UUID | None = None

    @classmethod
    def from_bytes(cls, body: bytes) -> "RefreshMessage":
        """Read a message body. Raises `InvalidMessage` with a text that names the field and the fault."""
        if len(body) > MESSAGE_LIMIT_BYTES:
            raise InvalidMessage(f"the body has {len(body)} bytes; at most {MESSAGE_LIMIT_BYTES} are read")
        try:
            return cls.model_validate_json(body)
        except ValidationError as fault:
            raise InvalidMessage("; ".join(_explain(error["loc"], error["msg"]) for error in fault.errors())) from None

    def to_bytes(self) -> bytes:
        """The message as JSON, without the fields that are at their defaults."""
        return json.dumps(
            {"version": self.version, "organization": self.organization, "reason": self.reason}
            | self.model_dump(mode="json", exclude_defaults=True),
            separators=(",", ":"),
        ).encode()


def _explain(location: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, location)) or 'message'}: {message}"
