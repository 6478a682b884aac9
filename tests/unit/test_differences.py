"""What a version has changed."""

import difflib
import time

from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.differences import MOST_LINES, How, changes, text_diff

MODEL = "analytics/dbt/models/{}.sql"
LINES = st.lists(st.sampled_from(["a", "b", "c", "", "d" * 9]), max_size=40).map("\n".join)


def test_files_that_came_changed_and_went_are_told_models_first() -> None:
    before = {
        "main": Overlay({MODEL.format("gone"): "1", MODEL.format("kept"): "1", MODEL.format("other"): "1"}),
        "left": Overlay({MODEL.format("with_it"): "1"}),
    }
    after = {
        "main": Overlay(
            {
                ".kiket/dashboards/new.yaml": "x",
                MODEL.format("kept"): "1",
                MODEL.format("other"): "2",
                "analytics/dbt/models/sub/fresh.sql": "1",
                "analytics/dbt/models/fresh.yml": "1",
                "README.md": "not read",
            }
        )
    }
    found = changes(before, after)
    assert [(one.how, one.repository, one.name, one.is_model) for one in found] == [
        (How.REMOVED, "left", "with_it", True),
        (How.REMOVED, "main", "gone", True),
        (How.CHANGED, "main", "other", True),
        (How.ADDED, "main", "fresh", True),
        (How.ADDED, "main", ".kiket/dashboards/new.yaml", False),
        (How.ADDED, "main", "analytics/dbt/models/fresh.yml", False),
    ]
    assert changes(after, after) == []
    assert {one.how for one in changes({}, after)} == {How.ADDED}


@given(old=LINES, new=LINES)
def test_a_diff_is_what_difflib_says_of_the_whole_texts_within_its_context(old: str, new: str) -> None:
    found = text_diff(old, new)
    removed = [line.text for line in found.lines if line.mark == "-"]
    added = [line.text for line in found.lines if line.mark == "+"]
    before, after = old.splitlines(), new.splitlines()
    assert (removed == added == []) == (before == after)
    assert len(before) - len(removed) == len(after) - len(added)
    # Whoever applies it has the new text.
    patched, at = [], 0
    for line in found.lines:
        if line.mark == "@":
            start, length = map(int, line.text.split()[1][1:].split(","))
            begin = start - 1 if length else start
            patched += before[at:begin]
            at = begin
        elif line.mark == "+":
            patched.append(line.text)
        else:
            assert before[at] == line.text
            at += 1
            patched += [line.text] if not line.mark else []
    assert patched + before[at:] == after


def test_a_small_change_in_a_long_text_has_the_lines_and_numbers_of_a_unified_diff() -> None:
    old = [f"line {number}" for number in range(50_000)]
    new = [*old[:30_000], "changed", *old[30_001:]]
    found = text_diff("\n".join(old), "\n".join(new))
    expected = [*difflib.unified_diff(old[29_000:31_000], new[29_000:31_000], lineterm="")][3:]
    assert [(line.mark or " ") + line.text for line in found.lines[1:]] == expected
    assert found.lines[0].text == "@@ -29998,7 +29998,7 @@"
    assert found.fault == ""


def test_what_would_take_long_or_be_long_is_bounded() -> None:
    began = time.process_time()
    old, new = ("\n".join(f"{side}{number % 700}" for number in range(20_000)) for side in "ab")
    assert "Too long" in text_diff(old, new).fault
    hostile = ["\n".join(f"{number * step % 97}" for number in range(1500)) for step in (5, 7)]
    text_diff(*hostile)
    assert time.process_time() - began < 10
    long = text_diff("", "\n".join(f"{number}" for number in range(1400)))
    assert (len(long.lines), "first 600" in long.fault) == (MOST_LINES, True)
    (_, line) = text_diff("", "x" * 100_000).lines
    assert len(line.text) == 500
