"""The options of `build_pool`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.data.label_sets import Separator
from potstill.data.pool.clean import OnConflict, OnDuplicate, OnLeak
from potstill.data.pool.splits import DEFAULT_VALIDATION_SHARE
from potstill.data.tables import Format, Layout, OnBadRow, Quotes


@dataclass(frozen=True)
class PoolOptions:
    """How files become a pool. All have defaults.

    Attributes:
        text, text_b, label, split, answer: column names; empty to guess; split and answer "-" if there is none. As the
            label several columns of 0 and 1, separated by commas, or a question of a labelling tool's export.
            `answer` is Prodigy's: accept, reject or ignore.
        kind: one text with one label ("single"), two texts ("pair"), or one text with several labels ("multi"); empty
            to infer it from the columns.
        label_separator: the characters between the labels of a cell, "json" for a list; None to guess. An empty cell is
            unlabelled; "[]", or the separator alone, means that no label fits.
        missing: the words in a label cell that mean that there is no label; None takes `label_values.MISSING_MARKERS`.
        format, sheet, delimiter, quotes, escape, header, skip_rows: of files, see `tables.Layout`; None to guess.
        encoding: of text files; None uses the byte-order mark, or UTF-8 without one.
        on_duplicate: for repeated texts `first` keeps the first row, `keep` all.
        on_conflict: for a text with different labels `drop` leaves out all rows, `first` all but the first, `error`
            raises. None is `drop`, but for a file with one row a label.
        on_leak: for a text of train or pool that is also in test or validation `drop` leaves out that row, `error`
            raises, `allow` keeps it.
        on_bad_row: a row that cannot be read raises (`error`), or is left out and counted (`skip`).
        test_share: share of the labelled rows set aside for test if no test set is given; 0 for none.
        validation_share: share of the other labelled rows set aside for validation if no validation set is given; 0 for
            none. None, as in a run that says nothing, decides by the number of labels: of few (see
            `splits.few_labels`) none, else a tenth.
        seed: of the split, which otherwise depends only on the texts.
        gold: number of labels to use, balanced over the classes; the other labelled rows join the pool with hidden
            labels. A validation set that is set aside is taken from these. 0 uses all labels. The rows of a smaller
            number are among those of a larger one.
        limit: rows of each source at most, drawn by content; 0 for all.
    """

    text: str = ""
    text_b: str = ""
    label: str = ""
    split: str = ""
    answer: str = ""
    kind: Literal["", "single", "pair", "multi"] = ""
    label_separator: Separator | None = None
    missing: tuple[str, ...] | None = None
    format: Format | None = None
    sheet: str | None = None
    delimiter: str | None = None
    quotes: Quotes | None = None
    escape: str | None = None
    header: bool | None = None
    skip_rows: int = 0
    encoding: str | None = None
    on_duplicate: OnDuplicate = "first"
    on_conflict: OnConflict | None = None
    on_leak: OnLeak = "drop"
    on_bad_row: OnBadRow = "error"
    test_share: float = 0.2
    validation_share: float | None = DEFAULT_VALIDATION_SHARE
    seed: int = 0
    gold: int = 0
    limit: int = 0

    @property
    def layout(self) -> Layout:
        """The layout of the files, as far as the user named it."""
        names = ("format", "sheet", "delimiter", "quotes", "escape", "header", "skip_rows")
        return Layout(**{name: getattr(self, name) for name in names})
