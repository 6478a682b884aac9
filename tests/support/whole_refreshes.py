"""A refresh with nothing in place of anything: the pipeline, a database role, and dbt itself."""

from pathlib import Path

from kiket_worker.dbt.engine import Cancellation
from kiket_worker.ledger import organizations, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request, Run
from kiket_worker.refresh.pipeline import refresh
from kiket_worker.refresh.services import open_services
from tests.support import warm_dbt
from tests.support.tenants import settings_of


def refresh_by_dbt(
    ledger_url: str, database: Database, slug: str, artifacts: Path, *, docs: bool = False, full_refresh: bool = False
) -> Run:
    """Refresh an organisation; the run as it has ended, after one attempt. `artifacts` is where its archive goes."""
    once = {"ARTIFACTS_URL": artifacts.as_uri(), "KIKET_MAX_ATTEMPTS": 1}
    settings = settings_of(ledger_url, KIKET_DBT_EXECUTABLE=warm_dbt.executable(), **once)
    found = organizations.find(database, slug)
    run = runs.request(database, Request(found.organization_id, slug, docs=docs, full_refresh=full_refresh))
    refresh(run.run_id, open_services(settings, database, lambda _: None), Cancellation())
    return runs.get(database, run.run_id)
