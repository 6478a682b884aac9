"""The metrics of two changelogs: the worked example of their page, and what holds for all texts."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kiket_worker
from kiket_worker.changelog import metrics
from kiket_worker.changelog.metrics import Metrics, compare, summarize
from tests.unit.test_changelog_text import markdown

PAGE = (Path(kiket_worker.__file__).parent.parent / "docs" / "changelog-evaluations.md").read_text()
RATIOS = ("token_overlap_ratio", "jaccard_similarity", "sentence_similarity", "bullet_overlap_ratio")

texts = markdown | st.sampled_from(["", "- Add export\n- Fix login", "Added export. Fixed the login."])


def ratios(found: Metrics) -> list[float]:
    return [getattr(found, name) for name in RATIOS]


def test_the_worked_example_of_the_page_gives_its_numbers() -> None:
    automated, human = re.findall(r"```markdown\n(.*?)```", PAGE, re.DOTALL)
    (document,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    found = compare(automated, human)
    assert found.model_dump() == json.loads(document)
    (summary,) = re.findall(r'The summary: "(.*?)"', PAGE, re.DOTALL)
    assert summarize(found) == " ".join(summary.split())


def test_the_page_names_every_metric_and_limit() -> None:
    table = PAGE.partition("## Metrics")[2].partition("The string similarity")[0]
    named = re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    assert named == list(Metrics.model_fields)
    for limit in (metrics.TEXT_LIMIT_CHARACTERS, metrics.SENTENCE_LIMIT, metrics.SAMPLE_LIMIT):
        assert f"{limit:,}" in PAGE
    assert f"{metrics.COUNTERPART_SIMILARITY} or more" in PAGE


@given(texts, texts)
def test_ratios_are_between_0_and_1_and_counts_belong_to_their_side(automated: str, human: str) -> None:
    there, back = compare(automated, human), compare(human, automated)
    assert all(0 <= ratio <= 1 for ratio in ratios(there))
    assert there.jaccard_similarity == back.jaccard_similarity
    for name in ("word", "sentence", "bullet"):
        assert getattr(there, f"automated_{name}_count") == getattr(back, f"human_{name}_count")
    assert there.token_difference.only_automated == back.token_difference.only_human
    assert not set(there.token_difference.only_automated) & set(there.token_difference.only_human)
    assert Metrics.model_validate_json(there.model_dump_json()) == there
    assert len(summarize(there).splitlines()) == 1


@given(texts)
def test_identical_texts_score_1(text: str) -> None:
    found = compare(text, text)
    assert ratios(found) == [1, 1, 1, 1]
    assert found.token_difference.only_automated == []


@given(texts)
def test_what_is_on_one_side_only_scores_0_where_it_has_something(text: str) -> None:
    for found in (compare(text, None), compare(None, text)):
        words = found.automated_word_count + found.human_word_count
        sentences = found.automated_sentence_count + found.human_sentence_count
        bullets = found.automated_bullet_count + found.human_bullet_count
        assert ratios(found) == [float(not count) for count in (words, words, sentences, bullets)]


def test_empty_texts_are_equal_however_they_are_empty() -> None:
    assert compare(None, None) == compare("", " \n") == compare("```\ncode\n```", "🎉")
    assert summarize(compare("", "")) == "Neither changelog has any words."
    assert summarize(compare("one two", "")) == "Only the automated changelog has words: 2."
    assert summarize(compare("", "one two")) == "Only the human changelog has words: 2."


def test_a_word_is_shared_as_often_as_it_is_in_both() -> None:
    assert compare("fix fix fix add", "fix fix").token_overlap_ratio == 0.5
    assert compare("fix fix fix add", "fix fix").jaccard_similarity == 0.5


@pytest.mark.parametrize(
    ("automated", "human", "similarity"),
    [
        ("abcdefgh", "abcdefxy", 1.0),  # 2 · 6 ÷ 16 is 0.75, and that is enough.
        ("abcdefghi", "abcdefxyz", 0.0),
        ("Add export. Added export. Adds export.", "Adding export.", 1.0),
        ("支払い方法を追加しました。", "支払い方法を追加。", 1.0),
        ("Added export. Nothing like it.", "Add exports.", 0.5),
    ],
)
def test_a_sentence_has_a_counterpart_from_a_similarity_of_three_quarters(
    automated: str, human: str, similarity: float
) -> None:
    assert compare(automated, human).sentence_similarity == similarity


def test_samples_are_the_most_frequent_words_and_bounded() -> None:
    text = "b b a " + "x" * 1000 + " " + " ".join(f"w{number:02}" for number in range(30))
    sample = compare(text, "").token_difference.only_automated
    assert sample[:3] == ["b", "a", "w00"]
    assert len(sample) == metrics.SAMPLE_LIMIT
    assert compare("x" * 1000, "").token_difference.only_automated == ["x" * 64]


@pytest.mark.timeout(20)
def test_large_texts_are_compared_up_to_the_limits() -> None:
    automated = "".join(f"- {number} {'ab' * 500}\n" for number in range(5_000))
    human = automated.replace("b", "c")
    found = compare(automated, human)
    assert (found.automated_sentence_count, found.human_sentence_count) == (199, 199)
    assert found.sentence_similarity < 1
    found = compare("a. " * 1_000_000, "b. " * 1_000_000)
    assert (found.automated_word_count, found.automated_sentence_count) == (66_667, 400)
