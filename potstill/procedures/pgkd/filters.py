"""Filters of generated texts; a rejected text is stored with its reason.

The leak filter is always on: a text that copies a validation or test text, in whole or in a run of words, would make
the measured accuracy too high. Functions of texts; no model is asked and no label of a held-out text is used. Does NOT
cover paraphrases or wrong labels, which need a model (see `drop_disagreements` and `passes_pvi`).
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.data.near_duplicates import find_near_duplicates, normalise
from potstill.data.task import LabelledText

NGRAM_WORDS = 10  # consecutive words that two texts do not share by chance
MIN_NGRAM_WORDS = 5  # a shorter held-out text is compared as a whole, if it has at least this many words
MIN_DISTINCT_SHARE = 0.4  # of the words of a text, or the lowest share of a training text
MIN_COPIED_SHARE = 0.8  # of a text's words that it begins with as a text of its request does
MAX_EXCERPT_CHARS = 160  # of a text that is stored as a sample
# Instructions to a model. Not searched for if a training text matches too.
_PROMPT_INJECTION = re.compile(
    r"\b(?:ignore|disregard|forget)\b[^.\n]{0,40}\b(?:instructions?|prompts?|rules|above)\b"
    r"|\bsystem prompt\b|\bas an ai\b|\byou are (?:now )?(?:an? )?(?:ai|assistant|chatgpt|language model)\b"
    r"|<\|[a-z_]+\|>|\[/?inst\]|</?\s*(?:text|system|assistant)\s*>",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RejectedText:
    """A rejected text, shortened, with the label it came with and the reason."""

    text: str
    label: str
    reason: str


@dataclass(frozen=True)
class FilterResult:
    """The texts that passed all filters, and those that did not."""

    accepted: tuple[LabelledText, ...]
    rejected: tuple[RejectedText, ...] = ()

    @property
    def by_reason(self) -> dict[str, int]:
        """Reason -> number of texts, the most frequent first."""
        return dict(Counter(each.reason for each in self.rejected).most_common())


@dataclass
class TextFilter:
    """Rejects copies of held-out texts, unusable texts, and duplicates, for the first of these reasons that applies.

    "copies NAME" (for each name in `held_out`), "unreadable", "unknown label", "copies its request", "too short",
    "too long", "prompt injection", "repetitive", "duplicate". Accepted texts count as training texts in later calls.

    Attributes:
        labels: the K labels.
        train_texts: texts that the student is trained on.
        held_out: name ("validation", "test") -> texts that may not be copied.
    """

    labels: Sequence[str]
    train_texts: Sequence[str]
    held_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = [len(text.strip()) for text in self.train_texts] or [1]
        self._min_chars = max(1, int(np.quantile(sizes, 0.02)) // 2)
        self._max_chars = 2 * max(sizes)
        self._min_distinct = min([MIN_DISTINCT_SHARE, *(_distinct_share(text) for text in self.train_texts)])
        self._finds_injections = not any(_PROMPT_INJECTION.search(text) for text in self.train_texts)
        self._train = list(dict.fromkeys(normalise(text) for text in self.train_texts))
        self._leak_filters = {name: _LeakFilter(texts) for name, texts in self.held_out.items()}

    def __call__(self, texts: Sequence[LabelledText], shown: Sequence[str] = ()) -> FilterResult:
        """Accept or reject each text; of equal texts the first is accepted.

        Args:
            texts: generated texts.
            shown: the texts that their requests showed, in full: a copy of one that a prompt cut is found as well.
        """
        normalised = [normalise(each.text) for each in texts]
        copied = find_copies(normalised, [normalise(text) for text in shown])
        copies = {name: leaks.find_copies(normalised) for name, leaks in self._leak_filters.items()}
        duplicates = _find_duplicates(normalised, self._train)
        accepted: list[LabelledText] = []
        accepted_normalised: list[str] = []
        rejected: list[RejectedText] = []
        for i, each in enumerate(texts):
            leak = next((f"copies {name}" for name, rows in copies.items() if i in rows), "")
            reason = leak or self.label_fault(each) or ("copies its request" if i in copied else self._fault(each))
            if not reason and (i in duplicates or _find_duplicates([normalised[i]], accepted_normalised)):
                reason = "duplicate"
            if reason:
                rejected.append(RejectedText(_excerpt(each.text), each.label, reason))
            else:
                accepted.append(each)
                accepted_normalised.append(normalised[i])
        self._train += accepted_normalised
        return FilterResult(tuple(accepted), tuple(rejected))

    def label_fault(self, each: LabelledText) -> str:
        """The reason to reject a text for its label; empty if there is none."""
        if not each.label:
            return "unreadable"
        return "" if each.label in self.labels else "unknown label"

    def _fault(self, each: LabelledText) -> str:
        """The reason to reject a text by itself; empty if there is none."""
        size = len(each.text.strip())
        if size < self._min_chars:
            return "too short"
        if size > self._max_chars:
            return "too long"
        if self._finds_injections and _PROMPT_INJECTION.search(each.text):
            return "prompt injection"
        return "repetitive" if _distinct_share(each.text) < self._min_distinct else ""


def passes_pvi(probs: ArrayLike, labels: ArrayLike, validation_probs: ArrayLike, gold: ArrayLike) -> list[bool]:
    """For each of M texts, whether its pointwise V-information is at least the mean of its label's validation texts.

    PVI is log2 p(label | text) - log2 p(label), the information that a model extracts from the text about its label.
    The second term is the same for all texts of a label, so the first is compared. A label without validation texts is
    compared with all of them. Source: ICDA (Lin et al. 2023), after Ethayarajh et al. 2022.

    Args:
        probs: (M, K) probabilities of the texts.
        labels: (M,) their label columns.
        validation_probs: (N, K) probabilities of the validation texts.
        gold: (N,) their label columns.
    """
    labels_, gold_ = np.asarray(labels), np.asarray(gold)
    log_probs = np.log(np.maximum(np.asarray(probs)[np.arange(len(labels_)), labels_], 1e-12))
    validation = np.log(np.maximum(np.asarray(validation_probs)[np.arange(len(gold_)), gold_], 1e-12))
    thresholds = [validation[gold_ == k].mean() if (gold_ == k).any() else validation.mean() for k in labels_]
    return [bool(a >= b) for a, b in zip(log_probs, thresholds, strict=True)]


def drop_disagreements(result: FilterResult, agreement: Sequence[bool]) -> FilterResult:
    """Reject accepted texts whose label was not confirmed; the reason is "disagreed".

    Args:
        result: what passed so far.
        agreement: for each accepted text, whether its label was confirmed.
    """
    pairs = list(zip(result.accepted, agreement, strict=True))
    disagreed = tuple(
        RejectedText(_excerpt(each.text), each.label, "disagreed") for each, agreed in pairs if not agreed
    )
    return FilterResult(tuple(each for each, agreed in pairs if agreed), (*result.rejected, *disagreed))


def _distinct_share(text: str) -> float:
    """The share of distinct words; 1 for a text with fewer than eight."""
    words = normalise(text).split()
    return len(set(words)) / len(words) if len(words) >= 8 else 1.0


def find_copies(texts: Sequence[str], shown: Sequence[str]) -> set[int]:
    """The rows of texts that repeat a shown one: equal, nearly equal, or beginning with the same words.

    A prompt cuts long texts, so a copy may be the beginning of one: at least `MIN_NGRAM_WORDS` words, the last of which
    may be cut, that are at least `MIN_COPIED_SHARE` of the copy's.

    Args:
        texts: N normalised texts.
        shown: M normalised texts.
    """
    ordered = sorted(set(shown))
    copied = _find_duplicates(texts, ordered)
    for i, text in enumerate(texts):
        words = text.split()
        place = bisect(ordered, text)
        # Of all texts in order, a neighbour has the longest beginning in common.
        common = max(
            (_common_words(words, other.split()) for other in ordered[max(place - 1, 0) : place + 1]), default=0
        )
        if common >= max(MIN_NGRAM_WORDS, MIN_COPIED_SHARE * len(words)):
            copied.add(i)
    return copied


def _common_words(words: Sequence[str], others: Sequence[str]) -> int:
    """How many words both begin with; the last word of the first counts if the other's only continues it."""
    for n, (word, other) in enumerate(zip(words, others, strict=False)):
        if word != other:
            return n + (n == len(words) - 1 and other.startswith(word))
    return min(len(words), len(others))


class _LeakFilter:
    """Finds copies of held-out texts: equal, nearly equal, or sharing a run of words."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(dict.fromkeys(normalise(text) for text in texts))
        self._text_set = set(self._texts)
        hashes: dict[int, list[int]] = {}
        for text in self._texts:
            words = text.split()
            length = min(len(words), NGRAM_WORDS)
            if length >= MIN_NGRAM_WORDS:
                hashes.setdefault(length, []).extend(_ngram_hashes(words, length))
        self._ngrams: dict[int, NDArray[np.int64]] = {
            length: np.unique(np.array(those, dtype=np.int64)) for length, those in hashes.items()
        }

    def find_copies(self, texts: Sequence[str]) -> set[int]:
        """The rows of normalised texts that copy a held-out text."""
        rows = {i for i, text in enumerate(texts) if text in self._text_set or self._shares_ngram(text)}
        return rows | _find_duplicates(texts, self._texts)

    def _shares_ngram(self, text: str) -> bool:
        words = text.split()
        return any(_any_in(list(_ngram_hashes(words, length)), hashes) for length, hashes in self._ngrams.items())


def _any_in(numbers: Sequence[int], ascending: NDArray[np.int64]) -> bool:
    """Whether any number is in the sorted array, which is not empty."""
    wanted = np.array(numbers, dtype=np.int64)
    places = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return bool((ascending[places] == wanted).any())


def _ngram_hashes(words: Sequence[str], length: int) -> Iterator[int]:
    """A hash of each run of `length` words, valid within one process."""
    return (hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1))


def _find_duplicates(texts: Sequence[str], others: Sequence[str]) -> set[int]:
    """The rows of normalised texts that are equal or nearly equal to one of `others`."""
    equal = set(others)
    rows = {i for i, text in enumerate(texts) if text in equal}
    near = find_near_duplicates(texts, others, max_texts=2 * (len(texts) + len(others)))  # none of them is left out
    return rows | {i for i, _ in near.pairs}


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:MAX_EXCERPT_CHARS]
