"""Reading a stranger's repository."""

import os
from pathlib import Path

import pytest

from kiket_worker.definitions import reading
from kiket_worker.definitions.reading import read_repository
from kiket_worker.definitions.report import as_lines
from tests.support.definitions import repository

MODELS = "analytics/dbt/models/"


def told(root: Path) -> list[tuple[str, int, str]]:
    return [(problem.file, problem.line, problem.rule) for problem in read_repository(root).problems]


def test_a_link_inside_the_repository_is_read(tmp_path: Path) -> None:
    root = repository(tmp_path, {"library/sums.sql": "select 1", MODELS + "a.sql": "select 2"})
    (root / MODELS / "linked.sql").symlink_to(root / "library/sums.sql")

    assert read_repository(root).files[MODELS + "linked.sql"] == "select 1"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../outside.sql", "nowhere.sql", "linked.sql", ".", "/"])
def test_a_link_to_anything_else_is_refused_and_not_read(target: str, tmp_path: Path) -> None:
    repository(tmp_path, {"outside.sql": "select 'secret'"})
    root = repository(tmp_path / "root", {MODELS + "a.sql": "select 2"})
    (root / MODELS / "linked.sql").symlink_to(target)

    assert told(root) == [(MODELS + "linked.sql", 1, "file-kind")]
    assert set(read_repository(root).files) == {MODELS + "a.sql"}


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    repository(tmp_path / "other", {"dbt/models/a.sql": "select 1"})
    (tmp_path / "root").mkdir()
    (tmp_path / "root/analytics").symlink_to(tmp_path / "other")

    assert told(tmp_path / "root") == [("analytics", 1, "file-kind")]


def test_a_link_to_itself_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    root = repository(tmp_path, {MODELS + "a.sql": "select 2"})
    (root / MODELS / "loop").symlink_to("loop")

    assert told(root) == [(MODELS + "loop", 1, "file-kind")]


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    root = repository(tmp_path, {MODELS + "a.sql": "select 2"})
    os.mkfifo(root / MODELS / "pipe.sql")

    assert told(root) == [(MODELS + "pipe.sql", 1, "file-kind")]


def test_a_file_that_nobody_may_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path, {MODELS + "a.sql": "select 2"})

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")  # As root, every file can be read.

    monkeypatch.setattr(reading.os, "open", refuse)
    assert told(root) == [(MODELS + "a.sql", 1, "file-kind")]


def test_a_hundred_thousand_files_are_not_all_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path, {MODELS + "a.sql": "select 2", "node_modules/x/y.sql": "not read"})
    monkeypatch.setattr(reading, "MOST_ENTRIES", 100)
    for number in range(200):
        (root / MODELS / f"model_{number}.sql").write_text("select 1")

    assert told(root) == [("", 1, "repository-size")]
    assert len(read_repository(root).files) <= 100


def test_what_is_elsewhere_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ENTRIES", 100)
    files = {f"docs/page_{number}.sql": "" for number in range(200)} | {MODELS + "a.sql": "select 2"}

    assert read_repository(repository(tmp_path, files)).problems == []


def test_files_that_are_too_large_are_refused(tmp_path: Path) -> None:
    root = repository(tmp_path, {MODELS + "a.sql": b"-- " + b"x" * reading.MOST_FILE_BYTES})

    assert told(root) == [(MODELS + "a.sql", 1, "file-size")]


def test_all_files_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    root = repository(tmp_path, {MODELS + f"a{number}.sql": "select 1 as a_number" for number in range(9)})

    assert told(root) == [("", 1, "repository-size")]


@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        (b"select 1\n\xff", 2, "file-text"),
        (b"\x89PNG\r\n\x1a\n\x00", 1, "file-text"),
        (b"select 1\n\x00", 2, "file-text"),
        (b"select '\x1b[2J'", 1, "file-text"),
        (b"\xef\xbb\xbf \n", 1, "file-empty"),
        (b"select 1\r\n", 1, "file-line-ends"),
    ],
)
def test_a_file_that_is_no_plain_text_is_told(content: bytes, line: int, rule: str, tmp_path: Path) -> None:
    assert told(repository(tmp_path, {MODELS + "a.sql": content})) == [(MODELS + "a.sql", line, rule)]


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.yml", b"models:\n  - name: [", "  - name: ["),
        ("a.sql", b"select 1,\n'\xff' as x", "'\ufffd' as x"),
        ("a.sql", b"select 1,\n'\x1b[2J' as x", "'\\u001b[2J' as x"),
    ],
)
def test_the_line_of_a_file_that_is_not_taken_is_shown(name: str, content: bytes, shown: str, tmp_path: Path) -> None:
    read = read_repository(repository(tmp_path, {MODELS + name: content}))

    assert read.files == {}
    assert f"     2 | {shown}" in list(as_lines(read.problems, read.unread))


def test_line_ends_and_a_mark_of_order_make_no_other_digest(tmp_path: Path) -> None:
    plain = repository(tmp_path / "a", {MODELS + "a.sql": "select 1\nfrom x\n"})
    other = repository(tmp_path / "b", {MODELS + "a.sql": b"\xef\xbb\xbfselect 1\r\nfrom x\r\n"})

    assert read_repository(plain).overlay.digest == read_repository(other).overlay.digest


@pytest.mark.parametrize("name", ["a b.sql", "ä.sql", "-a.sql", "a'.sql", "a\n.sql", "x" * 210 + ".sql"])
def test_names_with_other_characters_are_refused(name: str, tmp_path: Path) -> None:
    assert [rule for _, _, rule in told(repository(tmp_path, {MODELS + name: "select 1"}))] == ["file-name"]


def test_a_name_that_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    root = repository(tmp_path, {MODELS + "a.sql": "select 1"})
    (root / MODELS).joinpath(os.fsdecode(b"\xff.sql")).write_text("select 1")

    assert [rule for _, _, rule in told(root)] == ["file-name"]
    str(told(root)).encode()
