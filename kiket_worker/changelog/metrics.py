"""How alike an automated changelog and a human one are. Pure; docs/changelog-evaluations.md defines each figure."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz import process
from rapidfuzz.distance import Indel

from kiket_worker.changelog.text import read

# Raised with a definition: every release is evaluated anew then.
DEFINITIONS_VERSION = 1

# What is read of a changelog. Comparing sentences takes the product of their numbers and of their lengths.
TEXT_LIMIT_CHARACTERS = 200_000
SENTENCE_LIMIT = 400
SENTENCE_LIMIT_CHARACTERS = 400

COUNTERPART_SIMILARITY = 0.75
SAMPLE_LIMIT = 20
SAMPLE_LIMIT_CHARACTERS = 64
_DECIMALS = 4

Ratio = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Words = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=SAMPLE_LIMIT_CHARACTERS)]], Field(max_length=SAMPLE_LIMIT)
]


class TokenDifference(BaseModel):
    """Some of the words that only one of the two has, the most frequent first."""

    # The texts under the fields are their descriptions in the JSON Schema.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    only_automated: Words
    """Words of the automated changelog that the human one has not."""
    only_human: Words
    """Words of the human changelog that the automated one has not."""


class Metrics(BaseModel):
    """What the two have in common. Ratios are 1 where both have nothing to compare, and 0 where one has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    token_overlap_ratio: Ratio
    """Share of the automated changelog's words that are in the human one too, each as often as it is in both."""
    jaccard_similarity: Ratio
    """Different words that both have, of all different words."""
    sentence_similarity: Ratio
    """Share of the automated sentences that have a human counterpart, at a string similarity of 0.75 or more."""
    bullet_overlap_ratio: Ratio
    """Share of the automated bullets that are in the human changelog too, word for word."""
    automated_word_count: Count
    """Words of the automated changelog."""
    human_word_count: Count
    """Words of the human changelog."""
    automated_sentence_count: Count
    """Sentences of the automated changelog that were compared."""
    human_sentence_count: Count
    """Sentences of the human changelog that were compared."""
    automated_bullet_count: Count
    """Bullets of the automated changelog."""
    human_bullet_count: Count
    """Bullets of the human changelog."""
    token_difference: TokenDifference
    """A sample of the words that only one of them has."""


def compare(automated: str | None, human: str | None) -> Metrics:
    """The metrics of two changelogs in markdown; None is as one that is empty."""
    ours, theirs = (read((text or "")[:TEXT_LIMIT_CHARACTERS]) for text in (automated, human))
    words, human_words = Counter(ours.words), Counter(theirs.words)
    bullets, human_bullets = Counter(ours.bullets), Counter(theirs.bullets)
    sentences, human_sentences = _compared(ours.sentences), _compared(theirs.sentences)
    return Metrics(
        token_overlap_ratio=_share((words & human_words).total(), words.total(), human_words.total()),
        jaccard_similarity=_share(
            len(words.keys() & human_words.keys()), len(words.keys() | human_words.keys()), len(human_words)
        ),
        sentence_similarity=_share(_with_counterpart(sentences, human_sentences), len(sentences), len(human_sentences)),
        bullet_overlap_ratio=_share((bullets & human_bullets).total(), bullets.total(), human_bullets.total()),
        automated_word_count=words.total(),
        human_word_count=human_words.total(),
        automated_sentence_count=len(sentences),
        human_sentence_count=len(human_sentences),
        automated_bullet_count=bullets.total(),
        human_bullet_count=human_bullets.total(),
        token_difference=TokenDifference(
            only_automated=_sample(words, human_words), only_human=_sample(human_words, words)
        ),
    )


def summarize(metrics: Metrics) -> str:
    """The metrics in a sentence. It has numbers only, and none of the texts' words."""
    automated, human = metrics.automated_word_count, metrics.human_word_count
    if not automated and not human:
        return "Neither changelog has any words."
    if not human:
        return f"Only the automated changelog has words: {automated}."
    if not automated:
        return f"Only the human changelog has words: {human}."
    parts = [f"{metrics.token_overlap_ratio:.0%} of {automated} automated words are among the {human} human ones"]
    if sentences := metrics.automated_sentence_count:
        parts.append(f"{metrics.sentence_similarity:.0%} of {sentences} sentences have a counterpart")
    if bullets := metrics.automated_bullet_count:
        parts.append(f"{metrics.bullet_overlap_ratio:.0%} of {bullets} bullets are unchanged")
    return "; ".join(parts) + "."


def _share(shared: int, whole: int, other: int) -> float:
    """`shared` of `whole`; where there is no whole, whether the other side has nothing either."""
    return round(shared / whole, _DECIMALS) if whole else float(not other)


def _compared(sentences: Sequence[str]) -> list[str]:
    return [sentence[:SENTENCE_LIMIT_CHARACTERS] for sentence in sentences[:SENTENCE_LIMIT]]


def _with_counterpart(sentences: Sequence[str], human: Sequence[str]) -> int:
    """How many sentences have a human one that is alike. One human sentence may be the counterpart of several."""
    choices = list(dict.fromkeys(human))
    known = dict.fromkeys(choices, True)
    for sentence in sentences:
        if sentence not in known:
            known[sentence] = (
                process.extractOne(
                    sentence, choices, scorer=Indel.normalized_similarity, score_cutoff=COUNTERPART_SIMILARITY
                )
                is not None
            )
    return sum(known[sentence] for sentence in sentences)


def _sample(words: Counter[str], others: Counter[str]) -> list[str]:
    alone = sorted((word for word in words if word not in others), key=lambda word: (-words[word], word))
    return [word[:SAMPLE_LIMIT_CHARACTERS] for word in alone[:SAMPLE_LIMIT]]
