"""A changelog as it is compared: its words, sentences and bullets, without markdown, code blocks, URLs and emoji.

docs/changelog-evaluations.md has the rules. Everything takes time in proportion to the length of the text, whatever it
says: tenants write it.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache


@dataclass(frozen=True)
class Text:
    """What is compared of a changelog, in its order, each in its normal form."""

    words: tuple[str, ...]
    sentences: tuple[str, ...]
    bullets: tuple[str, ...]


def read(markdown: str) -> Text:
    """Take a changelog apart."""
    words: list[str] = []
    sentences: list[str] = []
    bullets: list[str] = []
    for block in _blocks(_without_comments(markdown)):
        prose = _prose(" ".join(block.lines))
        normal = _normal(prose)
        words += _words(normal)
        if block.kind is _Kind.BULLET and normal:
            bullets.append(normal)
        if block.kind is not _Kind.HEADING:
            pieces = _SENTENCE_END.split(prose)
            sentences += filter(None, map(_normal, pieces) if len(pieces) > 1 else [normal])
    return Text(tuple(words), tuple(sentences), tuple(bullets))


class _Kind(Enum):
    HEADING = auto()
    PARAGRAPH = auto()
    BULLET = auto()


@dataclass
class _Block:
    kind: _Kind
    lines: list[str] = field(default_factory=list)


# A fence of backticks has none behind it: then it is inline code.
_FENCE = re.compile(r"\s*(?:(`{3,})[^`]*|(~{3,}).*)", re.DOTALL)
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_BULLET = re.compile(r"\s*(?:[-*+•–]|[0-9]{1,9}[.)])\s+(?:\[[ xX]\]\s)?")
_REFERENCE = re.compile(r" {0,3}\[(?!\^)[^\[\]]+\]:\s*\S")


def _blocks(text: str) -> Iterator[_Block]:
    """Headings, paragraphs and bullets, as far as CommonMark has them."""
    block: _Block | None = None
    for line in _lines(text):
        heading, bullet = _HEADING.match(line), _BULLET.match(line)
        is_gap = not line.strip() or _is_rule(line)
        if not (heading or bullet or is_gap):
            block = block or _Block(_Kind.PARAGRAPH)
            block.lines.append(line.strip())
            continue
        if block and block.kind is _Kind.PARAGRAPH and is_gap and line.lstrip()[:1] in {"=", "-"}:
            block.kind = _Kind.HEADING
        if block:
            yield block
        block = None
        if heading:
            yield _Block(_Kind.HEADING, [line])
        elif bullet and not is_gap:
            block = _Block(_Kind.BULLET, [line[bullet.end() :]])
    if block:
        yield block


def _lines(text: str) -> Iterator[str]:
    """The lines, without marks of quotations; empty where one is fenced code or only says where a link leads."""
    fence = ""
    for given in text.splitlines():
        line = given.lstrip().lstrip("> ") if given.lstrip().startswith(">") else given
        if fence:
            closing = line.strip()
            if len(closing) >= len(fence) and not closing.strip(fence[0]):
                fence = ""
            yield ""
        elif opening := _FENCE.fullmatch(line):
            fence = opening[1] or opening[2]
            yield ""
        else:
            yield "" if _REFERENCE.match(line) else line


def _is_rule(line: str) -> bool:
    """Whether the line is a rule, or what makes a heading of the line above it."""
    marks = set(line.replace(" ", "").replace("\t", ""))
    return len(marks) == 1 and marks <= set("=-*_")


def _without_comments(text: str) -> str:
    """The text without HTML's comments, which readers do not see. One that does not end is none."""
    kept: list[str] = []
    begin = 0
    while (start := text.find("<!--", begin)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[begin:start])
        begin = end + 3
    return "".join([*kept, text[begin:]])


_LABEL = r"\[([^\[\]]*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])"
_IMAGE, _LINK = re.compile("!" + _LABEL), re.compile(_LABEL)
# Of ASCII alone, because a sentence in Chinese or Japanese goes on behind it without a space.
_URL = re.compile(r"(?:https?|ftp)://[!-;=?-~]+(?<![.,;:!?)])")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_ENTITY = re.compile(r"&#?\w{1,31};")
_SHORTCODE = re.compile(r"(?<!\w):[A-Za-z+-][\w+-]{0,48}:(?!\w)", re.ASCII)


def _prose(markdown: str) -> str:
    """What a reader reads of a block: links by their labels, no URLs, tags, entities and `:emoji:`."""
    text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", markdown))
    for gone in (_URL, _TAG, _ENTITY, _SHORTCODE):
        text = gone.sub(" ", text)
    return text


_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+|(?<=[。！？｡])")
# Chinese characters and Japanese syllables, which no space divides into words.
_UNSPACED = re.compile(
    "[\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_LONE_DOT = re.compile(r"(?<!\d)\.|\.(?!\d)")


def _normal(prose: str) -> str:
    """Letters, digits and the dots between digits, without case, with one space for all that was between."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prose).casefold())
    dotted = _LONE_DOT.sub(" ", folded)
    spaced = dotted.translate({ord(character): _kept(character) for character in set(dotted)})
    return " ".join(filter(_is_word, spaced.split()))


def _words(normal: str) -> list[str]:
    """The words of a normal form; each character is one where there are no spaces between words."""
    return [word for word in _UNSPACED.sub(r" \g<0> ", normal).split() if _is_word(word)]


@lru_cache(4096)
def _kept(character: str) -> str:
    category = unicodedata.category(character)
    # Apostrophes are nothing, so that don't and don’t are one word; so is what is not seen, or only colours an emoji.
    if character in "'’ʼ" or "\ufe00" <= character <= "\ufe0f" or category == "Me":
        return ""
    if category == "Cf":
        return " " if character == "\u200b" else ""
    return character if character == "." or category[0] in "LMN" else " "


def _is_word(text: str) -> bool:
    # Not a mark by itself, which an emoji or a broken text leaves.
    return any(map(str.isalnum, text))
