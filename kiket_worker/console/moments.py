"""Moments and days in requests: as RFC 3339 has them, and not in the other forms that Pydantic would take."""

import re
from datetime import date
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(_DAY.pattern + r"[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")


def _is_moment(value: object) -> object:
    if isinstance(value, str) and not _MOMENT.fullmatch(value):
        raise ValueError("a moment is written as 2026-06-01T00:00:00Z (RFC 3339), with its zone")
    return value


def _is_day(value: object) -> object:
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("a day is written as 2026-06-01")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_is_moment)]
Day = Annotated[date, BeforeValidator(_is_day)]
