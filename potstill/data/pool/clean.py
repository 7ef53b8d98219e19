"""Rows -> clean rows: empty texts, duplicates, contradicting labels, texts on both sides. All counted, none silent.

Knows rows in memory, no files. Does NOT cover wrong labels that no other row contradicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.near_duplicates import find_near_duplicates, hash_texts, normalise
from potstill.errors import BadData

Mask = NDArray[np.bool_]
OnDuplicate = Literal["first", "keep"]
OnConflict = Literal["drop", "first", "error"]
OnLeak = Literal["drop", "error", "allow"]
# A text belongs to the strictest part that has it: what judges must not be learnt from.
_STRICTEST = ("test", "validation", "")


@dataclass(frozen=True)
class RawRows:
    """N rows by column.

    Attributes:
        texts: N texts.
        labels: N labels; "" where nobody said.
        parts: N of "train", "validation", "test", "pool", or "" where it is still to be decided.
        ids: N origins, "file:line".
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    ids: tuple[str, ...]

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
    """What cleaning took out, in rows; the zeros are findings too.

    Attributes:
        empty: without text.
        duplicates: the same text with the same label, or without one beside a labelled one; the first was kept.
        conflict_texts: texts that came with different labels.
        conflicts: the rows these were taken out with.
        left_in_test: rows of a given test set whose text it has more than once. A given test set is never thinned
            for that, so that figures stay comparable with those of others.
        leaks_exact: of train, validation or pool whose text is also in a stricter part, word for word.
        leaks_normalised: likewise, but for case, punctuation and white space.
        leaks_left: found and left in, because that was asked for.
        near_twins: test texts nearly like a text of train, validation or pool; only a warning, none is taken out.
        near_checked: how many texts were compared for that; 0 if it was not done.
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
        found = dict(self.examples)

        def at(finding: str) -> str:
            return f" (first: {', '.join(found[finding])})" if found.get(finding) else ""

        told = []
        if self.empty:
            told.append(f"Left out {format_rows(self.empty)} without text{at('empty')}.")
        if self.duplicates:
            told.append(
                f"Left out {format_rows(self.duplicates)} with a text that was there already{at('duplicates')}."
            )
        if self.conflicting_texts:
            texts = f"{self.conflicting_texts:,} text{'s come' if self.conflicting_texts != 1 else ' comes'}"
            told.append(
                f"{texts} with different labels; left out {format_rows(self.conflicting_rows)}{at('conflicts')}."
            )
        if self.test_duplicates:
            told.append(f"The test set repeats texts in {format_rows(self.test_duplicates)}; it is left as given.")
        if self.leaks_exact or self.leaks_normalised:
            n = self.leaks_exact + self.leaks_normalised
            done = "They were left in, as asked" if self.leaks_kept else "They were left out there"
            told.append(
                f"{format_rows(n)} of train, validation or pool {'are' if n != 1 else 'is'} in test or validation as well, "
                f"{self.leaks_exact:,} word for word and {self.leaks_normalised:,} but for case and punctuation"
                f"{at('leaks')}. {done}."
            )
        if self.near_duplicates:
            n = self.near_duplicates
            told.append(
                f"{n:,} test text{'s look' if n != 1 else ' looks'} nearly like a text elsewhere{at('near_twins')}; "
                "the test may flatter."
            )
        return told

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "examples": {finding: list(ids) for finding, ids in self.examples}
        }


def format_rows(n: int) -> str:
    """ "1 row", "1,234 rows"."""
    return f"{n:,} row{'s' * (n != 1)}"


@dataclass(frozen=True)
class CleaningResult:
    """The rows that are left, their content numbers (N,) by normalised text, and what was taken out."""

    rows: RawRows
    groups: NDArray[np.uint64]
    cleaning: CleaningReport


@dataclass(frozen=True)
class CleaningOptions:
    """What becomes of duplicates, of contradictions and of texts on both sides, and what orders the rows by content."""

    on_duplicate: OnDuplicate = "first"
    on_conflict: OnConflict = "drop"
    on_leak: OnLeak = "drop"
    seed: int = 0


def clean_rows(rows: RawRows, rules: CleaningOptions) -> CleaningResult:
    """Take out what must not be learnt from.

    Duplicates and contradictions are looked for among the rows one learns from (train, pool and undecided together),
    and within validation; a given test set is left as it is. A text in two of the three is a leak and stays in the
    stricter one.

    Raises:
        BadData: contradictions or leaks where `rules` asks for an error.
    """
    seen: dict[str, tuple[str, ...]] = {}
    full = _mask(bool(t.strip()) for t in rows.texts)
    seen["empty"] = _some(rows, ~full)
    cleaned = CleaningReport(empty=int((~full).sum()))
    rows = rows.filter(full)
    kept, n_texts, conflicts, duplicates = _same_texts(rows, rules)
    given = [text for part, text in zip(rows.splits, rows.texts, strict=True) if part == "test"]
    if n_texts and rules.on_conflict == "error":
        where = ", ".join(_some(rows, conflicts))
        raise BadData(
            f"{n_texts:,} text{'s come' if n_texts != 1 else ' comes'} with different labels (at {where}).",
            "Settle their labels, or leave them out: --on-conflict drop",
        )
    gone = conflicts & ~kept
    cleaned = replace(cleaned, test_duplicates=len(given) - len(set(given)))
    seen["conflicts"], seen["duplicates"] = _some(rows, conflicts), _some(rows, duplicates)
    cleaned = replace(
        cleaned, conflicting_texts=n_texts, conflicting_rows=int(gone.sum()), duplicates=int(duplicates.sum())
    )
    rows = rows.filter(kept)
    plain = [normalise(t) for t in rows.texts]
    exact, alike = _leaks(rows, plain)
    leaks = exact | alike
    seen["leaks"] = _some(rows, leaks)
    if leaks.any() and rules.on_leak == "error":
        raise BadData(
            f"{format_rows(int(leaks.sum()))} of train, validation or pool {'are' if leaks.sum() != 1 else 'is'} in test or "
            f"validation as well (at {', '.join(seen['leaks'])}).",
            "Take them out of one side, or let it be done: --on-leak drop",
        )
    cleaned = replace(cleaned, leaks_exact=int(exact.sum()), leaks_normalised=int(alike.sum()))
    if rules.on_leak == "allow":
        cleaned = replace(cleaned, leaks_kept=int(leaks.sum()))
        leaks = np.zeros_like(leaks)
    groups = hash_texts(plain, rules.seed)[~leaks]
    examples = tuple((k, v) for k, v in seen.items() if v)
    return CleaningResult(rows.filter(~leaks), groups, replace(cleaned, examples=examples))


def count_near_duplicates(rows: RawRows, cleaned: CleaningReport, max_texts: int = 50_000) -> CleaningReport:
    """`cleaned` with the count of test texts that have a near twin elsewhere; `rows.parts` must all be decided."""
    test = [i for i, p in enumerate(rows.splits) if p == "test"]
    rest = [i for i, p in enumerate(rows.splits) if p != "test"]
    if not test or not rest or max_texts <= 0:
        return cleaned
    found = find_near_duplicates(
        [normalise(rows.texts[i]) for i in test], [normalise(rows.texts[i]) for i in rest], max_texts=max_texts
    )
    some = tuple(f"{rows.ids[test[i]]} like {rows.ids[rest[j]]}" for i, j in found.pairs[:3])
    examples = cleaned.examples + ((("near_twins", some),) if some else ())
    return replace(
        cleaned, near_duplicates=len(found.pairs), near_duplicates_checked=found.n_checked, examples=examples
    )


def _domain(part: str) -> str:
    return part if part in ("test", "validation") else ""


def _same_texts(rows: RawRows, rules: CleaningOptions) -> tuple[Mask, int, Mask, Mask]:  # one caller, unpacked at once
    """Kept (N,), the number of texts with conflicts, rows in conflict (N,), rows left out as duplicates (N,)."""
    first: dict[tuple[str, str], int] = {}
    twins: dict[tuple[str, str], list[int]] = {}
    for i, (part, text) in enumerate(zip(rows.splits, rows.texts, strict=True)):
        if part == "test":
            continue
        key = (_domain(part), text.strip())
        met = first.setdefault(key, i)
        if met != i:
            twins.setdefault(key, [met]).append(i)
    kept, conflicts, duplicates = (np.full(len(rows), value, dtype=np.bool_) for value in (True, False, False))
    n_texts = 0
    for same in twins.values():
        # what a pool row is said to be is hidden from learning, so it contradicts nobody
        said = [i for i in same if rows.labels[i] and rows.splits[i] != "pool"]
        if len({rows.labels[i] for i in said}) > 1:
            n_texts += 1
            conflicts[said] = True
            kept[same] = False
            duplicates[[i for i in same if i not in said]] = True
            if rules.on_conflict == "first":
                kept[said[0]] = True
        elif rules.on_duplicate == "first":
            kept[same] = False
            kept[said[0] if said else same[0]] = True
            duplicates[same] = ~kept[same]
    return kept, n_texts, conflicts, duplicates


def _leaks(rows: RawRows, plain: Sequence[str]) -> tuple[Mask, Mask]:
    """Rows (N,) whose text is in a stricter part word for word, and rows whose normalised text is."""
    domains = [_domain(p) for p in rows.splits]
    exact, alike = (np.zeros(len(rows), dtype=np.bool_) for _ in range(2))
    for rank, strict in enumerate(_STRICTEST[:-1]):
        theirs = [i for i, d in enumerate(domains) if d == strict and not (exact[i] or alike[i])]
        texts, plains = {rows.texts[i].strip() for i in theirs}, {plain[i] for i in theirs}
        for i, domain in enumerate(domains):
            if _STRICTEST.index(domain) > rank and plain[i] in plains:
                exact[i] |= rows.texts[i].strip() in texts
                alike[i] = not exact[i]
    return exact, alike


def _mask(values: Any) -> Mask:
    return np.fromiter(values, dtype=np.bool_)


def _some(rows: RawRows, chosen: Mask, max_texts: int = 3) -> tuple[str, ...]:
    return tuple(rows.ids[i] for i in np.flatnonzero(chosen)[:max_texts])


def label_counts(labels: Sequence[str]) -> dict[str, int]:
    """Label -> rows, commonest first; "" is not a label."""
    counts = Counter(labels)
    del counts[""]
    return dict(counts.most_common())
