"""Cleans rows: empty texts, duplicates, conflicting labels, and texts that leak between splits. Everything is counted.

Works on rows in memory. Wrong labels that no other row contradicts are found by `potstill label-errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.near_duplicates import find_near_duplicates, hash_texts, normalise
from potstill.data.task import JsonObject
from potstill.errors import BadData

Mask = NDArray[np.bool_]
OnDuplicate = Literal["first", "keep"]
OnConflict = Literal["drop", "first", "error"]
OnLeak = Literal["drop", "error", "allow"]
# A text in several of these stays in the first: no student may be trained on texts of an evaluation set.
# "" stands for all other splits.
_STRICTEST_FIRST = ("test", "validation", "")
_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class RawRows:
    """N rows by column.

    Attributes:
        texts: N texts.
        labels: N labels; "" if unlabelled.
        splits: N of "train", "validation", "test", "pool", or "" if not yet decided.
        ids: N origins, "file:line".
        shares: N mappings label -> share of a soft label; None if the row has none.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    ids: tuple[str, ...]
    shares: tuple[Mapping[str, float] | None, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def filter(self, keep: Mask) -> RawRows:
        """The rows where `keep` (N,) is true."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep).tolist()
        return RawRows(*(tuple(getattr(self, f.name)[i] for i in rows) for f in fields(self)))

    def __add__(self, other: RawRows) -> RawRows:
        return RawRows(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class CleaningReport:
    """What cleaning left out, in rows.

    Attributes:
        empty: rows without text.
        duplicates: rows that repeat a text with the same label, or without a label; the first row was kept.
        conflicting_texts: texts with different labels, in `conflicting_rows` left out.
        conflicting_rows: rows left out because of conflicting labels.
        test_duplicates: repeated texts of a given test set, which is never changed, so that metrics stay comparable.
        leaks_exact: rows of train, validation or pool whose text is also in a stricter split, literally.
        leaks_normalised: likewise, up to case, punctuation and white space.
        leaks_kept: leaks found and kept, if the option `on_leak` allows it.
        near_duplicates: test texts nearly equal to a text of train, validation or pool; a warning, none is left out.
        near_duplicates_checked: texts compared for that; 0 if it was not done.
        examples: finding -> a few of its rows, as "file:line".
    """

    empty: int = 0
    duplicates: int = 0
    conflicting_texts: int = 0
    conflicting_rows: int = 0
    test_duplicates: int = 0
    leaks_exact: int = 0
    leaks_normalised: int = 0
    leaks_kept: int = 0
    near_duplicates: int = 0
    near_duplicates_checked: int = 0
    examples: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def sentences(self) -> list[str]:
        """The findings that are not zero, one sentence each."""
        sentences = []
        if self.empty:
            sentences.append(f"Left out {format_rows(self.empty)} without text{self._first('empty')}.")
        if self.duplicates:
            where = self._first("duplicates")
            sentences.append(f"Left out {format_rows(self.duplicates)} that repeat a text{where}.")
        if self.conflicting_texts:
            texts = f"{self.conflicting_texts:,} text{'s have' if self.conflicting_texts != 1 else ' has'}"
            rows, where = format_rows(self.conflicting_rows), self._first("conflicts")
            sentences.append(f"{texts} different labels; left out {rows}{where}.")
        if self.test_duplicates:
            sentences.append(f"The test set repeats texts in {format_rows(self.test_duplicates)}; it is left as given.")
        if self.leaks_exact or self.leaks_normalised:
            n = self.leaks_exact + self.leaks_normalised
            sentences.append(
                f"{format_rows(n)} of train, validation or pool {'are' if n != 1 else 'is'} in test or validation as "
                f"well, {self.leaks_exact:,} literally and {self.leaks_normalised:,} up to case and punctuation"
                f"{self._first('leaks')}. {'They were kept' if self.leaks_kept else 'They were left out there'}."
            )
        if self.near_duplicates:
            n, where = self.near_duplicates, self._first("near_duplicates")
            sentences.append(
                f"{n:,} test text{'s are' if n != 1 else ' is'} nearly equal to a text elsewhere{where}; "
                "the test scores may be too high."
            )
        return sentences

    def _first(self, finding: str) -> str:
        ids = dict(self.examples).get(finding)
        return f" (first: {', '.join(ids)})" if ids else ""

    def to_json(self) -> JsonObject:
        """A JSON object."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "examples": {finding: list(ids) for finding, ids in self.examples}
        }


def format_rows(n: int) -> str:
    """The count in words: "1 row", "1,234 rows"."""
    return f"{n:,} row{'s' * (n != 1)}"


@dataclass(frozen=True)
class CleaningResult:
    """The rows that are left, (N,) hashes of their normalised texts, and what was left out."""

    rows: RawRows
    groups: NDArray[np.uint64]
    cleaning: CleaningReport


@dataclass(frozen=True)
class CleaningOptions:
    """What to do with duplicates, conflicting labels and leaks, and the seed of the hashes; see `PoolOptions`."""

    on_duplicate: OnDuplicate = "first"
    on_conflict: OnConflict = "drop"
    on_leak: OnLeak = "drop"
    seed: int = 0


@dataclass(frozen=True)
class _RepeatedTexts:
    """Masks (N,) of the rows to keep, of rows with conflicting labels and of duplicates; the number of such texts."""

    keep: Mask
    conflicts: Mask
    duplicates: Mask
    n_conflicting_texts: int


def clean_rows(rows: RawRows, options: CleaningOptions) -> CleaningResult:
    """Leave out rows without text, duplicates, conflicts and leaks.

    Duplicates and conflicts are searched among the rows to learn from (train, pool and undecided together), and within
    validation; a given test set is not changed. A text in two of the three leaks and stays in the stricter split.

    Raises:
        BadData: conflicts or leaks, if the options say so.
    """
    has_text = np.array([bool(text.strip()) for text in rows.texts], dtype=np.bool_)
    examples = {"empty": _first_ids(rows, ~has_text)}
    n_empty = int((~has_text).sum())
    rows = rows.filter(has_text)
    repeated = _find_repeated(rows, options)
    if repeated.n_conflicting_texts and options.on_conflict == "error":
        n, where = repeated.n_conflicting_texts, ", ".join(_first_ids(rows, repeated.conflicts))
        raise BadData(
            f"{n:,} text{'s have' if n != 1 else ' has'} different labels (at {where}).",
            "Correct their labels, or leave them out: --on-conflict drop",
        )
    examples["conflicts"] = _first_ids(rows, repeated.conflicts)
    examples["duplicates"] = _first_ids(rows, repeated.duplicates)
    report = CleaningReport(
        empty=n_empty,
        duplicates=int(repeated.duplicates.sum()),
        conflicting_texts=repeated.n_conflicting_texts,
        conflicting_rows=int((repeated.conflicts & ~repeated.keep).sum()),
        test_duplicates=_count_repeats(rows, "test"),
    )
    rows = rows.filter(repeated.keep)
    normalised = [normalise(text) for text in rows.texts]
    exact, up_to_case = _find_leaks(rows, normalised)
    leaks = exact | up_to_case
    examples["leaks"] = _first_ids(rows, leaks)
    if leaks.any() and options.on_leak == "error":
        n = int(leaks.sum())
        raise BadData(
            f"{format_rows(n)} of train, validation or pool {'are' if n != 1 else 'is'} in test or "
            f"validation as well (at {', '.join(examples['leaks'])}).",
            "Remove them from one of the files, or leave them out: --on-leak drop",
        )
    drop = leaks if options.on_leak != "allow" else np.zeros_like(leaks)
    report = replace(
        report,
        leaks_exact=int(exact.sum()),
        leaks_normalised=int(up_to_case.sum()),
        leaks_kept=int((leaks & ~drop).sum()),
        examples=tuple((finding, ids) for finding, ids in examples.items() if ids),
    )
    return CleaningResult(rows.filter(~drop), hash_texts(normalised, options.seed)[~drop], report)


def count_near_duplicates(rows: RawRows, report: CleaningReport, max_texts: int = 50_000) -> CleaningReport:
    """The report with the number of test texts that have a near duplicate in another split; all splits are decided."""
    test = [i for i, split in enumerate(rows.splits) if split == "test"]
    rest = [i for i, split in enumerate(rows.splits) if split != "test"]
    if not test or not rest or max_texts <= 0:
        return report
    found = find_near_duplicates(
        [normalise(rows.texts[i]) for i in test], [normalise(rows.texts[i]) for i in rest], max_texts=max_texts
    )
    ids = tuple(f"{rows.ids[test[i]]} like {rows.ids[rest[j]]}" for i, j in found.pairs[:_MAX_EXAMPLES])
    examples = report.examples + ((("near_duplicates", ids),) if ids else ())
    return replace(report, near_duplicates=len(found.pairs), near_duplicates_checked=found.n_checked, examples=examples)


def _count_repeats(rows: RawRows, split: str) -> int:
    texts = [text for each, text in zip(rows.splits, rows.texts, strict=True) if each == split]
    return len(texts) - len(set(texts))


def _strictness(split: str) -> str:
    return split if split in ("test", "validation") else ""


def _find_repeated(rows: RawRows, options: CleaningOptions) -> _RepeatedTexts:
    """The rows of texts that occur more than once, outside the test set."""
    first: dict[tuple[str, str], int] = {}
    repeats: dict[tuple[str, str], list[int]] = {}
    for i, (split, text) in enumerate(zip(rows.splits, rows.texts, strict=True)):
        if split == "test":
            continue
        key = (_strictness(split), text.strip())
        earlier = first.setdefault(key, i)
        if earlier != i:
            repeats.setdefault(key, [earlier]).append(i)
    keep, conflicts, duplicates = (np.full(len(rows), value, dtype=np.bool_) for value in (True, False, False))
    n_conflicting_texts = 0
    for same in repeats.values():
        # The label of a pool row is hidden from learning, so it conflicts with no other.
        labelled = [i for i in same if rows.labels[i] and rows.splits[i] != "pool"]
        if len({rows.labels[i] for i in labelled}) > 1:
            n_conflicting_texts += 1
            conflicts[labelled] = True
            keep[same] = False
            duplicates[[i for i in same if i not in labelled]] = True
            if options.on_conflict == "first":
                keep[labelled[0]] = True
        elif options.on_duplicate == "first":
            keep[same] = False
            keep[labelled[0] if labelled else same[0]] = True
            duplicates[same] = ~keep[same]
    return _RepeatedTexts(keep, conflicts, duplicates, n_conflicting_texts)


def _find_leaks(rows: RawRows, normalised: Sequence[str]) -> tuple[Mask, Mask]:
    """Masks (N,) of rows whose text is in a stricter split literally, and of rows whose normalised text is."""
    strictness = [_strictness(split) for split in rows.splits]
    exact, up_to_case = (np.zeros(len(rows), dtype=np.bool_) for _ in range(2))
    for rank, strict in enumerate(_STRICTEST_FIRST[:-1]):
        stricter = [i for i, each in enumerate(strictness) if each == strict and not (exact[i] or up_to_case[i])]
        texts, normalised_texts = {rows.texts[i].strip() for i in stricter}, {normalised[i] for i in stricter}
        for i, each in enumerate(strictness):
            if _STRICTEST_FIRST.index(each) > rank and normalised[i] in normalised_texts:
                exact[i] |= rows.texts[i].strip() in texts
                up_to_case[i] = not exact[i]
    return exact, up_to_case


def _first_ids(rows: RawRows, mask: Mask) -> tuple[str, ...]:
    return tuple(rows.ids[i] for i in np.flatnonzero(mask)[:_MAX_EXAMPLES])
