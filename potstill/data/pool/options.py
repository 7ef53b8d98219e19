"""What a user may say about how files become a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.data.label_sets import Separator
from potstill.data.pool.clean import OnConflict, OnDuplicate, OnLeak
from potstill.data.tables import OnBadRow


@dataclass(frozen=True)
class PoolOptions:
    """How files become a pool. All have defaults.

    Attributes:
        text, text_b, label, split: column names; empty ones are guessed.
        kind: what a row is: one text with one label ("single"), two texts ("pair"), a text with several labels
            ("multi"); empty takes it from the columns.
        label_separator: what stands between the labels of a cell, "json" for a JSON list; empty guesses. An empty cell
            is unlabelled; that no label fits is said by "[]", or by the separator alone.
        encoding: of text files; None reads a byte-order mark and else takes UTF-8.
        on_duplicate: of a text that is there twice keep the `first`, or `keep` all.
        on_conflict: of a text with different labels `drop` all rows, take the `first` said, or raise an `error`.
        on_leak: a text of train or pool that is also in test or validation: `drop` it there, `error`, or `allow`.
        on_bad_row: a row that cannot be read is an `error`, or left out and counted (`skip`).
        test_share: share of the labelled rows set aside where there is no test set; 0 sets none aside.
        validation_share: share of the labelled rows that are not test, set aside where there is no validation set.
        seed: another seed, another split; the split depends on nothing else but the texts.
        gold: know only so many labels, as evenly over the classes as they come; the other labelled rows join the pool,
            their labels hidden. Validation is carved from these, so it is not free. 0 knows them all. A larger number
            contains the smaller one's rows.
        limit: at most so many rows of each source, drawn by content; 0 takes all.
    """

    text: str = ""
    text_b: str = ""
    label: str = ""
    split: str = ""
    kind: Literal["", "single", "pair", "multi"] = ""
    label_separator: Separator | None = None
    encoding: str | None = None
    on_duplicate: OnDuplicate = "first"
    on_conflict: OnConflict = "drop"
    on_leak: OnLeak = "drop"
    on_bad_row: OnBadRow = "error"
    test_share: float = 0.2
    validation_share: float = 0.1
    seed: int = 0
    gold: int = 0
    limit: int = 0
