"""How a changelog is read: markdown, code, links, emoji and scripts without spaces, and nothing that takes long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.changelog.text import read

# Fragments of markup, which chance alone would hardly put together.
FRAGMENTS = [
    "- ",
    "1. ",
    "# ",
    "> ",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "[",
    "](",
    "]",
    "(",
    ")",
    "![",
    "<!--",
    "-->",
    "<b",
    ">",
]
FRAGMENTS += [
    "https://",
    "&#1",
    ":a",
    ":",
    ". ",
    "。",
    "日本",
    "ー",
    "\u0301",
    "\u200d",
    "👍🏽",
    "\ufe0f\u20e3",
    "\ud800",
    "\x00",
    "=",
    "---",
]
markdown = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=40).map("".join)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Fix **bold**, _slanted_ and ~~struck~~ text", "fix bold slanted and struck text"),
        ("Use `max_attempts` twice", "use max attempts twice"),
        ("before\n```python\nsecret = 1\n```\nafter", "before after"),
        ("before\n~~~~\n```\n~~~\n~~~~\nafter", "before after"),
        ("> ```\n> code\n> ```\n> after", "after"),
        ("before\n```\nnever closed", "before"),
        ("```inline``` code", "inline code"),
        ("a<!-- not\nseen -->b", "ab"),
        ("a <!-- never closed", "a never closed"),
        ("<!-- 1 --> a <!-- 2 --> b", "a b"),
        ("See [the guide](https://example.com/a_(b) 'title'), now", "see the guide now"),
        ("[![build](https://x.example/b.svg)](https://x.example) ok", "build ok"),
        ("[label][ref]\n\n[ref]: https://example.com 'Title'", "label"),
        ("[^1]: a footnote", "1 a footnote"),
        ("https://example.com/a?b=c#d, and <https://example.com>.", "and"),
        ("詳細はhttps://example.com/です", "詳 細 は で す"),
        ("<details><summary>More</summary> a &amp; b &#8211; c", "more a b c"),
        ("x < y and z > w", "x y and z w"),
        (":tada: Done 🎉👍🏽 1️⃣ 👨‍👩‍👧", "done 1"),
        ("at 10:30:45", "at 10 30 45"),
        ("v1.2.3, then 1.5.", "v1.2.3 then 1.5"),
        ("don't don’t", "dont dont"),
        ("ＦＵＬＬ ｗｉｄｔｈ ﬁne Straße", "full width fine strasse"),
        ("Café cafe\u0301", "café café"),
        ("決済をfix", "決 済 を fix"),
        ("ユーザー・ﾃﾞｰﾀ", "ユ ー ザ ー デ ー タ"),
        ("결제 추가", "결제 추가"),
        ("हिन्दी العربية", "हिन्दी العربية"),
        ("می\u200cخواهم co\u00adop", "میخواهم coop"),
        ("\u0301 🎉 --- !?", ""),
        ("| a | b |\n|---|---|\n| c | d |", "a b c d"),
        ("", ""),
        (" \n\t\n", ""),
    ],
)
def test_words_are_what_a_reader_reads(text: str, words: str) -> None:
    assert " ".join(read(text).words) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One thing. Another! A third?", ["one thing", "another", "a third"]),
        ("A paragraph\nof two lines.\n\nAnother", ["a paragraph of two lines", "another"]),
        ('He said "so." Then (this.) Then **that.** End', ["he said so", "then this", "then that", "end"]),
        ("# Title. Not one\n\nUnderlined\n===\n\nToo\n---\ntext", ["text"]),
        ("text\n***\nmore", ["text", "more"]),
        ("- One. Two\n- Three", ["one", "two", "three"]),
        ("支払いを追加。検索を改善！終わり", ["支払いを追加", "検索を改善", "終わり"]),
        ("Version 1.2.3 is out", ["version 1.2.3 is out"]),
        ("... ! 🎉", []),
        ("See https://example.com/a. Next", ["see", "next"]),
    ],
)
def test_sentences_are_pieces_of_paragraphs_and_bullets(text: str, sentences: list[str]) -> None:
    assert list(read(text).sentences) == sentences


@pytest.mark.parametrize(
    ("text", "bullets"),
    [
        ("- a\n* b\n+ c\n• d\n– e\n1. f\n23) g", ["a", "b", "c", "d", "e", "f", "g"]),
        ("- a\n  goes on\n\nnot this", ["a goes on"]),
        ("- [ ] open\n- [x] done", ["open", "done"]),
        ("- a\n  - b", ["a", "b"]),
        ("> - quoted", ["quoted"]),
        ("-\n- \n- 🎉\n- - -\n--x", []),
        ("-a\n1.b\n1234567890. c", []),
        ("```\n- code\n```", []),
    ],
)
def test_bullets_are_items_of_lists(text: str, bullets: list[str]) -> None:
    assert list(read(text).bullets) == bullets


@given(markdown)
def test_any_text_can_be_read_and_its_pieces_are_in_normal_form(text: str) -> None:
    found = read(text)
    for piece in (*found.words, *found.sentences, *found.bullets):
        assert piece
        assert " ".join(read(piece).words) == " ".join(read(f"x {piece}").words[1:])
    assert len(" ".join(found.bullets).split()) <= len(found.words)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "[",
            "[a](",
            "[](",
            "[a][",
            "[a](x)(",
            "<!--",
            "<a",
            "&#1",
            "https://",
            ":a",
            "a. ",
            '."',
            " ",
            "\n",
            "`",
            "```\n",
        ),
        *("- ", "- a\n", "* * ", "# ", "> ", "1.", "\u0301", "日", "。", "\ufdfa"),
    ],
)
def test_hostile_text_takes_no_longer_than_its_length(piece: str) -> None:
    """Quadratic time would be minutes here, and not a moment."""
    read(piece * (200_000 // len(piece)))
    read("https://" + piece * (200_000 // len(piece)))
