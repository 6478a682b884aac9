"""The console's pages as people use them: a real browser, the console's own server, runs of a stand-in dbt."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from kiket_worker.console.access import SESSION_COOKIE
from kiket_worker.console.app import create_app
from kiket_worker.errors import RabbitmqUnreachable
from kiket_worker.ledger import organizations, overview, runs, tokens
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.organizations import Organization, save_settings
from kiket_worker.ledger.runs import Run, Status
from tests.support import browser as browsing
from tests.support.browser import DESK, PHONE, Visit, check_axe, check_for_everybody, check_width, keep_screenshot
from tests.support.console import Console
from tests.support.dbt_scripts import IN_STEPS
from tests.support.refreshes import Refreshes

ACME, HARBOR = 1, 2
QUEUES = {"kiket.analytics.refresh": 3, "kiket.analytics.refresh.scheduled": 0, "kiket.analytics.refresh.dead": 2}
BUILDING = 'build("fct_cycle_time", "fct_throughput")'
FAILING = """
start("fct_goals")
write({"results": [result("fct_goals", "error", "column <b>goal</b> does not exist")]})
sys.exit(1)
"""


@dataclass
class Site:
    """A console with a history, and one browser for all tests of the module."""

    url: str
    console: Console
    refreshes: Refreshes
    browser: Browser
    depths: dict[str, int] | None

    def visit(self, **options: Any) -> AbstractContextManager[Visit]:
        return browsing.visit(self.browser, self.url, **options)

    def token(self, organization_id: int | None = None) -> str:
        return self.console.token(organization_id)

    def organization(self, slug: str) -> Organization:
        return organizations.find(self.console.ledger, slug)

    def newest(self, organization_id: int) -> Run:
        return runs.page(self.console.ledger, organization_id=organization_id, page_size=1)[0]


@pytest.fixture(scope="module")
def site(sample_databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    url = sample_databases[0].url
    with Database(url, max_connections=8) as ledger, browsing.chromium() as browser:
        refreshes = Refreshes.prepare(url, ledger, folder)
        site = Site("", Console(ledger, folder), refreshes, browser, dict(QUEUES))

        def depths() -> dict[str, int]:
            if site.depths is None:
                raise RabbitmqUnreachable("nobody is there")
            return site.depths

        services = site.console.services(depths=depths)
        # Without the memory that all readers share, so that each look shows what is.
        services.__dict__["overview"] = lambda: overview.look(ledger, services.prices, now=datetime.now(UTC))
        for _ in range(2):
            refreshes.start(refreshes.request("acme"), refreshes.services(BUILDING)).wait()
        refreshes.start(refreshes.request("blue-harbor"), refreshes.services(FAILING)).wait()
        with site.console.serving(create_app(services)) as served:
            site.url = served.url
            yield site


@pytest.fixture
def ops(site: Site) -> Iterator[Visit]:
    """An operator who has signed in."""
    with site.visit() as visit:
        visit.sign_in(site.token())
        yield visit


# Sign-in.


def test_somebody_signs_in_with_a_token_and_out_again(site: Site) -> None:
    with site.visit() as visit:
        page = visit.go("/runs?status=failed")
        expect(page).to_have_title(re.compile("Sign in"))
        expect(page.get_by_label("Token")).to_be_focused()
        check_for_everybody(page, "sign-in")
        page.get_by_label("Token").fill("kiket_" + "x" * 43)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("opens nothing")
        check_axe(page)
        visit.forgive("401")
        assert not [one for one in page.context.cookies() if one["name"] == SESSION_COOKIE]

        page.get_by_label("Token").fill(f" {site.token()} ")
        page.get_by_role("button", name="Sign in").click()
        # Where one wanted to go.
        expect(page).to_have_url(site.url + "/runs?status=failed")
        (session,) = [one for one in page.context.cookies() if one["name"] == SESSION_COOKIE]
        assert (session["httpOnly"], session["sameSite"], session["expires"]) == (True, "Strict", -1)
        assert page.evaluate("document.cookie") == ""

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        assert not [one for one in page.context.cookies() if one["name"] == SESSION_COOKIE]
        visit.go("/runs")
        expect(page.get_by_label("Token")).to_be_visible()


def test_signing_in_leads_to_no_other_site(site: Site) -> None:
    with site.visit() as visit:
        page = visit.go("/sign-in?next=//elsewhere.example/x")
        page.get_by_label("Token").fill(site.token())
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(site.url + "/")


def test_a_token_that_is_revoked_ends_the_session_also_of_a_page_that_renews_itself(site: Site) -> None:
    secret = site.token()
    with site.visit() as visit:
        visit.page.clock.install()
        page = visit.sign_in(secret)
        with site.console.ledger.transaction() as connection:
            digest = tokens.digest(secret)
            connection.execute("update kiket_analytics.tokens set revoked_at = now() where digest = %s", [digest])
        page.clock.fast_forward(6000)
        expect(page.get_by_label("Token")).to_be_visible()


# Who sees what.


def test_an_organisation_sees_its_own_pages_and_nothing_of_others(site: Site) -> None:
    with site.visit() as visit:
        page = visit.sign_in(site.token(ACME))
        # There is no overview for it: it is led to its own page.
        expect(page).to_have_url(site.url + "/organizations/acme")
        expect(page.get_by_role("link", name="Overview")).to_have_count(0)
        visit.go("/organizations")
        expect(page).to_have_url(site.url + "/organizations/acme")
        visit.go("/runs")
        expect(page.get_by_role("row")).not_to_have_count(1)
        assert "blue-harbor" not in page.content()
        others = site.newest(HARBOR).run_id
        for path in (
            "/organizations/blue-harbor",
            "/organizations/nobody",
            "/runs?organization=blue-harbor",
            f"/organizations/acme?run={others}",
        ):
            visit.go(path)
            expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
            assert "blue-harbor" not in page.locator("main").inner_text()
            visit.forgive("404")
        keep_screenshot(page, "not-found")


def test_a_form_of_another_session_changes_nothing(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations/acme")
    page.locator("form[action$='/settings'] input[name=csrf]").evaluate("input => input.value = '0'.repeat(64)")
    page.get_by_label("Are paused").check()
    page.get_by_role("button", name="Save the settings").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Forbidden")
    expect(page.locator("main")).to_contain_text("Nothing was changed")
    ops.forgive("403")
    # Nor does one of another site: the browser does not even say who it is.
    before = site.newest(ACME).run_id
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    page.goto(elsewhere + "/sign-in")
    page.evaluate(
        """target => {
            const form = document.createElement("form");
            Object.assign(form, {method: "post", action: "/organizations/acme/refresh"});
            document.body.append(form);
            form.submit();
        }""",
    )
    expect(page.get_by_label("Token")).to_be_visible()
    assert site.organization("acme").enabled
    assert site.newest(ACME).run_id == before


def test_a_link_of_another_site_leads_to_the_page_for_who_is_signed_in(site: Site, ops: Visit) -> None:
    page = ops.page
    for path, heading in (("/runs?status=failed", "Runs"), ("/organizations/acme", "Acme, Inc.")):
        page.goto(site.url.replace("127.0.0.1", "localhost") + "/sign-in")
        follow(page, site.url + path)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        assert page.url == site.url + path
    # Who is not is led to the sign-in, and on from there.
    with site.visit() as visit:
        visit.page.goto(site.url.replace("127.0.0.1", "localhost") + "/sign-in")
        follow(visit.page, site.url + "/runs")
        expect(visit.page).to_have_url(site.url + "/sign-in?next=/runs")


def follow(page: Page, url: str) -> None:
    """Follow a link to it on this page."""
    page.evaluate(
        "url => { const link = document.createElement('a'); link.href = url; link.textContent = 'the link';"
        " document.querySelector('main').append(link); }",
        url,
    )
    page.get_by_role("link", name="the link").click()


# What is changed.


def test_an_organisation_is_paused_when_that_is_confirmed(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations/north_star")
    page.get_by_label("Are paused").check()
    page.get_by_role("button", name="Save the settings").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Change the settings of")
    expect(page.locator("main")).to_contain_text("Refreshes pause")
    check_for_everybody(page, "confirm")
    page.get_by_role("link", name="No, go back").click()
    expect(page.get_by_label("Go on, on schedule")).to_be_checked()
    assert site.organization("north_star").enabled

    page.get_by_label("Are paused").check()
    page.get_by_role("button", name="Save the settings").click()
    page.get_by_role("button", name="Yes, change them").click()
    expect(page.get_by_role("status").first).to_contain_text("saved")
    expect(page.get_by_role("button", name="Refresh now")).to_have_count(0)
    expect(page.locator("#figures").get_by_text("paused", exact=True)).to_be_visible()
    assert not site.organization("north_star").enabled

    # The same once more is no change, and is not asked about.
    page.get_by_role("button", name="Save the settings").click()
    expect(page.get_by_role("status").first).to_contain_text("Nothing was changed")


def test_an_interval_is_changed_and_given_back(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations/acme")
    page.get_by_label("Its own, in hours").check()
    page.get_by_label("Hours between refreshes").fill("0")
    page.get_by_role("button", name="Save the settings").click()
    # The browser does not send it.
    assert page.get_by_label("Hours between refreshes").evaluate("input => input.validity.rangeUnderflow")
    expect(page).to_have_url(site.url + "/organizations/acme")
    page.get_by_label("Hours between refreshes").fill("3")
    page.get_by_role("button", name="Save the settings").click()
    expect(page.locator("main")).to_contain_text("becomes 3 h, its own; it is 6 h now")
    page.get_by_role("button", name="Yes, change them").click()
    expect(page.locator("#figures")).to_contain_text("3 h, its own")
    assert site.organization("acme").refresh_interval_hours == 3

    page.get_by_label("The plan's").check()
    page.get_by_role("button", name="Save the settings").click()
    page.get_by_role("button", name="Yes, change them").click()
    expect(page.locator("#figures")).to_contain_text("6 h, of the plan")
    assert site.organization("acme").refresh_interval_hours is None


def test_a_refresh_is_started_and_watched_until_it_has_finished(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations/quiet-orchard")
    expect(page.locator("#progress-status")).to_have_text("No run is going on.")
    page.get_by_role("button", name="Refresh now").click()
    status = page.locator("#progress-status")
    expect(status).to_have_text("The run waits for a worker.")
    run = site.newest(site.organization("quiet-orchard").organization_id)
    assert site.console.woken[-1] == run.organization_id
    assert run.requested_by is not None
    assert run.requested_by.startswith("token:")

    going = site.refreshes.start(run.run_id, site.refreshes.services(IN_STEPS))
    expect(status).to_have_text("Models done: 0; being built: 1.")
    site.refreshes.tell("go_on")
    expect(status).to_have_text("Models done: 1; being built: 1.")
    row = page.locator("#progress").get_by_role("row").filter(has_text="model.fake.a")
    expect(row).to_contain_text("success")
    expect(row).to_contain_text("250 ms")
    check_axe(page)
    keep_screenshot(page, "organization-progress")
    site.refreshes.tell("go_on_again")
    expect(status).to_have_text("The run has succeeded, with 2 models.")
    assert going.wait() is Status.SUCCEEDED
    # What else the page says has followed, without being loaded again.
    expect(page.locator("#figures")).to_contain_text("fresh")
    expect(page.locator("#slowest-scroll")).to_contain_text("250 ms")
    # The page that is loaded again shows the same run, and asks for nothing once more.
    page.reload()
    expect(status).to_have_text("The run has succeeded, with 2 models.")
    assert site.newest(run.organization_id).run_id == run.run_id


# The overview.


def test_the_overview_shows_what_an_operator_looks_for(site: Site, ops: Visit) -> None:
    page = ops.go("/")
    failures = page.get_by_role("region", name="Failures of the last day")
    expect(failures.get_by_role("row").nth(1)).to_contain_text("model_failed")
    # As text, whatever is in it.
    expect(failures).to_contain_text("column <b>goal</b> does not exist")
    expect(page.get_by_role("row").filter(has_text="kiket.analytics.refresh.dead")).to_contain_text("2")
    expect(page.get_by_role("region", name="Lag by plan")).to_contain_text("enterprise")
    expect(page.get_by_role("row").filter(has_text="Acme, Inc.").last).to_contain_text("¢")
    figures = page.locator("#throughput details")
    expect(page.locator("#throughput canvas")).to_be_visible()
    expect(figures).not_to_have_attribute("open", "")
    assert is_painted(page, "#throughput canvas")
    figures.locator("summary").click()
    expect(figures.get_by_role("row").nth(1)).to_be_visible()
    succeeded = figures.locator("tbody td:nth-child(2)").all_inner_texts()
    assert sum(map(int, succeeded)) == len(runs.page(site.console.ledger, status=Status.SUCCEEDED, page_size=50))
    keep_screenshot(page, "overview")


def is_painted(page: Page, selector: str) -> bool:
    """Whether there is anything on a canvas."""
    return bool(
        page.locator(selector).evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
        )
    )


def test_the_overview_renews_itself_and_leaves_the_reader_where_he_is(site: Site) -> None:
    with site.visit(viewport={"width": 900, "height": 500}) as visit:
        visit.page.clock.install()
        page = visit.sign_in(site.token())
        dead = page.get_by_role("row").filter(has_text="kiket.analytics.refresh.dead")
        page.locator("#throughput summary").click()
        dead.scroll_into_view_if_needed()
        page.get_by_role("link", name="Acme, Inc.").last.focus()
        scrolled = page.evaluate("scrollY")
        assert scrolled > 0
        assert site.depths is not None
        site.depths["kiket.analytics.refresh.dead"] = 7
        page.clock.fast_forward(6000)
        expect(dead).to_contain_text("7")
        expect(page.get_by_role("link", name="Acme, Inc.").last).to_be_focused()
        expect(page.locator("#throughput details")).to_have_attribute("open", "")
        expect(page.locator("#throughput canvas")).to_have_count(1)
        assert page.evaluate("scrollY") == scrolled

        # Nobody looks: nothing is asked. Somebody looks again: it is.
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away ?? true, configurable: true})")
        page.clock.fast_forward(30_000)
        assert asked == []
        page.evaluate("window.away = false")
        site.depths["kiket.analytics.refresh.dead"] = 2
        page.clock.fast_forward(1000)
        expect(dead).to_contain_text("2")


def test_the_overview_says_so_when_rabbitmq_is_away(site: Site, ops: Visit) -> None:
    site.depths = None
    try:
        page = ops.go("/")
        expect(page.get_by_text("RabbitMQ does not answer")).to_be_visible()
    finally:
        site.depths = dict(QUEUES)


# Lists.


def test_runs_are_found_by_organisation_and_status(site: Site, ops: Visit) -> None:
    page = ops.go("/runs")
    page.get_by_label("Organisation (slug)").fill("blue-harbor")
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("group", name="Runs").get_by_role("row")).to_have_count(2)
    expect(page.get_by_label("Status")).to_have_value("failed")
    page.get_by_label("Status").select_option("cancelled")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("There are none of that kind.")).to_be_visible()
    keep_screenshot(page, "runs")


def test_an_organisation_is_opened_by_its_slug(site: Site, ops: Visit) -> None:
    page = ops.go("/organizations")
    expect(page.get_by_role("group", name="Organisations").get_by_role("row")).to_have_count(5)
    page.get_by_role("textbox", name="Slug").fill("blue-harbor")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Blue Harbor Logistics")


# For everybody.

PAGES = ("/", "/organizations", "/organizations/acme", "/organizations/blue-harbor", "/runs", "/nothing")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESK), ("dark", PHONE)], ids=["desk", "phone"])
def test_pages_are_usable_by_everybody(site: Site, scheme: str, viewport: dict[str, int]) -> None:
    with site.visit(viewport=viewport, color_scheme=scheme) as visit:
        visit.sign_in(site.token())
        for path in PAGES:
            page = visit.go(path)
            name = path.strip("/").replace("/", "-") or "overview"
            keep_screenshot(page, f"{name}-{scheme}-{'phone' if viewport is PHONE else 'desk'}")
            page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
            check_width(page)
            check_axe(page)
        visit.forgive("404")


def test_pages_are_read_and_settings_changed_without_scripts(site: Site) -> None:
    with site.visit(java_script_enabled=False) as visit:
        page = visit.go("/")
        page.get_by_label("Token").fill(site.token())
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#throughput table")).to_be_visible()
        expect(page.get_by_role("region", name="Failures of the last day")).to_contain_text("model_failed")
        visit.go("/organizations/blue-harbor")
        expect(page.locator("#history table")).to_contain_text("failed")
        page.get_by_role("button", name="Refresh now").click()
        expect(page.locator("#progress-status")).to_have_text("The run waits for a worker.")
        run = site.newest(HARBOR)
        site.refreshes.start(run.run_id, site.refreshes.services(BUILDING)).wait()
        page.get_by_role("link", name="look again").click()
        expect(page.locator("#progress-status")).to_contain_text("has succeeded")
        page.get_by_label("Each run leaves dbt's docs").check()
        page.get_by_role("button", name="Save the settings").click()
        page.get_by_role("button", name="Yes, change them").click()
        expect(page.get_by_role("status").first).to_contain_text("saved")
        assert site.organization("blue-harbor").docs
        save_settings(site.console.ledger, HARBOR, docs=False)


def test_everything_is_reached_by_the_keyboard_alone(site: Site) -> None:
    with site.visit() as visit:
        page = visit.go("/sign-in?next=/organizations/acme")
        page.keyboard.type(site.token())
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Acme, Inc.")
        # Past the navigation.
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        tab_to(page, "[name=refreshes]:checked")
        page.keyboard.press("ArrowDown")
        expect(page.get_by_label("Are paused")).to_be_checked()
        tab_to(page, "form[action$='/settings'] button")
        outline = page.locator(":focus").evaluate("button => getComputedStyle(button).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Yes, change them")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Acme, Inc.")
        tab_to(page, "#history summary")
        page.keyboard.press("Enter")
        expect(page.locator("#history table")).to_be_visible()
    assert site.organization("acme").enabled


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element is reached."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"{selector} is not reached by Tab")
