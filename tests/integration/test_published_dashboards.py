"""Dashboards and versions as organisations have published them: read from the store, kept a while, shown over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.dbt.published import store_overlay
from kiket_worker.definitions.dashboards.presentation import dashboards_of
from kiket_worker.definitions.dashboards.published import PublishedOverlays
from kiket_worker.errors import OverlayDamaged
from tests.support import boards
from tests.support.console import Console, Served
from tests.support.definitions import EXAMPLES
from tests.support.installations import Installation
from tests.support.pages import session

BOARD = ".kiket/analytics/dashboards/{}.yaml"
HEAD = 'model_version: "1.0"\ndashboard:\n  id: {}\n  name: N\n  widgets:'
ACME, HARBOR = 1, 2


def board(name: str, widgets: str = " []") -> dict[str, str]:
    return {BOARD.format(name): HEAD.format(name) + widgets + "\n"}


class Counting(DirectoryStore):
    """A store that writes down what it was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def get(self, key: str) -> bytes:
        self.asked.append(key)
        return super().get(key)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "artifacts")


def stored(store: DirectoryStore, files: dict[str, str]) -> str:
    overlay = Overlay(files)
    store_overlay(store, overlay)
    return overlay.digest


def test_what_was_read_is_kept_by_its_digest_and_no_more_than_so_much_of_it(store: Counting) -> None:
    first, second = stored(store, board("first")), stored(store, board("second"))
    store.asked.clear()
    published = PublishedOverlays(store, kept_characters=100)
    assert [one.id for one in published.dashboards({"main": first})] == ["first"]
    assert list(published.overlays({"main": first})) == ["main"]
    assert len(store.asked) == 1
    assert [one.id for one in published.dashboards({"b": second, "a": first})] == ["first", "second"]
    kept = PublishedOverlays(store)
    for _ in range(3):
        kept.dashboards({"main": first, "other": second})
    assert len(store.asked) == 1 + 2 + 2


def test_the_same_content_under_another_name_is_another_repositorys(store: Counting) -> None:
    digest = stored(store, board("first"))
    published = PublishedOverlays(store)
    assert [one.repository for one in published.dashboards({"main": digest, "template": digest})] == [
        "main",
        "template",
    ]


def test_what_is_not_what_its_digest_names_is_refused_each_time(store: Counting) -> None:
    digest = stored(store, board("first"))
    published = PublishedOverlays(store)
    (store._root / f"_definitions/{digest}/overlay.json.gz").write_bytes(Overlay(board("other")).pack())
    for _ in range(2):
        with pytest.raises(OverlayDamaged):
            published.dashboards({"main": digest})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not: [a, dashboard",
        "- 5",
        "model_version: 7\ndashboard: [1]",
        HEAD.format("x") + " {a: b}",
        HEAD.format("x") + ' ["text", 5, null, [1]]',
        HEAD.format("x") + "\n    - {id: a, type: [1], title: {x: 1}, query: {own: true}, options: [1]}\n  alerts: 5",
        HEAD.format("x") + "\n    - {id: a, type: table, query: q}\n    - {id: a, type: table, query_config: {}}",
        HEAD.format("x") + " []\n  alerts:\n    - 5\n    - {condition: {x: 1}, notify_roles: manager, name: [1]}",
    ],
)
def test_whatever_a_file_is_what_can_be_shown_of_it_is(text: str) -> None:
    for shown in dashboards_of("main", Overlay({BOARD.format("odd"): text, **board("good")})):
        assert shown.id
        for widget in shown.widgets:
            assert widget.title or not widget.id
            assert widget.config or widget.fault or widget.type == "text"


def test_every_example_of_dashboards_is_shown() -> None:
    root = EXAMPLES / "valid"
    files = {
        path.relative_to(root).as_posix(): path.read_text()
        for path in root.rglob("*")
        if path.suffix in {".yaml", ".yml"}
    }
    team = next(one for one in dashboards_of("main", Overlay(files)) if one.id == "team")
    weeks, of_project = team.widgets
    assert (weeks.title, weeks.type, weeks.fault) == ("Issues completed a week", "timeseries", "")
    assert weeks.config is not None
    assert [column.name for column in weeks.columns("x")] == ["week_begins_on"]
    assert of_project.config is not None
    assert of_project.config.parameters[0].is_required
    assert (team.alerts[0].condition, team.alerts[0].roles) == ("issues_completed < 1", ("admin",))


# Over HTTP.


@pytest.fixture
def site(installation: Installation, tmp_path: Path) -> Iterator[Served]:
    for files in (boards.FIRST, boards.SECOND):
        boards.publish(installation, boards.store_of(tmp_path), files)
    console = Console(installation.ledger, tmp_path)
    with console.serving(previews=boards.previews_of(installation)) as served:
        yield served


def reader(site: Served, organization_id: int | None = None) -> httpx.Client:
    return session(site, site.console.token(organization_id))


DASHBOARD = "/organizations/acme/dashboards/main/team-board"
DIFF = "/organizations/acme/versions/2/diff"


def test_strangers_see_no_dashboard_no_version_and_no_line(site: Served) -> None:
    chosen = {"repository": "main", "path": boards.MODEL}
    for path, query in ((DASHBOARD, {}), ("/organizations/acme/versions/2", {}), (DIFF, chosen)):
        with reader(site, HARBOR) as harbor:
            answer = harbor.get(path, params=query)
            assert (answer.status_code, "acme" in answer.text.lower()) == (404, False)
            # The same names below one's own organisation lead to nothing of the other's.
            own = harbor.get(path.replace("acme", "blue-harbor"), params=query)
            assert own.status_code == 404
        with reader(site, ACME) as acme:
            assert acme.get(path, params=query).status_code == 200


@pytest.mark.parametrize(
    ("repository", "path"),
    [("main", "../../etc/passwd"), ("nobody", boards.MODEL), ("main", "README.md"), ("", ""), ("main", "\x00")],
)
def test_only_what_a_version_has_changed_has_lines(site: Served, repository: str, path: str) -> None:
    with reader(site) as client:
        assert client.get(DIFF, params={"repository": repository, "path": path}).status_code == 404
        assert client.get(DIFF).status_code == 422
        for number in ("0", "-1", "99", "99999999999999", "x"):
            assert client.get(f"/organizations/acme/versions/{number}").status_code in {404, 422}


def test_before_the_first_refresh_and_without_roles_the_page_says_why_nothing_is_drawn(
    site: Served, installation: Installation
) -> None:
    installation.execute("delete from kiket_analytics.tenants where organization_id = 1")
    with reader(site, ACME) as acme:
        assert "first refresh makes the role" in acme.get(DASHBOARD).text
        page = acme.get("/organizations/acme").text
        assert "Team &lt;board&gt;" in page
        assert "What changed" in page
    with site.console.serving() as without, reader(without, ACME) as acme:
        assert "was not given KIKET_TENANT_KEYS" in acme.get(DASHBOARD).text


def test_a_store_that_has_lost_definitions_costs_the_dashboards_and_not_the_page(
    site: Served, tmp_path: Path, installation: Installation
) -> None:
    for stored_file in (tmp_path / "artifacts/_definitions").rglob("*.gz"):
        stored_file.unlink()
    with reader(site, ACME) as acme:
        page = acme.get("/organizations/acme")
        assert page.status_code == 200
        assert "Something went wrong here" in page.text
        assert acme.get(DASHBOARD).status_code == 500


def test_each_page_of_a_dashboard_has_ids_of_its_own(site: Served) -> None:
    with reader(site, ACME) as acme:
        part = acme.get(f"{DASHBOARD}?prefix=d7", headers={"HX-Request": "true"}).text
        assert 'id="d7-parameter-1"' in part
        assert "<html" not in part
        assert acme.get(f"{DASHBOARD}?prefix=%22%3E").status_code == 422
        assert acme.get(DASHBOARD.replace("team-board", "other")).status_code == 404
        assert acme.get(DASHBOARD.replace("main", "other")).status_code == 404
