"""Sites on which the procedures of docs/operations.md are carried out: as for faults."""

from tests.faults.conftest import site

__all__ = ["site"]
