"""Readers in processes of their own, which have to import little: they measure while others compute."""

import time
from multiprocessing.synchronize import Event
from typing import Any

import psycopg

from benchmarks.figures import percentile


def read(session: dict[str, Any], query: str, stop: Event, answers: Any) -> None:
    """Ask until told to stop; answer that it reads, and then the query with its worst wait and number of errors."""
    waits, errors = [0.0], 0
    with psycopg.connect(**session, autocommit=True) as connection:
        connection.execute("select 1")
        answers.put("ready")
        while not stop.is_set():
            began = time.perf_counter()
            try:
                connection.execute(query.encode())
            except psycopg.Error:
                errors += 1
            waits.append(1000 * (time.perf_counter() - began))
            time.sleep(0.001)
    answers.put((query, percentile(waits, 100), errors))
