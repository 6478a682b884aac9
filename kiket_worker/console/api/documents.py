"""What the API's answers hold, as models: the document that `/openapi.json` gives is made of them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kiket_worker.contract import Reason
from kiket_worker.ledger.archives import Archived
from kiket_worker.ledger.freshness import Freshness, State
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import Run, RunAttempt, RunModel, Status


class Document(BaseModel):
    """What all have in common: they are made here, and have what they say and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, from_attributes=True)


class Fault(Document):
    """Why something failed."""

    kind: str
    """A word to select by; docs/operations.md lists them."""
    message: str


class RunDocument(Document):
    """One refresh of one organisation."""

    run_id: UUID
    organization: str
    reason: Reason
    requested_by: str | None
    full_refresh: bool
    docs: bool
    select: list[str] | None
    status: Status
    attempt: int
    """The number of the attempt at it, from 1; 0 before the first."""
    queued_at: datetime
    started_at: datetime | None
    """When its newest attempt began."""
    built_at: datetime | None
    archived_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    error: Fault | None

    @classmethod
    def of(cls, run: Run) -> "RunDocument":
        """The document of a run."""
        return cls(**run_fields(run))


class ModelDocument(Document):
    """How one model of a run went."""

    model_id: str
    status: str
    """running, success, error or skipped."""
    duration_seconds: float | None
    rows_affected: int | None
    message: str | None
    started_at: datetime | None
    """Null where nobody has told."""


class AttemptDocument(Document):
    """One try at a run."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    """succeeded, failed, cancelled, retried, handed_back or crashed; null while it goes on."""
    error: Fault | None


class ArtifactsDocument(Document):
    """Where the files of a run are."""

    location: str
    index_sha256: str
    pruned_at: datetime | None
    """When they were removed because of their age."""


class RunDetail(RunDocument):
    """A run with its models, attempts and artifacts."""

    models: list[ModelDocument]
    attempts: list[AttemptDocument]
    artifacts: ArtifactsDocument | None


class SettingsDocument(Document):
    """Whether and how often an organisation is refreshed."""

    organization: str
    enabled: bool
    interval_hours: int | None
    """Hours between refreshes: its own, or its plan's; null for a plan without any."""
    refresh_interval_hours: int | None
    """Its own; null: the plan's counts."""
    docs: bool
    """Whether each run leaves dbt's docs."""
    quarantine_reason: str | None
    """Why nothing of it is refreshed though it is enabled."""


class OrganizationDocument(Document):
    """An organisation and how fresh its analytics are."""

    organization_id: int
    slug: str
    name: str
    plan: str
    state: State
    enabled: bool
    interval_hours: int | None
    last_run_at: datetime | None
    """When its last run began, however it ended."""
    last_success_at: datetime | None
    last_success_run_id: UUID | None
    due_at: datetime | None
    """When it is refreshed next; null: not as things are."""
    lag_seconds: float | None
    """How long it has been due; 0: it is not."""
    outdated_seconds: float | None
    """For how long its last success has been older than its interval, refreshed since then or not; 0: it is not."""
    active_run_id: UUID | None

    @classmethod
    def of(cls, found: Freshness) -> "OrganizationDocument":
        """The document of an organisation."""
        organization = found.organization
        return cls(
            organization_id=organization.organization_id,
            slug=organization.slug,
            name=organization.name,
            plan=organization.plan,
            state=found.state,
            enabled=organization.enabled,
            interval_hours=organization.interval_hours,
            last_run_at=organization.last_run_at,
            last_success_at=found.last_success_at,
            last_success_run_id=found.last_success_run_id,
            due_at=organization.due_at,
            lag_seconds=found.lag_seconds,
            outdated_seconds=found.outdated_seconds,
            active_run_id=found.active_run_id,
        )


def run_fields(run: Run) -> dict[str, Any]:
    """The fields of a run's document."""
    return {
        "run_id": run.run_id,
        "organization": run.organization_slug,
        "reason": run.reason,
        "requested_by": run.requested_by,
        "full_refresh": run.full_refresh,
        "docs": run.docs,
        "select": run.selection,
        "status": run.status,
        "attempt": run.attempt,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "built_at": run.built_at,
        "archived_at": run.archived_at,
        "finished_at": run.finished_at,
        "cancel_requested_at": run.cancel_requested_at,
        "error": _fault(run.error_kind, run.error_message),
    }


def run_detail(run: Run, models: list[RunModel], attempts: list[RunAttempt], archived: Archived | None) -> RunDetail:
    """The document of a run with all that belongs to it."""
    return RunDetail(
        **run_fields(run),
        models=[ModelDocument.model_validate(model) for model in models],
        attempts=[
            AttemptDocument(
                attempt=attempt.attempt,
                started_at=attempt.started_at,
                finished_at=attempt.finished_at,
                outcome=attempt.outcome,
                error=_fault(attempt.error_kind, attempt.error_message),
            )
            for attempt in attempts
        ],
        artifacts=ArtifactsDocument(
            location=archived.location, index_sha256=archived.index_sha256, pruned_at=archived.pruned_at
        )
        if archived
        else None,
    )


def settings_document(organization: Organization) -> SettingsDocument:
    """The document of an organisation's settings."""
    return SettingsDocument(
        organization=organization.slug,
        enabled=organization.enabled,
        interval_hours=organization.interval_hours,
        refresh_interval_hours=organization.refresh_interval_hours,
        docs=organization.docs,
        quarantine_reason=organization.quarantine_reason,
    )


def _fault(kind: str | None, message: str | None) -> Fault | None:
    return Fault(kind=kind, message=message or "") if kind else None
