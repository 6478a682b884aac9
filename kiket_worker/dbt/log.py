"""dbt's log as it is archived: JSON lines of its structured events, bounded, without values of rows."""

import json
from collections.abc import Callable
from typing import Any

from kiket_worker.dbt.engine import Listener, Options
from kiket_worker.dbt.redaction import Names, redact_event, redacted
from kiket_worker.dbt.results import read_event
from kiket_worker.telemetry.rotation import Cut, RotatedLog

LOG_NAME = "dbt.log"


class DbtLog:
    """The log of one run of an engine, which it gives to a listener too. `names` are what errors may name."""

    def __init__(self, options: Options, listener: Listener, names: Callable[[], Names]) -> None:
        self.path = options.workdir / LOG_NAME
        self._file = RotatedLog(self.path, options.most_log_bytes, _tell)
        self._listener = listener
        self._names = names

    def read(self, line: bytes) -> dict[str, Any] | str:
        """Add a line as dbt has printed it; gives the event that it is, or its words, without values of rows."""
        event = read_event(line)
        if event is None:
            text = line.decode("utf-8", "replace")
            words = redacted(text, self._names())
            self._file.write(line if words == text else words.encode())
            return words
        if redact_event(event, self._names):
            line = json.dumps(event).encode() + b"\n"
        self._file.write(line)
        self._listener.on_event(event)
        return event

    def add(self, event: dict[str, Any]) -> None:
        """Add an event that holds no values of rows."""
        self._file.write(json.dumps(event, sort_keys=True).encode() + b"\n")
        self._listener.on_event(event)

    def close(self) -> dict[str, Cut]:
        """End the log; gives what was left out, by the file's name."""
        cut = self._file.close()
        return {LOG_NAME: cut} if cut else {}


def _tell(cut: Cut) -> bytes:
    info = {"name": "LinesLeftOut", "level": "warn", "msg": str(cut)}
    return json.dumps({"data": {"lines": cut.lines, "bytes": cut.bytes}, "info": info}).encode() + b"\n"
