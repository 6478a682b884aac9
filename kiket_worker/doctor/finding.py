"""What doctor finds."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad it is: nothing to do, look at it, mend it."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `kind` is stable, the message names what it is about, the remedy is what to do."""

    kind: str
    severity: Severity
    message: str
    remedy: str
    organization: str | None = None

    def document(self) -> dict[str, Any]:
        """The finding as JSON has it."""
        return asdict(self)


def info(kind: str, message: str, remedy: str, organization: str | None = None) -> Finding:
    """Something that is as it should be and explains what somebody may wonder about."""
    return Finding(kind, Severity.INFO, message, remedy, organization)


def warning(kind: str, message: str, remedy: str, organization: str | None = None) -> Finding:
    """Something that works and is not as it should be."""
    return Finding(kind, Severity.WARNING, message, remedy, organization)


def error(kind: str, message: str, remedy: str, organization: str | None = None) -> Finding:
    """Something that does not work, or does not keep organisations apart."""
    return Finding(kind, Severity.ERROR, message, remedy, organization)


def at(moment: datetime | None) -> str:
    """A moment as findings name it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment else "never"
