"""The refresh message: what any AMQP client may publish to ask for a refresh (design, "Contracts").

The message is plain JSON in UTF-8. Unknown fields are ignored, so that newer publishers can talk to older workers;
a missing or wrong field makes the whole message invalid.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError, from_json

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


def _is_integer(value: Any) -> Any:
    # To Python, and so to a literal, `true` and `1.0` are equal to 1.
    if type(value) is not int:
        raise PydanticCustomError("integer", "Input should be the integer 1")
    return value


# Postgres' text cannot hold the character NUL, though JSON's strings can.
_Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]

# For the schema alone, whose validators need not check the format `uuid`.
_UUID_PATTERN = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"


_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


class RefreshMessage(BaseModel):
    """One request to refresh one organisation."""

    # The texts under the fields are their descriptions in the JSON Schema: they speak to publishers.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, use_attribute_docstrings=True)

    version: Annotated[Literal[1], BeforeValidator(_is_integer)]
    """The version of this contract, as an integer."""
    organization: _Text
    """The slug of the organisation whose schema is to be refreshed."""
    reason: Reason = Reason.MANUAL
    """Why: `manual` on demand, `sync` definitions changed, `retry` of an earlier run, `scheduled` the ticker's own."""
    requested_by: _Text | None = None
    """Who asked, as `user:42`; kept with the run for audit."""
    idempotency_key: _Text | None = None
    """Names one run of the organisation for ever: a message with a key that was seen before asks for nothing new."""
    full_refresh: bool = False
    """Whether incremental models are built anew from all rows."""
    docs: bool = False
    """Whether dbt's catalog is archived too."""
    select: Annotated[list[_Text], Field(min_length=1, max_length=100)] | None = None
    """Only these models, each in dbt's selection syntax; null or left out: all of them."""
    traceparent: Annotated[str | None, Field(max_length=512)] = None
    """The trace that the run continues, as in W3C Trace Context; one that is none begins a trace of its own."""
    kiket_run_id: Annotated[UUID | None, Field(json_schema_extra={"pattern": _UUID_PATTERN})] = None
    """Only for the worker's own messages: names a run that the ledger holds already, to wake a worker for it."""

    @property
    def caller(self) -> str | None:
        """The `traceparent`, where it is one."""
        return known_traceparent(self.traceparent)

    @classmethod
    def from_bytes(cls, body: bytes) -> "RefreshMessage":
        """Read a message body. Raises `InvalidMessage` with a text that names the field and the fault."""
        _check_size(body)
        try:
            from_json(body, allow_inf_nan=False)  # The model's own parser takes NaN, which is no JSON.
            return cls.model_validate_json(body)
        except ValidationError as fault:
            raise InvalidMessage("; ".join(_explain(error["loc"], error["msg"]) for error in fault.errors())) from None
        except ValueError as fault:
            raise InvalidMessage(_explain((), f"Invalid JSON: {fault}")) from None

    def to_bytes(self) -> bytes:
        """The message as JSON, without the fields at their defaults. Raises `InvalidMessage` where that is too long."""
        body = self.model_dump_json(exclude_defaults=True).encode()
        _check_size(body)
        return body


def known_traceparent(value: object) -> str | None:
    """A `traceparent` in the form of version 00, or None where it is none: then a trace begins anew.

    As https://www.w3.org/TR/trace-context/#traceparent-header has it, also of what later versions put behind it.
    """
    found = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return f"00-{found['trace']}-{found['span']}-{found['flags']}"


def schema_document() -> dict[str, Any]:
    """The contract as JSON Schema, which `make contracts` writes to `deploy/contracts/`."""
    schema = RefreshMessage.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:kiket:contract:refresh-message:1",
        **schema,
        "title": "Kiket refresh message",
        "description": (
            f"{schema['description']} Published as UTF-8 JSON of at most {MESSAGE_LIMIT_BYTES} bytes to the queue "
            f"{QUEUE_REQUESTS}. Unknown fields are ignored."
        ),
    }


def _check_size(body: bytes) -> None:
    if len(body) > MESSAGE_LIMIT_BYTES:
        raise InvalidMessage(_explain((), f"the body has {len(body)} bytes; at most {MESSAGE_LIMIT_BYTES} are read"))


def _explain(location: tuple[int | str, ...], message: str) -> str:
    # In one line, whatever characters of the value the message repeats.
    return f"{'.'.join(map(str, location)) or 'message'}: {' '.join(message.split())}"
