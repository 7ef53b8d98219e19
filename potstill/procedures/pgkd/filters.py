"""Gates: what a teacher wrote, before a student may learn it. What does not pass is kept with the reason.

The leak guard is always on: a text that copies a validation or test text, in whole or in a run of words, would make the
figures lie. Functions of texts; asks nobody and knows no labels of the guarded texts. Does NOT cover paraphrases, or
labels that are wrong: those need a model (see `agreeing`, and the recipe that decides whom to ask).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.data.near_duplicates import find_near_duplicates, normalise
from potstill.data.task import LabelledText

NGRAM_WORDS = 10  # words in a row that no two texts share by chance
MIN_NGRAM_WORDS = 5  # a guarded text of fewer words than RUN counts whole, if it has at least so many
MIN_DISTINCT_SHARE = 0.4  # of the words of a text are different at least, or as many as in the gold
MAX_EXCERPT_CHARS = 160  # characters of a rejected text that are kept
# Words to a model rather than to a reader. Not looked for where the task's own gold has such texts.
_INSTRUCTS = re.compile(
    r"\b(?:ignore|disregard|forget)\b[^.\n]{0,40}\b(?:instructions?|prompts?|rules|above)\b"
    r"|\bsystem prompt\b|\bas an ai\b|\byou are (?:now )?(?:an? )?(?:ai|assistant|chatgpt|language model)\b"
    r"|<\|[a-z_]+\|>|\[/?inst\]|</?\s*(?:text|system|assistant)\s*>",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RejectedText:
    """A text that did not pass, cut to a few words, with the label it came with and the reason."""

    text: str
    label: str
    reason: str


@dataclass(frozen=True)
class FilterResult:
    """What passed and what did not."""

    accepted: tuple[LabelledText, ...]
    rejected: tuple[RejectedText, ...] = ()

    @property
    def by_reason(self) -> dict[str, int]:
        """Reason -> texts, the most frequent first."""
        return dict(Counter(each.reason for each in self.rejected).most_common())


@dataclass
class TextFilter:
    """Lets through, in this order of questions, what copies no guarded text, can be read, has a label of the task, is
    about as long as the gold, speaks to a reader and not to a model, does not say the same words again and again, and
    repeats nothing that is known.

    The reasons: "copies NAME" for each name in `guarded`, "unreadable", "unknown label", "too short", "too long",
    "instructs", "babbles", "repeats". What it accepts is known from then on.

    Attributes:
        labels: the K labels.
        known: texts the student learns from.
        guarded: name ("validation", "test") -> texts that must not come back.
    """

    labels: Sequence[str]
    train_texts: Sequence[str]
    held_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = [len(text.strip()) for text in self.train_texts] or [1]
        self._least = max(1, int(np.quantile(sizes, 0.02)) // 2)
        self._most = 2 * max(sizes)
        self._variety = min([MIN_DISTINCT_SHARE, *(_variety(text) for text in self.train_texts)])
        self._instructs = not any(_INSTRUCTS.search(text) for text in self.train_texts)
        self._known = list(dict.fromkeys(normalise(text) for text in self.train_texts))
        self._guards = {name: _Guard(texts) for name, texts in self.held_out.items()}

    def __call__(self, written: Sequence[LabelledText]) -> FilterResult:
        """Sort what was written; equal texts pass once."""
        plain = [normalise(each.text) for each in written]
        copied = {name: guard.copies(plain) for name, guard in self._guards.items()}
        repeats = _twins(plain, self._known)
        accepted: list[LabelledText] = []
        passed: list[str] = []
        rejected: list[RejectedText] = []
        for i, each in enumerate(written):
            leak = next((f"copies {name}" for name, rows in copied.items() if i in rows), "")
            reason = leak or self._own_fault(each)
            if not reason and (i in repeats or _twins([plain[i]], passed)):
                reason = "repeats"
            if reason:
                rejected.append(RejectedText(_short(each.text), each.label, reason))
            else:
                accepted.append(each)
                passed.append(plain[i])
        self._known += passed
        return FilterResult(tuple(accepted), tuple(rejected))

    def _own_fault(self, each: LabelledText) -> str:
        """What is wrong with a text whatever the others are."""
        size = len(each.text.strip())
        if not each.label:
            return "unreadable"
        if each.label not in self.labels:
            return "unknown label"
        if size < self._least:
            return "too short"
        if size > self._most:
            return "too long"
        if self._instructs and _INSTRUCTS.search(each.text):
            return "instructs"
        return "babbles" if _variety(each.text) < self._variety else ""


def passes_pvi(probs: ArrayLike, columns: ArrayLike, validation_probs: ArrayLike, gold: ArrayLike) -> list[bool]:
    """For each of M texts whether its pointwise V-information is at least the mean of its label's held-out texts.

    PVI is log2 p(label | text) - log2 p(label): how much a model gets out of the text about its label. The second term
    is the same for all texts of a label, so the first is compared. A label without held-out texts takes all of them.
    Source: ICDA (Lin et al. 2023), after Ethayarajh et al. 2022.

    Args:
        probs: (M, K) of the texts. columns: (M,) their labels.
        held: (N, K) of the held-out texts. gold: (N,) theirs.
    """
    columns_, gold_ = np.asarray(columns), np.asarray(gold)
    own = np.log(np.maximum(np.asarray(probs)[np.arange(len(columns_)), columns_], 1e-12))
    theirs = np.log(np.maximum(np.asarray(validation_probs)[np.arange(len(gold_)), gold_], 1e-12))
    least = [theirs[gold_ == k].mean() if (gold_ == k).any() else theirs.mean() for k in columns_]
    return [bool(a >= b) for a, b in zip(own, least, strict=True)]


def drop_disagreements(result: FilterResult, agreement: Sequence[bool]) -> FilterResult:
    """`found` without the accepted texts on whose label somebody else does not agree; the reason is "disagreed".

    Args:
        found: what passed so far.
        agrees: for each accepted text whether there is agreement.
    """
    pairs = list(zip(result.accepted, agreement, strict=True))
    disagreed = tuple(RejectedText(_short(each.text), each.label, "disagreed") for each, agreed in pairs if not agreed)
    return FilterResult(tuple(each for each, agreed in pairs if agreed), (*result.rejected, *disagreed))


def _variety(text: str) -> float:
    """The share of different words, of a text with enough of them to tell."""
    words = normalise(text).split()
    return len(set(words)) / len(words) if len(words) >= 8 else 1.0


class _Guard:
    """Texts that must not come back: the same, nearly the same, or a run of their words inside something longer."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._plain = list(dict.fromkeys(normalise(text) for text in texts))
        self._same = set(self._plain)
        by_length: dict[int, list[int]] = {}
        for text in self._plain:
            words = text.split()
            length = min(len(words), NGRAM_WORDS)
            if length >= MIN_NGRAM_WORDS:
                by_length.setdefault(length, []).extend(_runs(words, length))
        self._runs: dict[int, NDArray[np.int64]] = {
            length: np.unique(np.array(runs, dtype=np.int64)) for length, runs in by_length.items()
        }

    def copies(self, plain: Sequence[str]) -> set[int]:
        """Which of these normalised texts copy one of them."""
        found = {i for i, text in enumerate(plain) if text in self._same or self._contains(text)}
        return found | _twins(plain, self._plain)

    def _contains(self, text: str) -> bool:
        words = text.split()
        return any(_any_in(list(_runs(words, length)), theirs) for length, theirs in self._runs.items())


def _any_in(numbers: Sequence[int], ascending: NDArray[np.int64]) -> bool:
    """Whether any number is in the sorted array, which is not empty."""
    wanted = np.array(numbers, dtype=np.int64)
    places = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return bool((ascending[places] == wanted).any())


def _runs(words: Sequence[str], length: int) -> Iterator[int]:
    """A number for each run of so many words; the numbers hold within one process."""
    return (hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1))


def _twins(plain: Sequence[str], others: Sequence[str]) -> set[int]:
    """Which of these texts have a near twin among `others`, all of which are looked at."""
    same = set(others)
    found = {i for i, text in enumerate(plain) if text in same}
    # `most` is as large as it takes for none of `others` to be left out.
    near = find_near_duplicates(plain, others, max_texts=2 * (len(plain) + len(others)))
    return found | {i for i, _ in near.pairs}


def _short(text: str) -> str:
    return " ".join(text.split())[:MAX_EXCERPT_CHARS]
