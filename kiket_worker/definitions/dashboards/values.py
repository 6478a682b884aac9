"""Values: what fits a type, and how a column's type is compared with."""

import math
import struct
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from psycopg import sql

from kiket_worker.definitions.dashboards.document import ParameterType
from kiket_worker.ledger.database import is_storable

_LEAST_INTEGER, _MOST_INTEGER = -(2**63), 2**63 - 1


# What a parameter takes, in words.
WORDS = {
    ParameterType.INTEGER: "a whole number between -2⁶³ and 2⁶³-1, without quotes",
    ParameterType.STRING: "a text, in quotes where it could be taken for something else",
    ParameterType.DATE: "a date as 2026-01-31",
    ParameterType.BOOLEAN: "true or false, without quotes",
}


def does_fit(value: Any, kind: ParameterType) -> bool:
    """Whether a value is of a parameter's type."""
    match kind:
        case ParameterType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool) and _LEAST_INTEGER <= value <= _MOST_INTEGER
        case ParameterType.STRING:
            return isinstance(value, str) and is_storable(value)
        case ParameterType.BOOLEAN:
            return isinstance(value, bool)
        case ParameterType.DATE:
            return (isinstance(value, date) and not isinstance(value, datetime)) or _as_date(value) is not None


def bindable(value: Any, kind: ParameterType) -> Any:
    """A value that fits, as it is bound."""
    return _as_date(value) if kind is ParameterType.DATE and isinstance(value, str) else value


def _as_date(value: Any) -> date | None:
    # `fromisoformat` also reads 20260131 and 2026-W05-6.
    if not isinstance(value, str) or len(value) != 10 or value[4] != "-" or value[7] != "-":
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


class _Comparison(NamedTuple):
    cast: sql.SQL
    parameters: frozenset[ParameterType]
    words: str


_NUMBER = frozenset({ParameterType.INTEGER})
_DAY = frozenset({ParameterType.DATE})


class Comparable(Enum):
    """How columns of a type are compared: with a value of this type, never with one cut or rounded to the column's."""

    INTEGER = _Comparison(sql.SQL("pg_catalog.int8"), _NUMBER, "a whole number")
    NUMERIC = _Comparison(sql.SQL("pg_catalog.numeric"), _NUMBER, "a number")
    REAL = _Comparison(sql.SQL("pg_catalog.float4"), _NUMBER, "a number")
    DOUBLE = _Comparison(sql.SQL("pg_catalog.float8"), _NUMBER, "a number")
    BOOLEAN = _Comparison(sql.SQL("pg_catalog.bool"), frozenset({ParameterType.BOOLEAN}), "true or false")
    DATE = _Comparison(sql.SQL("pg_catalog.date"), _DAY, "a date as 2026-01-31")
    TIMESTAMP = _Comparison(sql.SQL("pg_catalog.timestamp"), _DAY, "a date as 2026-01-31")
    TIMESTAMPTZ = _Comparison(sql.SQL("pg_catalog.timestamptz"), _DAY, "a date as 2026-01-31")
    # Everything else by the text that Postgres writes for it: enumerations, UUIDs, domains.
    TEXT = _Comparison(sql.SQL("pg_catalog.text"), frozenset({ParameterType.STRING}), "a text")

    def takes(self, value: Any) -> bool:
        """Whether a value that stands in a file can be compared with such a column."""
        match self:
            case Comparable.INTEGER:
                return does_fit(value, ParameterType.INTEGER)
            case Comparable.REAL:
                return _is_number(value) and _is_real(value)
            case Comparable.NUMERIC | Comparable.DOUBLE:
                return _is_number(value)
            case Comparable.BOOLEAN:
                return isinstance(value, bool)
            case Comparable.DATE | Comparable.TIMESTAMP | Comparable.TIMESTAMPTZ:
                return does_fit(value, ParameterType.DATE)
            case Comparable.TEXT:
                return does_fit(value, ParameterType.STRING)

    def bound(self, value: Any) -> Any:
        """A value that is taken, as it is bound."""
        if self is Comparable.NUMERIC and isinstance(value, float):
            return Decimal(repr(value))  # 0.1 as it was written, and not its nearest double.
        if self in {Comparable.DATE, Comparable.TIMESTAMP, Comparable.TIMESTAMPTZ}:
            return bindable(value, ParameterType.DATE)
        return value


def _is_number(value: Any) -> bool:
    return does_fit(value, ParameterType.INTEGER) or (isinstance(value, float) and math.isfinite(value))


def _is_real(value: float) -> bool:
    """Whether Postgres can make a `real` of a number: one too large or too small is an error, and only when run."""
    try:
        (stored,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return False
    return bool(stored) or not value


_BY_TYPE = {
    "smallint": Comparable.INTEGER,
    "integer": Comparable.INTEGER,
    "bigint": Comparable.INTEGER,
    "numeric": Comparable.NUMERIC,
    "real": Comparable.REAL,
    "double precision": Comparable.DOUBLE,
    "boolean": Comparable.BOOLEAN,
    "date": Comparable.DATE,
    "timestamp without time zone": Comparable.TIMESTAMP,
    "timestamp with time zone": Comparable.TIMESTAMPTZ,
}


def comparable(column_type: str) -> Comparable:
    """How columns of a type are compared; the type as `format_type` writes it, as `numeric(12,4)`."""
    before, _, after = column_type.partition("(")
    return _BY_TYPE.get(before.strip() + after.partition(")")[2], Comparable.TEXT)
