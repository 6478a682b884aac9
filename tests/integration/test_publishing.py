"""Publishing on a real ledger and a real store: versions, turns, many organisations, going back, and being killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.artifacts.retention import prune
from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.dbt.published import fetch_overlay
from kiket_worker.definitions import publishing
from kiket_worker.definitions.publishing import Published, Result
from kiket_worker.errors import ArtifactsUnreachable, OverlayDamaged, UnknownVersion, UsageError
from kiket_worker.ledger import definitions, organizations, runs
from kiket_worker.ledger.definitions import Version
from tests.support.dbt_scripts import until
from tests.support.publications import PROBLEM, model, publication, publish, publisher
from tests.support.refreshes import Refreshes, in_background


def history(refreshes: Refreshes, slug: str = "acme") -> list[Version]:
    return definitions.history(refreshes.ledger, organizations.find(refreshes.ledger, slug).organization_id)


def stored(refreshes: Refreshes) -> set[Path]:
    return {path for path in (refreshes.folder / "artifacts").rglob("overlay.json.gz") if path.is_file()}


def waiting(refreshes: Refreshes) -> list[Any]:
    return refreshes.rows("select run_id, organization_slug, reason from kiket_analytics.runs where status = 'queued'")


def test_what_is_published_is_a_version_and_a_refresh_that_is_asked_for(refreshes: Refreshes) -> None:
    wanted = publication(model("a"), author="ada", source_commit="3f2c1e9")
    (done,) = publish(refreshes, wanted)
    assert (done.slug, done.result, done.version, done.fault) == ("acme", Result.PUBLISHED, 1, None)
    assert waiting(refreshes) == [(done.run_id, "acme", "sync")]
    (version,) = history(refreshes)
    overlay = Overlay(model("a"))
    assert version.overlays == {"main": overlay.digest}
    assert (version.version, version.name, version.author, version.source_commit) == (1, "main", "ada", "3f2c1e9")
    assert version.rolled_back_to is None
    assert datetime.now(UTC) - version.published_at < timedelta(minutes=1)
    assert version.bundle_digest == done.bundle_digest != core_bundle().digest
    assert fetch_overlay(refreshes.store, overlay.digest) == overlay
    (event,) = [event for event in refreshes.events() if event["event"] == "definitions.published"]
    assert (event["organization"], event["definitions_version"]) == ("acme", 1)
    assert event["bundle_digest"] == done.bundle_digest


def test_what_an_organisation_has_already_is_unchanged(refreshes: Refreshes) -> None:
    (first,) = publish(refreshes, publication(model("a")))
    runs.cancel(refreshes.ledger, first.run_id)  # type: ignore[arg-type]
    (again,) = publish(refreshes, publication(model("a"), author="someone else"))
    assert (again.result, again.version, again.run_id) == (Result.UNCHANGED, 1, None)
    assert again.bundle_digest == first.bundle_digest
    assert len(history(refreshes)) == 1
    assert waiting(refreshes) == []


def test_a_dry_run_says_what_would_be_and_leaves_nothing(refreshes: Refreshes) -> None:
    (done,) = publish(refreshes, publication(model("a"), dry_run=True))
    assert (done.result, done.version, done.run_id) == (Result.VALID, None, None)
    assert done.bundle_digest
    assert (history(refreshes), waiting(refreshes), stored(refreshes)) == ([], [], set())


def test_what_is_not_valid_is_refused_with_its_problems(refreshes: Refreshes) -> None:
    publish(refreshes, publication(model("a")))
    before = stored(refreshes), waiting(refreshes), history(refreshes)
    (done,) = publish(refreshes, publication(model("b"), PROBLEM))
    assert (done.result, done.version, done.problems) == (Result.REFUSED, 1, (PROBLEM,))
    assert done.texts == model("b")
    assert done.fault is not None
    assert done.fault.kind == "definitions_refused"
    assert (stored(refreshes), waiting(refreshes), history(refreshes)) == before


def test_overlays_of_other_names_stay_and_are_what_it_is_checked_beside(refreshes: Refreshes) -> None:
    seen: list[dict[str, Overlay]] = []
    publish(refreshes, publication(model("a"), name="template"))
    publish(refreshes, publication(model("b"), check=lambda others: seen.append(dict(others))))
    assert seen == [{"template": Overlay(model("a"))}]
    assert history(refreshes)[0].overlays == {
        "template": Overlay(model("a")).digest,
        "main": Overlay(model("b")).digest,
    }
    # Nothing in it: the name goes, and only it.
    (done,) = publish(refreshes, publication({}, name="template"))
    assert (done.result, done.version) == (Result.PUBLISHED, 3)
    assert history(refreshes)[0].overlays == {"main": Overlay(model("b")).digest}
    (done,) = publish(refreshes, publication({}))
    assert done.bundle_digest == core_bundle().digest
    assert publish(refreshes, publication({}))[0].result is Result.UNCHANGED


@pytest.mark.parametrize("change", ["enabled = false", "quarantined_at = now(), quarantine_reason = 'it kills'"])
def test_who_is_paused_or_in_quarantine_is_switched_without_a_refresh(refreshes: Refreshes, change: str) -> None:
    refreshes.execute(f"update kiket_analytics.analytics_settings set {change} where organization_id = 1")
    (done,) = publish(refreshes, publication(model("a")))
    assert (done.result, done.version, done.run_id) == (Result.PUBLISHED, 1, None)
    assert waiting(refreshes) == []


def test_a_refresh_that_waits_builds_all_of_it_and_no_longer_waits_behind_the_schedule(refreshes: Refreshes) -> None:
    run_id = refreshes.request(selection=["a"], reason="scheduled")
    (done,) = publish(refreshes, publication(model("a")))
    run = refreshes.run(run_id)
    assert (done.run_id, run.selection, run.reason, run.urgency) == (run_id, None, "sync", None)


def test_versions_are_neither_changed_nor_removed_by_the_workers_login(sample_database: Any, ledger: Any) -> None:
    url = sample_database.with_roles()
    with psycopg.connect(url, autocommit=True) as connection:
        for text in (
            "update kiket_analytics.definition_versions set version = 2",
            "delete from kiket_analytics.definition_versions",
            "delete from kiket_analytics.built_relations",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(text)


def test_of_several_who_publish_at_once_none_is_lost(refreshes: Refreshes) -> None:
    together = threading.Barrier(4, timeout=30)
    seen: dict[str, list[set[str]]] = {}

    def check(name: str) -> Any:
        def checked(others: Mapping[str, Overlay]) -> None:
            seen.setdefault(name, []).append(set(others))
            if len(seen[name]) == 1:
                together.wait()  # All have seen the same version by now.

        return checked

    names = ["one", "two", "three", "four"]
    going = [
        in_background(
            lambda name=name: publish(refreshes, publication(model(name), name=name, check=check(name)))[0]  # type: ignore[misc]
        )
        for name in names
    ]
    for one in going:
        one.wait()
    done: list[Published] = [one.results[0] for one in going]
    assert {one.result for one in done} == {Result.PUBLISHED}
    assert sorted(one.version or 0 for one in done) == [1, 2, 3, 4]
    made = history(refreshes)
    assert made[0].overlays == {name: Overlay(model(name)).digest for name in names}
    # Each was checked beside what it was published beside.
    for version in made:
        assert seen[str(version.name)][-1] == set(version.overlays) - {version.name}
    assert len(waiting(refreshes)) == 1


def test_who_is_always_overtaken_gives_up_and_says_so(refreshes: Refreshes) -> None:
    numbers = iter(range(100))

    def overtake(_: object) -> None:
        publish(refreshes, publication(model("other", f"select {next(numbers)} as n"), name="other"))

    (done,) = publish(refreshes, publication(model("a"), check=overtake))
    assert done.result is Result.FAILED
    assert done.fault is not None
    assert (done.fault.kind, done.fault.retryable) == ("definitions_busy", True)
    assert {version.name for version in history(refreshes)} == {"other"}


def test_a_version_and_its_refresh_are_one(refreshes: Refreshes) -> None:
    refreshes.execute(
        "create function public.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no' using errcode = 'disk_full'; end $$;"
        " create trigger refuse before insert on kiket_analytics.runs for each row execute function public.refuse()"
    )
    (done,) = publish(refreshes, publication(model("a")))
    assert (done.result, done.fault and done.fault.kind) == (Result.FAILED, "postgres_unreachable")
    assert (history(refreshes), waiting(refreshes)) == ([], [])


_PUBLISH = """
import sys
from pathlib import Path
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.bundle import core_bundle
from kiket_worker.definitions.publishing import Publisher
from kiket_worker.ledger import organizations
from kiket_worker.ledger.database import Database
from tests.support.publications import model, publication

url, folder = sys.argv[1:]
with Database(url) as database:
    publisher = Publisher(database, DirectoryStore(Path(folder)), core_bundle())
    print(*publisher.publish(publication(model("a")), [organizations.find(database, "acme")]))
"""


def test_who_is_killed_between_store_and_ledger_has_changed_nothing(refreshes: Refreshes) -> None:
    with psycopg.connect(refreshes.url) as held:
        held.execute("lock table kiket_analytics.definition_versions in exclusive mode")
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_PUBLISH), refreshes.url, str(refreshes.folder / "artifacts")],
            cwd=Path(__file__).parents[2],
        )
        try:
            until(
                lambda: refreshes.rows(
                    "select from pg_stat_activity where wait_event_type = 'Lock' and %s"
                    " and query like '%%definition_versions%%' and datname = current_database()",
                    True,
                ),
                "the insert to wait",
            )
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
    assert (history(refreshes), waiting(refreshes)) == ([], [])
    (left,) = stored(refreshes)
    written = left.stat().st_mtime_ns
    # What it has left is taken by the next, and is not written again.
    assert publish(refreshes, publication(model("a")))[0].result is Result.PUBLISHED
    assert stored(refreshes) == {left}
    assert left.stat().st_mtime_ns == written


def test_nothing_is_written_into_the_ledger_while_the_store_is_away(
    refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ArtifactsUnreachable("no route")

    monkeypatch.setattr(DirectoryStore, "put", away)
    (done,) = publish(refreshes, publication(model("a")))
    assert (done.result, done.fault and done.fault.kind) == (Result.FAILED, "artifacts_unreachable")
    assert (history(refreshes), waiting(refreshes)) == ([], [])


def test_a_text_that_the_ledger_cannot_hold_is_refused(refreshes: Refreshes) -> None:
    (done,) = publish(refreshes, publication(model("a"), author="a\x00b"))
    assert isinstance(done.fault, UsageError)
    assert history(refreshes) == []


# Many organisations.


def test_a_template_is_checked_once_and_one_organisations_failure_is_its_own(refreshes: Refreshes) -> None:
    refreshes.execute("insert into public.organizations values (901, 'one-more', 'x', 'team', now())")
    slugs = [row[0] for row in refreshes.rows("select slug from public.organizations where %s order by id", True)]
    assert len(slugs) > 4, "at least two that have nothing else"
    lost, own, rest = slugs[0], slugs[1], slugs[2:]
    for slug, name in ((lost, "lost"), (own, "own")):
        publish(refreshes, publication(model(name)), slug)
    gone = Overlay(model("lost")).digest
    (refreshes.folder / f"artifacts/_definitions/{gone}/overlay.json.gz").unlink()
    refreshes.execute("update public.organizations set slug = 'No Slug' where slug = %s", rest[0])
    checked: list[set[str]] = []
    wanted = publication(model("t"), name="template", check=lambda others: checked.append(set(others)))
    done = publish(refreshes, wanted, lost, own, "No Slug", *rest[1:])
    assert [one.slug for one in done] == [lost, own, "No Slug", *rest[1:]]
    kinds = {one.slug: one.fault.kind if one.fault else None for one in done}
    assert kinds == {lost: "overlay_damaged", own: None, "No Slug": "organization_slug_invalid"} | dict.fromkeys(
        rest[1:]
    )
    assert [one.has_failed for one in done] == [True, False, True] + [False] * len(rest[1:])
    assert checked == [{"main"}, set()]
    assert len({one.bundle_digest for one in done[3:]}) == 1
    again = publish(refreshes, wanted, *rest[1:])
    assert {one.result for one in again} == {Result.UNCHANGED}


def test_a_store_that_stays_away_is_not_asked_for_each_organisation(
    refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def away(_: object, key: str) -> bytes:
        asked.append(key)
        raise ArtifactsUnreachable("no route")

    monkeypatch.setattr(DirectoryStore, "get", away)
    slugs = [row[0] for row in refreshes.rows("select slug from public.organizations where %s", True)]
    done = publish(refreshes, publication(model("a")), *slugs, *slugs)
    assert {one.result for one in done} == {Result.FAILED}
    assert len(done) == 2 * len(slugs) > len(asked) == 3


# Going back.


def test_going_back_is_a_new_version_with_the_overlays_of_then(refreshes: Refreshes) -> None:
    acme = organizations.find(refreshes.ledger, "acme")
    publish(refreshes, publication(model("a")))
    publish(refreshes, publication(model("b"), name="template"))
    publish(refreshes, publication(model("c")))
    first, _, third = reversed(history(refreshes))
    runs.cancel(refreshes.ledger, waiting(refreshes)[0][0])
    done = publisher(refreshes).roll_back(acme, 1)
    assert (done.result, done.version, done.bundle_digest) == (Result.ROLLED_BACK, 4, first.bundle_digest)
    assert waiting(refreshes) == [(done.run_id, "acme", "sync")]
    newest = history(refreshes)[0]
    assert (newest.overlays, newest.rolled_back_to, newest.name) == (first.overlays, 1, None)
    assert refreshes.events()[-1]["event"] == "definitions.rolled_back"
    # And forward again, to any.
    assert publisher(refreshes).roll_back(acme, 3).version == 5
    assert history(refreshes)[0].overlays == third.overlays
    assert publisher(refreshes).roll_back(acme, 3).result is Result.UNCHANGED
    assert [version.version for version in history(refreshes)] == [5, 4, 3, 2, 1]


def test_nobody_is_switched_to_what_is_lost_and_publishing_it_again_heals(refreshes: Refreshes) -> None:
    acme = organizations.find(refreshes.ledger, "acme")
    publish(refreshes, publication(model("a")))
    publish(refreshes, publication(model("b")))
    digest = Overlay(model("a")).digest
    (refreshes.folder / f"artifacts/_definitions/{digest}/overlay.json.gz").write_bytes(Overlay(model("x")).pack())
    with pytest.raises(OverlayDamaged, match=digest):
        publisher(refreshes).roll_back(acme, 1)
    with pytest.raises(UnknownVersion, match="version 7"):
        publisher(refreshes).roll_back(acme, 7)
    assert len(history(refreshes)) == 2
    publish(refreshes, publication(model("a")), "blue-harbor")
    assert publisher(refreshes).roll_back(acme, 1).result is Result.ROLLED_BACK


def test_going_back_and_publishing_at_once_take_turns(refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = organizations.find(refreshes.ledger, "acme")
    publish(refreshes, publication(model("a")))
    publish(refreshes, publication(model("b")))
    original, overtaken = definitions.current, []

    def current(*given: Any) -> Version | None:
        found = original(*given)
        if not overtaken:
            overtaken.append(found)
            publish(refreshes, publication(model("t"), name="template"))
        return found

    monkeypatch.setattr(publishing.definitions, "current", current)
    done = publisher(refreshes).roll_back(acme, 1)
    assert [(version.version, version.rolled_back_to) for version in history(refreshes)][:2] == [(4, 1), (3, None)]
    assert done.version == 4


def test_retention_leaves_published_overlays_alone(refreshes: Refreshes) -> None:
    publish(refreshes, publication(model("a")))
    later = datetime.now(UTC) + timedelta(days=4000)
    assert list(prune(refreshes.store, refreshes.ledger, keep_days=1, now=later)) == []
    assert len(stored(refreshes)) == 1
