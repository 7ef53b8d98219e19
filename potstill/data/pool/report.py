"""The report on how a pool was built: counts, and the same as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from potstill.data.label_flags import shown_columns
from potstill.data.pool.base import Pool
from potstill.data.pool.clean import CleaningReport
from potstill.data.tables import Guess, Layout
from potstill.data.task import JsonObject

_COLUMN_TITLES = {"text_b": "second text"}


@dataclass(frozen=True)
class SourceReport:
    """What was read from one source.

    Attributes:
        name: the file's name.
        role: "train", "validation", "test", "pool", or "data" for a source that is still to be split.
        rows: rows read; `skipped` bad rows were left out.
        encoding: of the file's bytes.
        columns: "text", "text_b", "label" or "split" -> the column's name.
        guesses: the columns, and what of the layout, that the user did not name.
        separator: of the labels in a cell; "" if each holds one.
        layout: how the file is laid out.
    """

    name: str
    role: str
    rows: int
    skipped: int
    encoding: str
    columns: Mapping[str, str]
    guesses: tuple[Guess, ...]
    separator: str = ""
    layout: Layout = field(default_factory=Layout)

    def to_json(self) -> JsonObject:
        """A JSON object."""
        plain = {"columns": dict(self.columns), "guesses": [guess.to_json() for guess in self.guesses]}
        return {**vars(self), **plain, "layout": self.layout.to_json()}


@dataclass(frozen=True)
class PoolReport:
    """How a pool was built.

    Attributes:
        sources: what was read.
        cleaning: what was left out.
        counts: split -> label -> rows; the split "pool" has only "unlabelled".
        sizes: split -> rows.
        created_splits: splits that were set aside from the training rows, not given.
        few_labels: the number of labels below which none is set aside for validation, if there were fewer; else 0.
        unlabelled_dropped: unlabelled rows of test and validation, left out.
        over_limit: rows left out because of `limit`.
        hidden: rows of the pool with a label in the file; nothing learns from it.
        warnings: sentences about likely problems.
        format: version of this record.
    """

    sources: tuple[SourceReport, ...]
    cleaning: CleaningReport
    counts: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    created_splits: tuple[str, ...] = ()
    few_labels: int = 0
    unlabelled_dropped: int = 0
    over_limit: int = 0
    hidden: int = 0
    warnings: tuple[str, ...] = ()
    format: int = 2

    def sentences(self) -> list[str]:
        """The report as sentences: what was read and left out, the splits, and the warnings."""
        sentences = []
        for s in self.sources:
            columns = ", ".join(
                f"{_COLUMN_TITLES.get(role, role)} from {shown_columns(name)!r}" for role, name in s.columns.items()
            )
            separated = "a list" if s.separator == "json" else f"separated by {s.separator!r}"
            several = f"; a row may have several labels, {separated}" if s.separator else ""
            several += " (--kind single if each cell is one label)" if s.separator not in ("", "json") else ""
            guessed = {guess.key for guess in s.guesses} & {"text", "label"}
            flags = "; guessed, --text COLUMN and --label COLUMN decide" if guessed else ""
            sentences.append(f"Read {s.rows:,} rows of {s.name} ({s.role}): {columns}{several}{flags}.")
        sentences += self.cleaning.sentences()
        if self.unlabelled_dropped:
            sentences.append(f"Left out {self.unlabelled_dropped:,} test or validation rows without a label.")
        if self.over_limit:
            sentences.append(f"Left out {self.over_limit:,} rows beyond the limit, drawn by content.")
        sizes = ", ".join(f"{n:,} {split}" for split, n in self.sizes.items())
        aside = f"; {' and '.join(self.created_splits)} set aside here, stratified" if self.created_splits else ""
        sentences.append(f"Split into {sizes}{aside}.")
        if self.few_labels:
            sentences.append(
                f"All {self.sizes['train']:,} labels are learnt: with fewer than {self.few_labels:,} none is set aside "
                "for validation (the option validation_share = 0.1 sets a tenth aside)."
            )
        if self.hidden:
            sentences.append(f"{self.hidden:,} rows of the pool have a label in the file; nothing learns from it.")
        return sentences + list(self.warnings)

    def to_json(self) -> JsonObject:
        """A JSON object."""
        return {
            "format": self.format,
            "sources": [source.to_json() for source in self.sources],
            "cleaning": self.cleaning.to_json(),
            "counts": {split: dict(c) for split, c in self.counts.items()},
            "sizes": dict(self.sizes),
            "created_splits": list(self.created_splits),
            "few_labels": self.few_labels,
            "unlabelled_dropped": self.unlabelled_dropped,
            "over_limit": self.over_limit,
            "hidden": self.hidden,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class PoolBuild:
    """A pool and the report on it."""

    pool: Pool
    report: PoolReport
