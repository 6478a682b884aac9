"""What dbt says of its models: in its JSON log while it runs, and in `run_results.json` afterwards."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiket_worker.errors import DatabaseInterrupted, DbtNoResults, ModelFailed, SchemaForbidden


@dataclass(frozen=True)
class ModelResult:
    """How one model went: status running, success, error or skipped; a duration in seconds once it has ended.

    `started_at` is None where dbt does not say.
    """

    model_id: str
    status: str
    duration_seconds: float | None = None
    rows_affected: int | None = None
    message: str | None = None
    started_at: datetime | None = None


# What reading raises where JSON is not of the shape expected, or is made to break its reader.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_BIGINT_LIMIT = 2**63

_STATUS = {
    "success": "success",
    "error": "error",
    "fail": "error",
    "runtime error": "error",
    "partial success": "error",
    "skipped": "skipped",
}


# What Postgres and libpq say of faults that pass by themselves: dbt gives their words and not their codes. A tenant may
# make such words itself; then its retries end, as all do.
_INTERRUPTIONS = (
    "deadlock detected",
    "could not serialize access",
    "server closed the connection unexpectedly",
    "connection already closed",
    "SSL connection has been closed unexpectedly",
    "terminating connection due to administrator command",
    "could not connect to server",
    "Connection refused",
    "could not receive data from server",
    "SSL SYSCALL error",
    "terminating connection because of crash of another server process",
    "Temporary failure in name resolution",
    "timeout expired",
    "too many clients already",
    "remaining connection slots are reserved",
    "the database system is",
)


# What of a manifest's nodes becomes a relation in a schema.
_BUILT = {"model", "seed", "snapshot", "test"}


def is_interruption(message: str) -> bool:
    """Whether an error's words say that Postgres was away or refused for a moment."""
    return any(words in message for words in _INTERRUPTIONS)


def read_results(path: Path) -> tuple[ModelResult, ...]:
    """The models of a `run_results.json`. Raises `DbtNoResults` for a file that is missing or is not one.

    Format: https://schemas.getdbt.com/dbt/run-results/v6.json
    """
    try:
        document = json.loads(path.read_bytes())
        return tuple(_result(entry) for entry in document["results"] if entry["unique_id"].startswith("model."))
    except FileNotFoundError:
        raise DbtNoResults(f"dbt ended without writing {path.name}, so nothing is known of what it built") from None
    except (OSError, *_UNREADABLE) as fault:
        raise DbtNoResults(
            f"dbt's {path.name} cannot be read ({fault!r}), so nothing is known of what it built"
        ) from None


def failure_of(models: Sequence[ModelResult]) -> DatabaseInterrupted | ModelFailed | None:
    """The failure of a run whose models ended so, or None where none of them failed."""
    failed = [model for model in models if model.status == "error"]
    if not failed:
        return None
    names = ", ".join(model.model_id.rpartition(".")[2] for model in failed)
    if all(is_interruption(model.message or "") for model in failed):
        return DatabaseInterrupted(f"Postgres interrupted {names}. {failed[0].message}")
    return ModelFailed(f"{len(failed)} of {len(models)} models failed: {names}. {failed[0].message}")


def check_schemas(manifest: Path, schema: str, exclusion: Sequence[str]) -> None:
    """Raise `SchemaForbidden` if dbt was to build anything outside of a schema.

    The project's own macro of this name stops dbt before its first statement; this says so by name, and looks again.
    Nodes that are excluded by a tag are not built. A manifest that is not there belongs to a dbt that never got so far.

    Format: https://schemas.getdbt.com/dbt/manifest/v12.json
    """
    tags = {item.removeprefix("tag:") for item in exclusion if item.startswith("tag:")}
    try:
        nodes = json.loads(manifest.read_bytes())["nodes"].values()
        strange = [
            f"{_text(node['unique_id'])} in {_text(node['schema'])}"
            for node in nodes
            if node["resource_type"] in _BUILT and node["schema"] != schema and not tags & set(node.get("tags", ()))
        ]
    except (OSError, *_UNREADABLE):
        return
    if strange:
        raise SchemaForbidden(
            f"only schema {schema} belongs to this run, and dbt would have built {'; '.join(sorted(strange)[:5])}: "
            "take `schema` and `generate_schema_name` out of the models' configuration"
        )


def read_event(line: bytes) -> dict[str, Any] | None:
    """One line of dbt's JSON log as an event with `info` and `data`, or None for anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(event, dict) and isinstance(event.get("info"), dict) and isinstance(event.get("data"), dict):
        return event
    return None


def model_of_event(event: dict[str, Any]) -> ModelResult | None:
    """The model that an event tells of, if it tells of one's start or end."""
    data, name = event["data"], event["info"].get("name")
    node = data.get("node_info")
    if not isinstance(node, dict) or node.get("resource_type") != "model":
        return None
    model_id = _text(node.get("unique_id"))
    if name == "LogStartLine":
        return ModelResult(model_id, "running")
    if name == "LogModelResult":
        # Its own `status` is the command tag, as in "INSERT 0 5"; rows and message are known from the results.
        with suppress(*_UNREADABLE):  # Events only show the progress, so one of another shape does no harm.
            return _result(
                {
                    "unique_id": model_id,
                    "status": node.get("node_status"),
                    "execution_time": data.get("execution_time"),
                }
            )
    return None


def error_of_event(event: dict[str, Any]) -> str | None:
    """The text of an event that dbt logs as an error."""
    if event["info"].get("level") == "error" and event["info"].get("msg"):
        return _text(event["info"]["msg"])
    return None


def _result(entry: dict[str, Any]) -> ModelResult:
    status = _STATUS.get(entry.get("status", "error"), "error")
    rows = (entry.get("adapter_response") or {}).get("rows_affected")
    message = entry.get("message")
    return ModelResult(
        model_id=_text(entry["unique_id"]),
        status=status,
        duration_seconds=max(0.0, float(entry.get("execution_time") or 0)),
        # dbt-postgres reports -1 where Postgres counts no rows, as for a view.
        rows_affected=rows if type(rows) is int and 0 <= rows < _BIGINT_LIMIT else None,
        message=_text(message) if message and status != "success" else None,
        started_at=_began(entry.get("timing")),
    )


def _began(timing: object) -> datetime | None:
    """When the first of dbt's timings began; times without a zone are UTC's."""
    if isinstance(timing, list) and timing and isinstance(timing[0], dict):
        with suppress(*_UNREADABLE):  # It only shows the progress.
            moment = datetime.fromisoformat(timing[0]["started_at"])
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _text(value: object) -> str:
    """The value as text that Postgres takes: JSON's strings may hold NUL and halves of characters."""
    return str(value).replace("\x00", "�").encode("utf-8", "replace").decode()
