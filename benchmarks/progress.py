"""What is being measured at the moment, for whoever waits: on standard error, as figures go to standard output."""

import sys
from datetime import UTC, datetime


def say(what: str) -> None:
    """Tell what begins now."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")
    sys.stderr.flush()
