"""Pages of dbt's log: of any length, of whatever lines, filtered."""

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.dbt.log_pages import Level, LogFilter, LogPage, page_of

EVERYTHING = LogFilter()


def event(text: str, level: str = "info", model: str | None = None, **info: Any) -> bytes:
    data = {"node_info": {"unique_id": f"model.kiket.{model}"}} if model else {}
    return json.dumps({"info": {"msg": text, "level": level, "name": "X", **info}, "data": data}).encode() + b"\n"


def texts(page: LogPage) -> list[str]:
    return [line.text for line in page.lines]


def test_lines_have_their_time_level_model_and_number() -> None:
    log = event("begun", ts="2026-06-15T12:00:00Z") + b"\nplain words\n" + event("done", "error", "fct_x")
    first, words, last = page_of([log], EVERYTHING).lines
    assert (first.number, first.at, first.level, first.model_id) == (1, "2026-06-15T12:00:00Z", Level.INFO, "")
    assert (words.number, words.text, words.level) == (3, "plain words", Level.INFO)
    assert (last.number, last.level, last.model_id) == (4, Level.ERROR, "model.kiket.fct_x")


def test_a_filter_takes_a_level_and_what_is_above_a_model_by_id_or_name_and_a_text_in_any_case() -> None:
    log = [
        event("One", "debug", "a"),
        event("two", "warn", "ab"),
        event("three is ONE", "error", "a"),
        event("four", "unknown level"),
    ]
    assert texts(page_of(log, LogFilter(level=Level.WARN))) == ["two", "three is ONE"]
    assert texts(page_of(log, LogFilter(model="a"))) == ["One", "three is ONE"]
    assert texts(page_of(log, LogFilter(model="model.kiket.ab"))) == ["two"]
    assert texts(page_of(log, LogFilter(text="oNe"))) == ["One", "three is ONE"]
    assert texts(page_of(log, LogFilter(level=Level.ERROR, model="a", text="one"))) == ["three is ONE"]
    assert texts(page_of(log, LogFilter(level=Level.INFO)))[-1] == "four"


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=40),
    has_last_break=st.booleans(),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    size=st.integers(1, 7),
    read=st.integers(1, 9),
)
def test_all_pages_together_are_the_whole_log_however_its_bytes_come(
    lines: list[bytes], has_last_break: bool, cuts: list[int], size: int, read: int
) -> None:
    content = b"\n".join(lines) + (b"\n" if has_last_break and lines else b"")
    places = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    pieces = [content[start:end] for start, end in itertools.pairwise(places)]
    found, after, pages = [], 0, 0
    while True:
        page = page_of(iter(pieces), EVERYTHING, after=after, most_lines=size, most_lines_read=read)
        assert len(page.lines) <= size
        found += [(line.number, line.text) for line in page.lines]
        if page.after is None:
            break
        assert page.after > after
        after, pages = page.after, pages + 1
        assert pages <= len(lines)
    whole = [(number, raw.decode("utf-8", "replace").strip("\r\n ")) for number, raw in enumerate(lines, 1)]
    assert found == [(number, text) for number, text in whole if text]


def test_a_page_that_finds_nothing_stops_all_the_same_and_says_where() -> None:
    log = [event(str(number)) for number in range(100)]
    page = page_of(log, LogFilter(text="no such"), most_lines_read=30)
    assert (page.lines, page.after) == ((), 30)
    assert page_of(log, LogFilter(text="no such"), after=90, most_lines_read=30).after is None


def test_no_more_is_read_than_a_page_needs() -> None:
    read = []

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield event(str(number))

    assert len(page_of(pieces(), EVERYTHING, most_lines=10).lines) == 10
    assert len(read) == 11


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"info": 5, "data": {}}', b'{"info":{"msg":[1]},"data":{"node_info":7}}']
)
def test_odd_lines_are_words_or_nothing(line: bytes) -> None:
    page = page_of([line + b"\n" + event("next")], EVERYTHING)
    assert texts(page)[-1] == "next"


def test_a_line_of_any_length_is_cut_and_the_log_is_never_in_memory() -> None:
    tracemalloc.start()
    page = page_of((b"x" * 1_000_000 for _ in range(60)), EVERYTHING)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (line,) = page.lines
    assert (len(line.text), line.is_cut) == (4000, True)
    assert peak < 8_000_000
