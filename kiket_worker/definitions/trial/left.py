"""The names of trials, which tell when each began: by them, those whose process was killed are found and removed."""

import secrets
import time

# Every trial's slug begins so. An organisation's may too: whoever removes trials looks for organisations first.
PREFIX = "trial-"
# Longer than any trial takes (KIKET_VALIDATION_TIME_LIMIT_SECONDS is 1800 at most).
LEFT_AFTER_SECONDS = 3600


def new_slug() -> str:
    """A slug for a trial that begins now."""
    return f"{PREFIX}{int(time.time())}-{secrets.token_hex(5)}"


def is_left(slug: str) -> bool:
    """Whether a trial cannot be going on any more, by its slug as its schema has it."""
    began = slug.removeprefix(PREFIX.replace("-", "_")).partition("_")[0]
    return began.isdecimal() and int(began) + LEFT_AFTER_SECONDS < time.time()
