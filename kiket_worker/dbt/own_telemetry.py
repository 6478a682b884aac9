"""Records of OpenTelemetry that a dbt writes by itself, as Fusion does with `--otel-file-name`.

Documented at https://docs.getdbt.com/reference/global-configs/logs: JSON lines in the folder of `--log-path`. They are
archived beside the worker's own, bounded as those are and without values of rows.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiket_worker.dbt.redaction import Names, redacted
from kiket_worker.telemetry.rotation import Cut, RotatedLog

ARCHIVED_NAME = "dbt-otel.jsonl"
_NAME = "otel.jsonl"


def option() -> list[str]:
    """What has the executable write them."""
    return ["--otel-file-name", _NAME]


def gather(workdir: Path, most_bytes: int, names: Callable[[], Names]) -> tuple[dict[str, Path], dict[str, Cut]]:
    """What was written, ready to be archived, and what was left out of it, by the name in the archive."""
    written, kept = workdir / "logs" / _NAME, workdir / ARCHIVED_NAME
    if not written.is_file():
        return {}, {}
    with written.open("rb") as source, RotatedLog(kept, most_bytes, _tell) as target:
        for line in source:
            target.write(_redacted(line, names))
        cut = target.close()
    return {ARCHIVED_NAME: kept}, {ARCHIVED_NAME: cut} if cut else {}


def _redacted(line: bytes, names: Callable[[], Names]) -> bytes:
    if b"error" not in line.lower():
        return line
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return redacted(line.decode("utf-8", "replace"), names()).encode()
    return json.dumps(_without_values(document, names())).encode() + b"\n"


def _without_values(value: Any, names: Names) -> Any:
    if isinstance(value, dict):
        return {key: _without_values(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_values(item, names) for item in value]
    return redacted(value, names) if isinstance(value, str) else value


def _tell(cut: Cut) -> bytes:
    return json.dumps({"event_name": "LinesLeftOut", "severity_text": "WARN", "body": str(cut)}).encode() + b"\n"
