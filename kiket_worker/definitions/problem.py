"""A problem of a definition repository: what is wrong where, by which rule, and what helps."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error keeps a repository from being published; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Problem:
    """Sorted by place. `file` is the path in the repository, empty for the whole of it; lines are counted from 1."""

    file: str
    line: int
    rule: str
    severity: Severity
    message: str
    hint: str
