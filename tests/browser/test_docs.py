"""A run's docs, as whoever has fetched them sees them: one page, opened in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.restoring import restore
from kiket_worker.ledger import archives
from kiket_worker.ledger.organizations import save_settings
from kiket_worker.ledger.runs import Status
from tests.support.installations import Installation
from tests.support.refreshes import shared_models
from tests.support.whole_refreshes import refresh_by_dbt

OTHERS = ("blue-harbor", "north_star")


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox; and there is nobody that it could ask for updates.
        options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        yield browser.new_page()
        browser.close()


def test_the_docs_of_an_organisation_that_wants_them_show_its_models_and_no_other_tenants_name(
    sample_database: Any, tmp_path: Path, page: Page
) -> None:
    with Installation.of(sample_database) as installation:
        installation.execute(shared_models())
        save_settings(installation.ledger, 1, docs=True)
        rows = installation.rows("select id, slug from public.organizations where slug = any(%s)", list(OTHERS))
        assert len(rows) == len(OTHERS)
        for row in rows:
            installation.execute(f"create schema analytics_org_{row['slug'].replace('-', '_')}")
        run = refresh_by_dbt(installation.ledger_url, installation.ledger, "acme", tmp_path / "artifacts")
        assert (run.status, run.error_message, run.docs) == (Status.SUCCEEDED, None, False)
        archived = archives.find(installation.ledger, run.run_id)
    assert archived is not None
    store = DirectoryStore(tmp_path / "artifacts")
    restore(store, archived.prefix, tmp_path / "fetched", index_sha256=archived.index_sha256)
    path = tmp_path / "fetched" / "docs" / "index.html"
    content = path.read_text()
    for name in (*OTHERS, *(name.replace("-", "_") for name in OTHERS)):
        assert name not in content

    complaints: list[str] = []
    page.on("pageerror", lambda fault: complaints.append(str(fault)))
    page.goto(path.as_uri() + "#!/model/model.kiket_analytics.fct_throughput")
    page.get_by_role("heading", name="fct_throughput").wait_for()
    shown = page.locator("body").inner_text()
    for word in ("fct_throughput", "issues_completed", "analytics_org_acme"):
        assert word in shown
    page.goto(path.as_uri() + "#!/overview")
    page.get_by_text("fct_cycle_time").first.wait_for(state="attached")
    assert complaints == []
