"""Evaluations on a real ledger: each pair of texts once, whoever evaluates, and in memory that does not grow."""

import json
import os
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kiket_worker.changelog import evaluation, export
from kiket_worker.changelog.evaluation import evaluate
from kiket_worker.changelog.metrics import compare, summarize
from kiket_worker.errors import ExportFailed, LedgerForbidden, LedgerNotMigrated
from kiket_worker.ledger import evaluations
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.evaluations import Evaluation

ACME, HARBOR = 1, 2


class Stopped(Exception):
    """As if the process had been killed."""


@pytest.fixture
def releases(sample_database: Any) -> Iterator[Any]:
    """A superuser's way to releases: those of the sample are gone."""
    with sample_database.connect() as connection:
        connection.execute("delete from public.releases")
        yield connection


def add(releases: Any, release_id: int, draft: str | None, human: str | None, organization_id: int = ACME) -> None:
    releases.execute(
        "insert into public.releases (id, organization_id, project_id, version, changelog_draft, changelog, created_at)"
        " select %s, %s, min(id), '1.0', %s, %s, now() from public.projects where organization_id = %s",
        [release_id, organization_id, draft, human, organization_id],
    )


def stored(ledger: Database, organization_id: int | None = None) -> list[Evaluation]:
    return evaluations.newest(ledger, organization_id=organization_id, limit=100_000)


def test_each_release_with_a_text_is_evaluated_once(ledger: Database, releases: Any) -> None:
    add(releases, 1, "- Add export", "- Added export")
    add(releases, 2, None, "only human")
    add(releases, 3, "only automated", None, HARBOR)
    add(releases, 4, None, None)
    add(releases, 5, "", "")
    assert evaluate(ledger) == 4
    assert evaluate(ledger) == 0
    found = {one.release_id: one for one in stored(ledger)}
    assert set(found) == {1, 2, 3, 5}
    metrics = compare("- Add export", "- Added export")
    assert (found[1].metrics, found[1].summary) == (metrics.model_dump(), summarize(metrics))
    assert (found[1].organization_id, found[3].organization_id) == (ACME, HARBOR)
    assert (
        found[3].project_id == releases.execute("select project_id from releases where id = 3").fetchone()["project_id"]
    )
    assert found[1].evaluation_id.version == 7


def test_a_release_whose_texts_have_changed_is_evaluated_anew_and_the_earlier_evaluation_stays(
    ledger: Database, releases: Any
) -> None:
    add(releases, 1, "one", "two")
    evaluate(ledger)
    (first,) = stored(ledger)
    for change in ("changelog = 'one'", "changelog_draft = null", "changelog = ''", "version = '2.0'"):
        releases.execute(f"update public.releases set {change}")
        assert evaluate(ledger) == (change != "version = '2.0'")
    newest, *_, oldest = stored(ledger)
    assert oldest == first
    assert newest.metrics["human_word_count"] == 0
    # Whose text it is makes a difference, and where one ends and the other begins.
    for texts in (["two", "one"], ["twoone", None], [None, "twoone"], ["twoone", ""], ["tw", "oone"]):
        releases.execute("update public.releases set changelog_draft = %s, changelog = %s", texts)
        assert evaluate(ledger) == 1, texts


def test_a_new_version_of_the_definitions_evaluates_everything_anew(
    ledger: Database, releases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(releases, 1, "one", "two")
    evaluate(ledger)
    monkeypatch.setattr(evaluation, "DEFINITIONS_VERSION", 99)
    assert evaluate(ledger) == 1


def test_one_organisation_is_evaluated_alone(ledger: Database, releases: Any) -> None:
    add(releases, 1, "one", "two")
    add(releases, 2, "one", "two", HARBOR)
    assert evaluate(ledger, organization_id=HARBOR) == 1
    assert [one.release_id for one in stored(ledger)] == [2]
    evaluate(ledger)
    assert [one.release_id for one in stored(ledger, HARBOR)] == [2]


def test_many_at_once_store_each_evaluation_once(ledger: Database, releases: Any) -> None:
    for number in range(1, 101):
        add(releases, number, f"Add {number}", f"Added {number}")
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: evaluate(ledger), range(4)))
    assert sum(counts) == 100
    assert sorted(one.release_id for one in stored(ledger)) == list(range(1, 101))


def test_what_a_killed_evaluation_has_stored_stays_and_the_next_one_does_the_rest(
    ledger: Database, releases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 51):
        add(releases, number, f"Add {number}", None)

    def fail(automated: str | None, human: str | None) -> Any:
        if automated == "Add 30":
            raise Stopped
        return compare(automated, human)

    with monkeypatch.context() as patch, suppress(Stopped):
        patch.setattr(evaluation, "compare", fail)
        evaluate(ledger)
    assert [one.release_id for one in sorted(stored(ledger), key=lambda one: one.release_id)] == list(range(1, 21))
    assert evaluate(ledger) == 30


def test_an_evaluation_that_is_stopped_ends_after_the_release_in_hand(ledger: Database, releases: Any) -> None:
    for number in range(1, 121):
        add(releases, number, f"Add {number}", None)
    asked: list[bool] = []

    def is_stopped() -> bool:
        asked.append(len(asked) > 25)
        return asked[-1]

    done = evaluate(ledger, is_stopped=is_stopped)
    assert 20 <= done < 27
    assert asked.count(True) <= 2  # Nothing more is read then.
    assert evaluate(ledger) == 120 - done


def test_memory_does_not_grow_with_the_number_of_releases(ledger: Database, releases: Any) -> None:
    def peak(first: int, last: int) -> int:
        releases.execute(
            "insert into public.releases"
            " (id, organization_id, project_id, version, changelog_draft, changelog, created_at)"
            " select n, 1, (select min(id) from public.projects), '1', '- Add ' || n, '- Added ' || n, now()"
            " from generate_series(%s::int, %s) as n",
            [first, last],
        )
        tracemalloc.start()
        try:
            assert evaluate(ledger) == last - first + 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(1, 100), peak(101, 2_100)  # Of 20 a page.
    assert many < 1.5 * few + 100_000, (few, many)


def test_texts_of_megabytes_come_cut_from_the_database(ledger: Database, releases: Any) -> None:
    add(releases, 1, "word " * 1_000_000, "決済" * 1_000_000)
    assert evaluate(ledger) == 1
    (found,) = stored(ledger)
    assert (found.metrics["automated_word_count"], found.metrics["human_word_count"]) == (40_000, 200_000)
    # What stands behind the cut makes another text all the same.
    releases.execute("update public.releases set changelog_draft = changelog_draft || 'more'")
    assert evaluate(ledger) == 1


def test_a_platform_without_releases_is_said_by_name(ledger: Database, sample_database: Any) -> None:
    sample_database.execute("drop table public.releases cascade")
    with pytest.raises(LedgerNotMigrated, match=r"public\.releases"):
        evaluate(ledger)


def test_a_login_reads_releases_when_roles_are_set_up_where_they_are(sample_database: Any) -> None:
    sample_database.execute("alter table public.releases rename to hidden")
    with Database(sample_database.with_roles()) as early, pytest.raises(LedgerNotMigrated):
        evaluate(early)
    sample_database.execute("alter table public.hidden rename to releases")
    with Database(sample_database.with_roles()) as ledger:
        assert evaluate(ledger) > 10


def test_a_platform_whose_releases_have_no_drafts_has_its_roles_set_up_all_the_same(sample_database: Any) -> None:
    sample_database.execute("alter table public.releases drop column changelog_draft")
    with Database(sample_database.with_roles()) as ledger, pytest.raises((LedgerNotMigrated, LedgerForbidden)):
        evaluate(ledger)


@pytest.mark.parametrize(
    "change",
    [
        "content_digest = 'x'",
        "evaluator = 'another'",
        "summary = ''",
        "metrics = '[]'",
        "release_id = 1",
    ],
)
def test_the_table_refuses_what_is_no_evaluation(ledger: Database, releases: Any, change: str) -> None:
    add(releases, 1, "one", "two")
    add(releases, 2, "one", "two")
    evaluate(ledger)
    with pytest.raises(psycopg.errors.IntegrityError):
        releases.execute(f"update kiket_analytics.changelog_evaluations set {change} where release_id = 2")


# The file.


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def evaluated(ledger: Database, releases: Any) -> Database:
    """A ledger with 250 evaluations, those of a page made at one moment."""
    for number in range(1, 251):
        add(releases, number, f"Add {number}", f"Added {number}", ACME if number % 2 else HARBOR)
    evaluate(ledger)
    return ledger


def test_the_newest_200_are_in_the_file_newest_first_and_ties_by_id(evaluated: Database, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "evaluations.json"
    exported = export.export(evaluated, output)
    assert (exported.evaluations, exported.changed) == (200, True)
    found = json.loads(output.read_text())
    keys = [(one["generated_at"], one["id"]) for one in found]
    assert keys == sorted(sorted(keys, key=lambda key: key[1]), key=lambda key: key[0], reverse=True)
    assert len({at for at, _ in keys}) < 200
    assert {one["release_id"] for one in found} >= set(range(61, 251))
    assert names(output.parent) == ["evaluations.json"]


def test_a_file_that_would_be_the_same_is_not_touched(evaluated: Database, tmp_path: Path, releases: Any) -> None:
    output = tmp_path / "evaluations.json"
    export.export(evaluated, output)
    before = output.stat()
    assert not export.export(evaluated, output).changed
    assert output.stat() == before
    add(releases, 999, "more", None)
    evaluate(evaluated)
    assert export.export(evaluated, output).changed
    assert '"release_id": 999' in output.read_text()


def test_a_link_to_the_file_stays_a_link(evaluated: Database, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "target.json")
    export.export(evaluated, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "target.json").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(
    evaluated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    output = tmp_path / "evaluations.json"
    output.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    with pytest.raises(ExportFailed, match=r"evaluations\.json cannot be written: No space left on device"):
        export.export(evaluated, output)
    assert output.read_text() == "old"
    assert names(tmp_path) == ["evaluations.json"]


def test_a_folder_in_the_files_place_is_said(evaluated: Database, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="directory"):
        export.export(evaluated, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportFailed, match="cannot be written"):
        export.export(evaluated, tmp_path / "file" / "evaluations.json")
