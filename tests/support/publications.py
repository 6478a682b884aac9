"""Definition repositories as publishing sees them: files by their paths, found valid unless a test says otherwise."""

from collections.abc import Callable, Mapping

from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.problem import Problem, Severity
from kiket_worker.definitions.publishing import Publication, Published, Publisher
from kiket_worker.definitions.validation import Validation
from kiket_worker.ledger import organizations
from tests.support.refreshes import Refreshes

MODEL = "analytics/dbt/models/{}.sql"
PROBLEM = Problem(MODEL.format("a"), 3, "some-rule", Severity.ERROR, "it is wrong", "mend it")


def model(name: str, text: str = "select 1 as n") -> dict[str, str]:
    return {MODEL.format(name): text}


def publication(
    files: Mapping[str, str],
    *problems: Problem,
    check: Callable[[Mapping[str, Overlay]], object] = lambda _: None,
    **options: object,
) -> Publication:
    """What publishes these files; `check` is called with the other overlays each time they are validated."""

    def validate(others: Mapping[str, Overlay]) -> Validation:
        check(others)
        return Validation(Overlay(dict(files)), problems)

    return Publication(validate=validate, **options)


def publisher(refreshes: Refreshes) -> Publisher:
    return Publisher(refreshes.ledger, refreshes.store, core_bundle())


def publish(refreshes: Refreshes, wanted: Publication, *slugs: str) -> list[Published]:
    chosen = [organizations.find(refreshes.ledger, slug) for slug in slugs or ("acme",)]
    return list(publisher(refreshes).publish(wanted, chosen))
