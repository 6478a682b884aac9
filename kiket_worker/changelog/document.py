"""The exported file: the newest evaluations as JSON, the same bytes for the same evaluations."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter

from kiket_worker.changelog.metrics import Metrics
from kiket_worker.ledger.evaluations import Evaluation, Evaluator

LIMIT = 200

_MOMENT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z$"
Moment = Annotated[
    datetime,
    PlainSerializer(lambda moment: f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", return_type=str),
    Field(json_schema_extra={"pattern": _MOMENT}),
]


class ExportedEvaluation(BaseModel):
    """How much of a release's automated changelog is left in the human one."""

    # The texts under the fields are their descriptions in the JSON Schema: they speak to who reads the file.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: UUID
    """The evaluation's id; it stays the same."""
    release_id: int
    """The platform's id of the release."""
    project_id: int
    """The platform's id of the release's project."""
    organization_id: int
    """The platform's id of the release's organisation."""
    evaluator: Evaluator
    """What was evaluated: `draft_generation` is the automated draft, compared with the human changelog."""
    metrics: Metrics
    """The figures; docs/changelog-evaluations.md defines them."""
    summary: Annotated[str, Field(min_length=1)]
    """The figures in a sentence."""
    generated_at: Moment
    """When the evaluation was made (RFC 3339, UTC)."""


def render(evaluations: Iterable[Evaluation]) -> bytes:
    """The file's content, in the order given."""
    documents = [
        ExportedEvaluation(
            id=one.evaluation_id,
            release_id=one.release_id,
            project_id=one.project_id,
            organization_id=one.organization_id,
            evaluator=one.evaluator,
            metrics=Metrics.model_validate(one.metrics),
            summary=one.summary,
            generated_at=one.generated_at,
        ).model_dump(mode="json")
        for one in evaluations
    ]
    return (json.dumps(documents, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def schema_document() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, which `make contracts` writes to `deploy/contracts/`."""
    schema = TypeAdapter(Annotated[list[ExportedEvaluation], Field(max_length=LIMIT)]).json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:kiket:contract:changelog-evaluations:1",
        "title": "Kiket changelog evaluations",
        "description": (
            "What `kiket-worker changelog export` writes: the newest evaluations of changelogs, newest first, and of "
            "one moment by their ids."
        ),
        **schema,
    }
