"""A run's page and docs, dashboards and versions, in a real browser, of runs that dbt itself has made."""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from kiket_worker.ledger.runs import Run, Status
from tests.support import boards
from tests.support import browser as browsing
from tests.support.browser import PHONE, Visit, check_axe, check_for_everybody, check_width, keep_screenshot
from tests.support.console import Console
from tests.support.installations import Installation
from tests.support.refreshes import shared_models
from tests.support.whole_refreshes import refresh_by_dbt

ACME = 1


@dataclass
class Site:
    """A console over an organisation that was refreshed well, with docs, and then failed."""

    url: str
    console: Console
    browser: Browser
    good: Run
    failed: Run

    def visit(self, **options: Any) -> AbstractContextManager[Visit]:
        return browsing.visit(self.browser, self.url, **options)


@pytest.fixture(scope="module")
def site(sample_databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("runs")
    store = boards.store_of(folder)
    with Installation.of(sample_databases[0]) as installation, browsing.chromium() as browser:
        installation.execute(shared_models())

        def refreshed(files: dict[str, str], **options: Any) -> Run:
            boards.publish(installation, store, files)
            return refresh_by_dbt(installation.ledger_url, installation.ledger, "acme", folder / "artifacts", **options)

        boards.publish(installation, store, boards.FIRST)
        good = refreshed(boards.SECOND, docs=True)
        assert (good.status, good.error_message) == (Status.SUCCEEDED, None)
        failed = refreshed(boards.THIRD)
        assert failed.status is Status.FAILED
        console = Console(installation.ledger, folder)
        with console.serving(previews=boards.previews_of(installation)) as served:
            yield Site(served.url, console, browser, good, failed)


@pytest.fixture
def ops(site: Site) -> Iterator[Visit]:
    """An operator who has signed in."""
    with site.visit() as visit:
        visit.sign_in(site.console.token())
        yield visit


def test_a_failed_run_shows_the_failing_line_of_the_compiled_sql(site: Site, ops: Visit) -> None:
    page = ops.go(f"/runs/{site.failed.run_id}")
    expect(page.get_by_role("heading", name="Why failing failed")).to_be_visible()
    expect(page.locator(".sql mark")).to_have_text("    no_such_column as points")
    expect(page.locator(".failing .line-number")).to_have_text("3")
    expect(page.locator("pre.words")).to_contain_text('column "no_such_column" does not exist')
    expect(page.get_by_text("The error is about line 3.")).to_be_visible()
    expect(page.locator("#run-status")).to_contain_text("has failed (model_failed)")
    bars = page.locator(".gantt tbody th")
    assert {"in the queue", "attempt 1", "build", "failing", "board"} <= set(bars.all_inner_texts())
    check_axe(page)
    keep_screenshot(page, "run-failed")


def show_lines(page: Page) -> None:
    """Send the filter's form, and wait for the whole page that answers: a click waits for its beginning only."""
    page.get_by_role("button", name="Show lines").click()
    page.wait_for_load_state()


def test_the_log_is_filtered_by_level_model_and_text_and_without_scripts(site: Site) -> None:
    with site.visit(java_script_enabled=False) as visit:
        page = visit.sign_in(site.console.token())
        visit.go(f"/runs/{site.failed.run_id}")
        lines = page.locator("table.log tbody tr")
        everything = lines.count()
        page.get_by_label("At least").select_option("error")
        show_lines(page)
        assert 0 < lines.count() < everything
        assert set(page.locator("table.log .badge").all_inner_texts()) == {"error"}
        page.get_by_label("At least").select_option("debug")
        page.get_by_role("textbox", name="Model").fill("board")
        show_lines(page)
        assert 0 < lines.count() < everything
        assert set(page.locator("table.log td:nth-child(4)").all_inner_texts()) == {"board"}
        page.get_by_role("textbox", name="Model").fill("")
        page.get_by_label("With the text").fill("NO_SUCH_column")
        show_lines(page)
        found = page.locator("table.log .words").all_inner_texts()
        assert found
        assert [line for line in found if "no_such_column" not in line] == []
        assert page.locator(".sql mark").count() == 1
        page.get_by_label("With the text").fill("nothing is like this")
        show_lines(page)
        expect(page.get_by_text("No line is like that.")).to_be_visible()


def test_artifacts_are_downloaded_as_they_were_archived(site: Site, ops: Visit, tmp_path: Path) -> None:
    page = ops.go(f"/runs/{site.failed.run_id}")
    for name in ("manifest.json", "run_results.json", "index.json", "dbt.log"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    results = json.loads((tmp_path / "run_results.json").read_bytes())
    assert {one["unique_id"]: one["status"] for one in results["results"]}["model.kiket_analytics.failing"] == "error"
    assert json.loads((tmp_path / "index.json").read_bytes())["run_id"] == str(site.failed.run_id)


def test_the_docs_site_is_read_and_what_authors_wrote_in_it_gets_nowhere(site: Site, ops: Visit) -> None:
    page = ops.go(f"/runs/{site.good.run_id}")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Read the docs site").click()
    docs = Visit(site.url, opened.value)
    shown = docs.go(f"/runs/{site.good.run_id}/docs/#!/model/model.kiket_analytics.board")
    shown.get_by_role("heading", name="board").first.wait_for()
    expect(shown.locator("body")).to_contain_text("Points by team.")
    expect(shown.locator("body")).to_contain_text("analytics_org_acme")
    # What was put into a description runs, and gets at nothing: no cookie, no storage, no answer.
    expect(shown).to_have_title("taken: SecurityError SecurityError TypeError")
    assert shown.evaluate("window.origin") == "null"
    keep_screenshot(shown, "docs-site")
    # Another page of it, and the same one again.
    shown.goto(f"{site.url}/runs/{site.good.run_id}/docs/#!/overview")
    shown.get_by_text("fct_cycle_time").first.wait_for(state="attached")
    shown.reload()
    shown.get_by_text("fct_cycle_time").first.wait_for(state="attached")
    # Of dbt's own application, addresses in its templates that are not filled in yet; and the attack.
    known = re.compile(r"getIcon\(item|assets/favicons|/docs/x\b|connect-src|/api/v1/analytics/runs")
    assert [complaint for complaint in docs.complaints if not known.search(complaint)] == []
    shown.close()


def test_a_dashboard_shows_every_type_of_widget(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations/acme")
    page.get_by_role("heading", name="Dashboards").scroll_into_view_if_needed()
    expect(page.get_by_role("heading", name="Funnel")).to_be_visible()
    check_widgets(page)
    keep_screenshot(page, "organization-with-dashboard")
    check_axe(page)
    assert page.locator(".widget canvas").count() == 3
    page.get_by_role("link", name="Open Team <board> by itself").click()
    expect(page).to_have_title(re.compile("Team <board>"))
    check_widgets(page)
    check_axe(page)
    page.get_by_label("team (required)").fill("red")
    page.get_by_role("button", name="Show with these").click()
    one_team = page.get_by_role("region", name="One team")
    expect(one_team.locator("tbody tr")).to_have_count(2)
    check_for_everybody(page, "dashboard")


def check_widgets(page: Page) -> None:
    def of(title: str) -> Any:
        return page.get_by_role("region", name=title, exact=True)

    expect(of("Points").locator("dd")).to_have_text("105")
    expect(of("Points a week").locator("thead th")).to_have_count(4)
    expect(of("Points by team").locator("tbody th")).to_have_text(["red", "blue", boards.HOSTILE])
    expect(of("Points by week and team").locator("tbody tr")).to_have_count(3)
    expect(of("Shares").locator("path")).to_have_count(3)
    expect(of("Shares").locator("tbody tr").first).to_contain_text("66.7 %")
    rows = of(f"Rows {boards.HOSTILE}")
    expect(rows.locator("thead th")).to_have_text(["day", "Team <i>", "points"])
    expect(rows.locator("tbody tr").last.locator("td")).to_have_text(["2026-01-19", boards.HOSTILE, "5"])
    expect(of("Leaders").locator("tbody tr").first).to_contain_text("red")
    expect(of("Heat").locator("td.shade-9")).to_have_text("40")
    expect(of("Funnel").locator("tbody tr")).to_have_count(3)
    expect(of("Done").locator("meter")).to_have_attribute("value", "105")
    expect(of("Note")).to_contain_text("Days are <b>those</b> of UTC.")
    expect(of("One team")).to_contain_text("The parameter 'team' is required: give it a value.")
    expect(of("Gone")).to_contain_text("The model not_built is not built")
    expect(page.get_by_text("points < 5 or points is null")).to_be_visible()
    assert page.locator("script:not([src])").count() == 0


def test_versions_show_what_they_have_changed_line_by_line(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations/acme")
    rows = page.get_by_role("group", name="Versions of the definitions").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("3 (current)")
    expect(rows.first).to_contain_text("ada")
    page.get_by_role("link", name="What changed in version 2").click()
    changes = page.locator("#version-changes")
    expect(changes.locator("li").first).to_contain_text("changed board")
    expect(changes.get_by_role("link", name="gone")).to_be_visible()
    check_for_everybody(page, "version")
    changes.get_by_role("link", name="board", exact=True).click()
    expect(page.locator(".diff .old")).to_have_text("-select 1 as n")
    expect(page.locator(".diff .new").first).to_have_text("+{{ config(materialized='table') }}")
    check_for_everybody(page, "version-diff")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_run_is_readable_on_a_phone_in_light_and_dark_and_without_scripts(site: Site, scheme: Any) -> None:
    with site.visit(viewport=PHONE, color_scheme=scheme) as visit:
        page = visit.sign_in(site.console.token(ACME))
        for run, name in ((site.failed, "failed"), (site.good, "good")):
            visit.go(f"/runs/{run.run_id}")
            check_width(page)
            check_axe(page)
            keep_screenshot(page, f"run-{name}-phone-{scheme}")
        visit.go("/organizations/acme/dashboards/main/team-board")
        check_axe(page)
    with site.visit(java_script_enabled=False) as visit:
        page = visit.sign_in(site.console.token(ACME))
        visit.go("/organizations/acme/dashboards/main/team-board")
        check_widgets(page)
        visit.go("/organizations/acme/versions/2")
        expect(page.get_by_role("link", name="board", exact=True)).to_be_visible()
