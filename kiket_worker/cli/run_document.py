"""A run as the command line's JSON has it (design, "Command line")."""

from dataclasses import asdict
from typing import Any

from kiket_worker.ledger.runs import Run, RunModel


def run_document(run: Run, models: list[RunModel] | None = None) -> dict[str, Any]:
    """The run, with its models where they are given. Unset times, error and artifacts are null."""
    document: dict[str, Any] = {
        "run_id": str(run.run_id),
        "organization": run.organization_slug,
        "reason": run.reason,
        "status": run.status,
        "attempt": run.attempt,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "artifacts": run.artifacts_location,
        "error": {"kind": run.error_kind, "message": run.error_message} if run.error_kind else None,
    }
    if models is not None:
        document["models"] = [asdict(model) for model in models]
    return document
