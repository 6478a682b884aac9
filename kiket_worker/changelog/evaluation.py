"""Evaluate releases: score what was not scored yet, page by page. Safe to repeat, to run at once, and to kill."""

from collections.abc import Callable
from itertools import takewhile

from kiket_worker.changelog.metrics import DEFINITIONS_VERSION, TEXT_LIMIT_CHARACTERS, compare, summarize
from kiket_worker.ledger import evaluations
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.evaluations import Release, Scored


def evaluate(
    database: Database, *, organization_id: int | None = None, is_stopped: Callable[[], bool] = lambda: False
) -> int:
    """Evaluate the releases of one organisation, or of all, whose changelogs have changed; give how many were stored.

    It ends early, after a release, when `is_stopped`. Memory is that of a page, however many releases there are.
    Raises as `Database.transaction` does.
    """
    stored = 0
    for page in evaluations.releases_to_evaluate(
        database,
        organization_id=organization_id,
        definitions_version=DEFINITIONS_VERSION,
        limit_characters=TEXT_LIMIT_CHARACTERS,
    ):
        stored += evaluations.record(database, [_scored(one) for one in takewhile(lambda _: not is_stopped(), page)])
        if is_stopped():
            break
    return stored


def _scored(release: Release) -> Scored:
    metrics = compare(release.automated, release.human)
    return Scored(release, metrics.model_dump(), summarize(metrics))
