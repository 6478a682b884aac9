"""A run that goes on, watched on its own page in a real browser until it ends, and ended from there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Status
from tests.support.browser import Visit, check_axe, check_for_everybody, chromium, keep_screenshot, visit
from tests.support.console import Console
from tests.support.refreshes import Refreshes

IN_STEPS = """
start("a")
wait_for("go_on")
finish("a")
say("Told", "warn", "words of a", node_info=node("a", "success"))
start("b")
wait_for("go_on_again")
finish("b")
write({"results": [result("a"), result("b")]})
"""


@pytest.fixture
def refreshes(sample_database: Any, ledger: Database, tmp_path: Path) -> Refreshes:
    return Refreshes.prepare(sample_database.url, ledger, tmp_path)


@pytest.fixture
def acme(refreshes: Refreshes) -> Iterator[Visit]:
    """Somebody of the organisation who has signed in."""
    console = Console(refreshes.ledger, refreshes.folder)
    with console.serving() as served, chromium() as browser, visit(browser, served.url) as found:
        found.sign_in(console.token(1))
        yield found


def test_a_run_is_watched_until_it_has_ended_and_then_shows_what_it_has_left(refreshes: Refreshes, acme: Visit) -> None:
    run_id = refreshes.request()
    page = acme.go(f"/runs/{run_id}")
    status, models = page.locator("#run-status"), page.get_by_role("group", name="Models of the run")
    expect(status).to_have_text("The run waits for a worker.")
    page.evaluate("window.same = true")
    going = refreshes.start(run_id, refreshes.services(IN_STEPS))
    expect(status).to_have_text("Models done: 0; being built: 1.")
    expect(models.locator("tbody tr")).to_have_count(1)
    expect(page.locator(".gantt")).to_contain_text("so far")
    check_axe(page)
    keep_screenshot(page, "run-going-on")
    refreshes.tell("go_on")
    expect(status).to_have_text("Models done: 1; being built: 1.")
    refreshes.tell("go_on_again")
    assert going.wait() is Status.SUCCEEDED
    expect(status).to_have_text("The run has succeeded, with 2 models.")
    expect(page.get_by_role("link", name="dbt.log")).to_be_visible()
    expect(page.get_by_role("button", name="Ask for it again…")).to_be_visible()
    expect(page.locator("table.log tbody tr")).to_contain_text("words of a")
    assert page.evaluate("window.same") is True


def test_a_run_is_ended_and_asked_for_again_by_keyboard(refreshes: Refreshes, acme: Visit) -> None:
    run_id = refreshes.request()
    page = acme.go(f"/runs/{run_id}")
    page.get_by_role("button", name="End the run…").press("Enter")
    expect(page.get_by_role("button", name="Yes, end it")).to_be_focused()
    check_for_everybody(page, "run-end-it")
    page.get_by_role("link", name="No, go back").press("Enter")
    assert refreshes.run(run_id).status is Status.QUEUED
    page.get_by_role("button", name="End the run…").press("Enter")
    page.get_by_role("button", name="Yes, end it").press("Enter")
    expect(page.locator("#run-status")).to_have_text("The run was cancelled.")
    page.get_by_role("button", name="Ask for it again…").press("Enter")
    expect(page.get_by_role("button", name="Yes, refresh")).to_be_focused()
    check_for_everybody(page, "run-ask-again")
    page.get_by_role("button", name="Yes, refresh").press("Enter")
    expect(page.locator("#run-status")).to_have_text("The run waits for a worker.")
    assert str(run_id) not in page.url
