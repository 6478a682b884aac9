"""Evaluations of releases' changelogs: what is still to be evaluated, what was, and whose turn it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from kiket_worker.ledger.database import Database, statement

# As many releases as are in memory at a time.
_PAGE_SIZE = 20
_BEFORE_ALL = -(2**63)


class Evaluator(StrEnum):
    """What an evaluation looks at."""

    DRAFT_GENERATION = "draft_generation"


@dataclass(frozen=True)
class Release:
    """A release whose changelogs, as they are now, were not evaluated yet. `content_digest` names both texts."""

    release_id: int
    organization_id: int
    project_id: int
    automated: str | None
    human: str | None
    content_digest: str


@dataclass(frozen=True)
class Scored:
    """What an evaluation has found."""

    release: Release
    metrics: dict[str, Any]
    summary: str


@dataclass(frozen=True)
class Evaluation:
    """A stored evaluation."""

    evaluation_id: UUID
    release_id: int
    project_id: int
    organization_id: int
    evaluator: Evaluator
    metrics: dict[str, Any]
    summary: str
    generated_at: datetime


def releases_to_evaluate(
    database: Database,
    *,
    organization_id: int | None,
    definitions_version: int,
    limit_characters: int,
) -> Iterator[list[Release]]:
    """Pages of releases of one organisation, or of all, that have a text and no evaluation of what they say now.

    The texts are cut at the limit; the digest is of all that they say.
    """
    after = _BEFORE_ALL
    while True:
        page = database.rows(
            statement("releases_to_evaluate"),
            {
                "organization_id": organization_id,
                "evaluator": Evaluator.DRAFT_GENERATION,
                "definitions_version": definitions_version,
                "limit_characters": limit_characters,
                "after": after,
                "page_size": _PAGE_SIZE,
            },
        )
        if page:
            after = page[-1]["release_id"]
            yield [Release(**row) for row in page]
        if len(page) < _PAGE_SIZE:
            return


def record(database: Database, scored: Sequence[Scored]) -> int:
    """Store evaluations, all or none; give how many of them nobody else had stored already."""
    rows = database.rows(
        statement("record_evaluations"),
        {
            "evaluator": Evaluator.DRAFT_GENERATION,
            "release_ids": [one.release.release_id for one in scored],
            "organization_ids": [one.release.organization_id for one in scored],
            "project_ids": [one.release.project_id for one in scored],
            "content_digests": [one.release.content_digest for one in scored],
            "metrics": [Jsonb(one.metrics) for one in scored],
            "summaries": [one.summary for one in scored],
        },
    )
    return len(rows)


def newest(database: Database, *, organization_id: int | None, limit: int) -> list[Evaluation]:
    """The newest evaluations of one organisation, or of all, newest first; those of one moment by their ids."""
    rows = database.rows(statement("newest_evaluations"), {"organization_id": organization_id, "limit": limit})
    return [Evaluation(**row | {"evaluator": Evaluator(row["evaluator"])}) for row in rows]


def take_turn(database: Database, *, interval_hours: int) -> bool:
    """Whether the installation's changelogs are due. Of several that ask, one is told so, once in an interval."""
    return bool(database.rows(statement("take_evaluation_turn"), {"interval_hours": interval_hours}))
