"""The console's pages in a real browser: who looks at them, what the browser complains of, and what axe finds."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from kiket_worker.console.access import SESSION_COOKIE

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}

_AXE = ROOT / "tests" / "browser" / "vendor" / "axe-core-4.14.1.min.js"
# As root, Chromium has no sandbox; and there is nobody that it could ask for updates.
_OPTIONS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu"]
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile, lineNumber}) =>
    console.error(`policy violated: ${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_OPTIONS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """Somebody's browser at the console. `complaints` are errors and warnings of scripts, policies and requests."""

    url: str
    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(_TELL_VIOLATIONS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda fault: self.complaints.append(f"error: {fault}"))
        self.page.set_default_timeout(15_000)  # What hangs is to fail soon.

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def go(self, path: str = "/") -> Page:
        """Open a page of the console."""
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self, token: str) -> Page:
        """As the form leaves it, which has tests of its own."""
        cookie = {"name": SESSION_COOKIE, "value": token, "url": self.url, "httpOnly": True, "sameSite": "Strict"}
        self.page.context.add_cookies([cookie])
        page = self.go("/")
        page.get_by_role("button", name="Sign out").wait_for()
        return page

    def forgive(self, text: str) -> None:
        """What was to be complained of, as an answer 404, is not held against the page; nothing else is forgiven."""
        kept = [complaint for complaint in self.complaints if text not in complaint]
        assert len(kept) < len(self.complaints), f"nothing says {text!r}: {self.complaints}"
        self.complaints[:] = kept


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A browser session of its own, which fails at the end if there was anything to complain of."""
    context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce"} | options)
    found = Visit(url, context.new_page())
    yield found
    context.close()
    assert found.complaints == []


def check_axe(page: Page) -> None:
    """Fail for what axe calls serious or critical; give each with the elements that it is about."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{one['id']} ({one['impact']}): {one['help']}: {json.dumps([node['html'][:200] for node in one['nodes']])}"
        + str([check["message"] for node in one["nodes"] for check in node["any"]])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], f"{page.url}: " + "\n".join(serious)


def check_width(page: Page) -> None:
    """Fail if the page is wider than the window: what is wide scrolls by itself."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} is {wide} px wider than the window"


def check_for_everybody(page: Page, name: str) -> None:
    """Axe and width of a page as it stands, at a desk in the light and on a phone in the dark, with a screenshot."""
    check_axe(page)
    check_width(page)
    keep_screenshot(page, name)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    check_axe(page)
    check_width(page)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESK)


def keep_screenshot(page: Page, name: str) -> Path:
    """Keep how the page looks, whole, in build/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{re.sub('[^a-z0-9-]+', '-', name)}.png"
    page.screenshot(path=path, full_page=True)
    return path
