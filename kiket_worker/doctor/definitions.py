"""What an organisation has published, as far as it can be had: its models are looked for beside the release's."""

from pathlib import Path
from tempfile import TemporaryDirectory

from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.contents import Contents, contents_of
from kiket_worker.dbt.published import fetch_overlays
from kiket_worker.doctor.finding import Finding, error
from kiket_worker.errors import KiketError
from kiket_worker.ledger import definitions
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Organization


def examine_definitions(
    database: Database, store: Store, core: Bundle, organization: Organization
) -> tuple[Contents, list[Finding]]:
    """The contents of the organisation's bundle, and what keeps them from being those of all that it has published."""
    current = definitions.current(database, organization.organization_id)
    if current is None or not current.overlays:
        return contents_of(core), []
    try:
        overlays = fetch_overlays(store, current.overlays)
    except KiketError as fault:
        remedy = (
            "see that the artifact store answers; what is lost there is stored anew by publishing it again, or "
            f"`kiket-worker definitions rollback {organization.slug} VERSION` goes back to a version without it"
        )
        return contents_of(core), [error(fault.kind, str(fault), remedy, organization.slug)]
    with TemporaryDirectory(prefix="kiket-doctor-") as folder:
        return contents_of(compose(core, overlays, Path(folder))), []
