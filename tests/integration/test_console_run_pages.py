"""What runs have left, given out over HTTP: logs of any length, files that are what was archived, docs in a sandbox."""

import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql

from kiket_worker.artifacts.archive import archive
from kiket_worker.artifacts.assembly import Page
from kiket_worker.console.pages.artifacts import open_left
from kiket_worker.dbt.docs import PAGE_NAME
from kiket_worker.dbt.log_pages import LogFilter, page_of
from kiket_worker.ledger import archives, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Run, RunId, Status
from tests.support.console import Console, Served
from tests.support.pages import session
from tests.support.refreshes import Refreshes

ACME, HARBOR = 1, 2
HOSTILE = "<script>alert(1)</script>"
FAILING = f"""
start("fct_goals")
say("RunResultError", "error", "words of fct_goals {HOSTILE}", node_info=node("fct_goals", "error"))
words = "Database Error in model fct_goals (models/g.sql)\\n  x\\n  LINE 9:   goal {HOSTILE}"
found = result("fct_goals", "error", words)
found["compiled_code"] = "select\\n  goal {HOSTILE}\\nfrom t"
write({{"results": [found]}})
sys.exit(1)
"""
TRAVERSALS = [
    "../index.json",
    "..%2f..%2f..%2fetc/passwd",
    "%2e%2e/index.json",
    "/etc/passwd",
    "docs/%2e%2e/dbt.log",
    "docs%2f..%2fdbt.log",
    "./dbt.log%2f",
    "dbt.log%00",
    "DBT.LOG",
    "",
    "nothing",
]


@dataclass
class Site:
    served: Served
    refreshes: Refreshes
    folder: Path

    def run(self, script: str = FAILING) -> Run:
        run_id = self.refreshes.request()
        self.refreshes.start(run_id, self.refreshes.services(script)).wait()
        return self.refreshes.run(run_id)

    def leave(self, run_id: RunId, files: dict[str, bytes], pages: dict[str, Page] | None = None) -> None:
        """Put other files in the place of those that the run has left."""
        written = {}
        for number, (name, content) in enumerate(files.items()):
            written[name] = self.folder / f"file-{number}"
            written[name].write_bytes(content)
        done = archive(self.refreshes.store, f"acme/{run_id}/1", written, {"engine": "executable"}, pages=pages or {})
        self.change(run_id, "artifacts_index_sha256", done.index_sha256)

    def change(self, run_id: RunId, column: str, value: str | None) -> None:
        """Change what the ledger has of a run, though it has ended."""
        with psycopg.connect(self.refreshes.url) as connection:
            connection.execute("set local session_replication_role = replica")
            query = sql.SQL("update kiket_analytics.runs set {} = %s where run_id = %s").format(sql.Identifier(column))
            connection.execute(query, [value, run_id])

    def stored(self, run_id: RunId, name: str) -> Path:
        return self.folder / f"artifacts/acme/{run_id}/1/{name}"

    def client(self, organization_id: int | None = None) -> httpx.Client:
        return session(self.served, self.served.console.token(organization_id))


@pytest.fixture
def site(sample_database: Any, ledger: Database, tmp_path: Path) -> Iterator[Site]:
    refreshes = Refreshes.prepare(sample_database.url, ledger, tmp_path)
    with Console(ledger, tmp_path).serving() as served:
        yield Site(served, refreshes, tmp_path)


def log_of(lines: int, text: str = "line {}") -> bytes:
    events = (
        {"info": {"msg": text.format(number), "level": "info", "ts": "2026-06-15T12:00:00Z"}, "data": {}}
        for number in range(1, lines + 1)
    )
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def shown_lines(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr class="log-\w+"><th scope="row" class="number">(\d+)', page)]


def next_page(page: str) -> str | None:
    found = re.search(r'<a href="([^"]+)" rel="next">', page)
    return found[1].replace("&amp;", "&").partition("#")[0] if found else None


def test_a_failed_run_shows_its_line_its_log_and_its_files_and_nothing_of_them_is_markup(site: Site) -> None:
    run = site.run()
    assert run.status is Status.FAILED
    with site.client(ACME) as acme:
        page = acme.get(f"/runs/{run.run_id}").text
    assert "<mark>  goal &lt;script&gt;alert(1)&lt;/script&gt;</mark>" in page
    assert "words of fct_goals &lt;script&gt;" in page
    assert "<script>alert" not in page
    assert f'href="/runs/{run.run_id}/artifacts/run_results.json"' in page
    assert "Ask for it again" in page


def test_a_log_of_a_hundred_thousand_lines_is_paged_through_in_bounded_memory(site: Site) -> None:
    run = site.run()
    site.leave(run.run_id, {"dbt.log": log_of(100_000, "line {} " + "x" * 100)})
    with site.client() as client:
        page = client.get(f"/runs/{run.run_id}").text
        assert shown_lines(page) == list(range(1, 201))
        address = next_page(page)
        assert address is not None
        page = client.get(address).text
        assert shown_lines(page) == list(range(201, 401))
        # Far into it, and what is found only there.
        page = client.get(f"/runs/{run.run_id}?after=99900").text
        assert shown_lines(page) == list(range(99_901, 100_001))
        assert next_page(page) is None
        found, address, pages = [], f"/runs/{run.run_id}?text=LINE+9999", 0
        while address is not None:
            page = client.get(address).text
            found += shown_lines(page)
            address, pages = next_page(page), pages + 1
        assert found == [9999, *range(99_990, 100_000)]
        assert pages == 5
    left = open_left(site.served.console.services(), run_of(site, run))
    file = left.find("dbt.log")
    assert file is not None
    assert file.content_size > 17_000_000
    tracemalloc.start()
    last = page_of(left.pieces(file), LogFilter(text="line 99999"), after=80_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line.number for line in last.lines] == [99_999]
    assert peak < 6_000_000


def run_of(site: Site, run: Run) -> Run:
    return site.refreshes.run(run.run_id)


def test_files_come_as_they_were_archived_and_are_never_a_page(site: Site) -> None:
    run = site.run()
    content = b"\x00\xff<html>" * 700_000
    site.leave(run.run_id, {"odd name é.html": content, "empty.json": b"", "docs/deep/a.json": b"{}"})
    with site.client(ACME) as acme:
        answer = acme.get(f"/runs/{run.run_id}/artifacts/odd name é.html")
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''odd%20name%20%C3%A9.html"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert acme.get(f"/runs/{run.run_id}/artifacts/empty.json").content == b""
        assert acme.get(f"/runs/{run.run_id}/artifacts/docs/deep/a.json").json() == {}
        index = acme.get(f"/runs/{run.run_id}/artifacts/index.json")
        assert [file["name"] for file in index.json()["files"]] == ["docs/deep/a.json", "empty.json", "odd name é.html"]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_only_names_of_the_index_lead_to_files(site: Site, name: str) -> None:
    run = site.run()
    secret = site.folder / "artifacts/acme/index.json"
    secret.write_text("secret")
    with site.client() as client:
        answer = client.get(f"/runs/{run.run_id}/artifacts/{name}")
        assert answer.status_code == 404
        assert "secret" not in answer.text
        assert "root:" not in answer.text


def test_strangers_see_no_run_and_nothing_that_it_has_left(site: Site) -> None:
    run = site.run()
    for path in ("", "/artifacts/dbt.log", "/artifacts/index.json", "/docs/", "/docs"):
        with site.client(HARBOR) as harbor:
            assert harbor.get(f"/runs/{run.run_id}{path}").status_code == 404
        with session(site.served, None) as nobody:
            assert nobody.get(f"/runs/{run.run_id}{path}").headers["location"].startswith("/sign-in")
    with site.client(ACME) as acme:
        assert acme.get(f"/runs/{run.run_id}/artifacts/dbt.log").status_code == 200


def test_a_damaged_file_is_refused_or_never_comes_whole(site: Site) -> None:
    run = site.run()
    noise = "".join(chr(33 + number * 7919 % 90) for number in range(3_000_000)).encode()
    site.leave(
        run.run_id,
        {"small.json": b"{}", "large.json": noise, "gone.json": b"1", "dbt.log": log_of(3), "longer.json": noise},
    )
    for name in ("small.json", "large.json", "dbt.log"):
        stored = site.stored(run.run_id, name)
        packed = bytearray(stored.read_bytes())
        packed[-6] ^= 1  # In gzip's own checksum, at the end.
        stored.write_bytes(packed)
    site.stored(run.run_id, "gone.json").unlink()
    # All of its content is right, and yet it is not the file that was stored.
    with site.stored(run.run_id, "longer.json").open("ab") as longer:
        longer.write(b"more")
    with site.client() as client:
        for name in ("small.json", "gone.json"):
            answer = client.get(f"/runs/{run.run_id}/artifacts/{name}")
            assert (answer.status_code, "content-disposition" in answer.headers) == (500, False)
        for name in ("large.json", "longer.json"):
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(f"/runs/{run.run_id}/artifacts/{name}")
        page = client.get(f"/runs/{run.run_id}")
        assert page.status_code == 200
        assert "large.json" in page.text
    # Nothing that a changed index says is believed.
    index = site.stored(run.run_id, "index.json")
    index.write_bytes(index.read_bytes().replace(b"executable", b"replay"))
    with site.client() as client:
        assert client.get(f"/runs/{run.run_id}/artifacts/small.json").status_code == 500
        assert "replay" not in client.get(f"/runs/{run.run_id}").text


@pytest.mark.parametrize("what", ["pruned", "elsewhere", "absent"])
def test_what_is_not_there_any_more_is_404_and_the_page_says_why(site: Site, what: str) -> None:
    run = site.run()
    assert run.artifacts_location is not None
    if what == "pruned":
        archives.record_pruned(site.refreshes.ledger, [run.run_id], [run.artifacts_location])
    elif what == "elsewhere":
        site.change(run.run_id, "artifacts_location", f"s3://other/acme/{run.run_id}/1")
    else:
        site.change(run.run_id, "artifacts_location", None)
    with site.client() as client:
        for path in ("/artifacts/dbt.log", "/artifacts/index.json", "/docs/"):
            assert client.get(f"/runs/{run.run_id}{path}").status_code == 404
        page = client.get(f"/runs/{run.run_id}")
        assert page.status_code == 200
        words = {"pruned": "because of their age", "elsewhere": "another store", "absent": "no artifacts"}
        assert words[what] in page.text


def test_the_docs_site_has_a_policy_of_its_own_that_keeps_it_apart(site: Site) -> None:
    run = site.run()
    shell = site.folder / "shell.html"
    shell.write_text("<script>a = HOLE</script>")
    catalog = json.dumps({"words": "</script><script>evil()</script>"}).encode()
    site.leave(run.run_id, {"catalog.json": catalog}, {PAGE_NAME: Page(shell, {"catalog.json": "HOLE"})})
    with site.client(ACME) as acme:
        assert f'href="/runs/{run.run_id}/docs/"' in acme.get(f"/runs/{run.run_id}").text
        assert acme.get(f"/runs/{run.run_id}/docs").headers["location"] == f"/runs/{run.run_id}/docs/"
        answer = acme.get(f"/runs/{run.run_id}/docs/")
        assert acme.get(f"/runs/{run.run_id}/docs/manifest.json").status_code == 404
    assert answer.text == '<script>a = {"words": "\\u003c/script>\\u003cscript>evil()\\u003c/script>"}</script>'
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["sandbox"] == "allow-scripts"
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert not any(source in answer.headers["content-security-policy"] for source in ("'self'", "http", "*"))
    assert answer.headers["x-content-type-options"] == "nosniff"
    with site.client(ACME) as acme:
        others = acme.get(f"/runs/{run.run_id}").headers["content-security-policy"]
    assert "unsafe" not in others


def test_a_run_is_ended_and_asked_for_again_after_a_question(site: Site) -> None:
    run_id = site.refreshes.request(full_refresh=True)
    with site.client(ACME) as acme:
        form = {"csrf": csrf(acme.get(f"/runs/{run_id}").text)}
        assert "Yes, end it" in acme.post(f"/runs/{run_id}/cancel", data=form).text
        assert site.refreshes.run(run_id).status is Status.QUEUED
        assert acme.post(f"/runs/{run_id}/retry", data=form | {"confirmed": "yes"}).status_code == 422
        answer = acme.post(f"/runs/{run_id}/cancel", data=form | {"confirmed": "yes"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run_id}")
        assert site.refreshes.run(run_id).status is Status.CANCELLED
        assert acme.post(f"/runs/{run_id}/cancel", data=form | {"confirmed": "yes"}).status_code == 409

        question = acme.post(f"/runs/{run_id}/retry", data=form).text
        assert "Yes, refresh" in question
        nonce = re.search(r'name="nonce" value="([^"]+)"', question)
        assert nonce is not None
        sent = form | {"confirmed": "yes", "nonce": nonce[1]}
        first, again = (acme.post(f"/runs/{run_id}/retry", data=sent).headers["location"] for _ in range(2))
        assert first == again != f"/runs/{run_id}"
        new = site.refreshes.run(RunId(UUID(first.rpartition("/")[2])))
        assert (new.reason, new.full_refresh, new.status) == ("retry", True, Status.QUEUED)
    with site.client(HARBOR) as harbor:
        for action in ("cancel", "retry"):
            token = {"csrf": csrf(harbor.get("/runs").text), "confirmed": "yes"}
            assert harbor.post(f"/runs/{new.run_id}/{action}", data=token).status_code == 404
    assert site.refreshes.run(new.run_id).status is Status.QUEUED


def test_a_run_of_before_a_renaming_is_asked_for_again_for_its_own_organisation(site: Site) -> None:
    run_id = site.refreshes.request()
    runs.cancel(site.refreshes.ledger, run_id)
    site.refreshes.execute("update public.organizations set slug = 'acme-old' where id = 1")
    site.refreshes.execute("update public.organizations set slug = 'acme' where id = 2")
    with site.client(None) as ops:
        form = {"csrf": csrf(ops.get(f"/runs/{run_id}").text)}
        nonce = re.search(r'name="nonce" value="([^"]+)"', ops.post(f"/runs/{run_id}/retry", data=form).text)
        assert nonce is not None
        answer = ops.post(f"/runs/{run_id}/retry", data=form | {"confirmed": "yes", "nonce": nonce[1]})
    new = site.refreshes.run(RunId(UUID(answer.headers["location"].rpartition("/")[2])))
    assert (new.organization_id, new.organization_slug) == (1, "acme-old")


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]
