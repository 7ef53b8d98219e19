"""What was found and decided while a pool was made: counts for machines, sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.data.pool.base import Pool
from potstill.data.pool.clean import CleaningReport


@dataclass(frozen=True)
class SourceReport:
    """What was read of one source: its part ("data": still to split), rows, skipped rows, encoding, and the columns.

    `separator`: what stands between the labels of a cell, where it may hold several.
    """

    name: str
    role: str
    rows: int
    skipped: int
    encoding: str
    columns: Mapping[str, str]
    reasons: tuple[str, ...]
    separator: str = ""


@dataclass(frozen=True)
class PoolReport:
    """What was found and decided while the pool was made.

    Attributes:
        sources: what was read.
        cleaned: what was taken out.
        counts: split -> label -> rows; the split "pool" has only "unlabelled".
        carved: the splits that were set aside here rather than given.
        unlabelled_dropped: rows of test and validation without a label, left out.
        limited: rows left out because of `limit`.
        hidden: rows of the pool whose label the file had; nothing learns from it.
        warnings: sentences about what may disappoint.
        format: version of this record.
    """

    sources: tuple[SourceReport, ...]
    cleaning: CleaningReport
    counts: Mapping[str, Mapping[str, int]]
    created_splits: tuple[str, ...] = ()
    unlabelled_dropped: int = 0
    over_limit: int = 0
    hidden: int = 0
    warnings: tuple[str, ...] = ()
    format: int = 1

    def sentences(self) -> list[str]:
        """All of it for a person: what was read, what was left out, how it was split, what to beware of."""
        told = []
        for s in self.sources:
            columns = ", ".join(f"{role} from {name!r}" for role, name in s.columns.items())
            how = "a JSON list" if s.separator == "json" else f"separated by {s.separator!r}"
            several = f"; a row may have several labels, {how}" if s.separator else ""
            told.append(f"Read {s.rows:,} rows of {s.name} ({s.role}): {columns}{several}.")
        told += self.cleaning.sentences()
        if self.unlabelled_dropped:
            told.append(f"Left out {self.unlabelled_dropped:,} test or validation rows without a label.")
        if self.over_limit:
            told.append(f"Left out {self.over_limit:,} rows beyond the limit, drawn by content.")
        sizes = ", ".join(f"{sum(c.values()):,} {split}" for split, c in self.counts.items())
        aside = f"; {' and '.join(self.created_splits)} set aside here, stratified" if self.created_splits else ""
        told.append(f"Split into {sizes}{aside}.")
        if self.hidden:
            told.append(f"{self.hidden:,} rows of the pool have a label in the file; nothing learns from it.")
        return told + list(self.warnings)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "format": self.format,
            "sources": [{**vars(s), "columns": dict(s.columns), "reasons": list(s.reasons)} for s in self.sources],
            "cleaned": self.cleaning.to_json(),
            "counts": {split: dict(c) for split, c in self.counts.items()},
            "carved": list(self.created_splits),
            "unlabelled_dropped": self.unlabelled_dropped,
            "limited": self.over_limit,
            "hidden": self.hidden,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class PoolBuild:
    """What `build_pool` made."""

    pool: Pool
    report: PoolReport
