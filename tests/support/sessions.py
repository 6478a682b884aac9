"""Database sessions that somebody may have ended."""

from typing import Any

import psycopg


def lives(session: psycopg.Connection[Any]) -> bool:
    """Whether a session still answers."""
    try:
        session.execute("select 1")
    except psycopg.OperationalError:
        return False
    return True
