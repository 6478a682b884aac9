"""Headers that pika cannot read are read as none, where pika would lose the connection.

pika (1.4) decodes the header table of each message that it receives: a time beyond Python's years, or arrays nested
deeper than Python calls, raise in the midst of its I/O. Whoever takes such a message would lose the connection, get the
message again, and never see those behind it; RabbitMQ takes both from any publisher.
"""

import struct
from functools import wraps
from typing import Any

import pika.data

_LENGTH = struct.Struct(">I")


def tolerate_headers() -> None:
    """Make pika in this process read a table that it cannot decode as an empty one. Safe to call again."""
    strict = pika.data.decode_table
    if getattr(strict, "__wrapped__", None):
        return

    @wraps(strict)
    def decode_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
        try:
            table: tuple[dict[str, Any], int] = strict(encoded, offset)
        except Exception:  # whatever it is, the table's length says where the rest goes on
            (length,) = _LENGTH.unpack_from(encoded, offset)
            return {}, offset + _LENGTH.size + length
        return table

    pika.data.decode_table = decode_table
