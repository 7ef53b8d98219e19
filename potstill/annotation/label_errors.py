"""Finds labels that are probably wrong, by confident learning on cross-validated students."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from potstill.annotation import agreement
from potstill.annotation.cross_validation import FOLDS, MIN_TEXTS, cross_val_probs
from potstill.data.pool import Subset
from potstill.data.printable import guarded_cell
from potstill.data.tables import write_table
from potstill.data.task import JsonObject, Task
from potstill.errors import BadData
from potstill.students import BASELINE_STUDENT

COLUMNS = ("location", "text", "label", "suggested_label", "label_quality")
MAX_SHOWN = 10


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is probably wrong.

    Attributes:
        location: "file:line".
        text: the text.
        label: its label.
        suggested_label: the most probable label.
        label_quality: the probability that `label` is right, in [0, 1].
    """

    location: str
    text: str
    label: str
    suggested_label: str
    label_quality: float


@dataclass(frozen=True)
class LabelIssueReport:
    """The label issues of a file.

    Attributes:
        n_checked: labelled texts.
        rows: those whose label is probably wrong, worst first.
        student: the kind of student that was cross-validated.
        file: the table the rows were written to.
        n_guarded: cells of it with a quote before what a spreadsheet would read as a formula.
    """

    n_checked: int
    rows: tuple[LabelIssue, ...]
    student: str
    file: Path | None = None
    n_guarded: int = 0

    def to_json(self) -> JsonObject:
        """A JSON object."""
        return {**asdict(self), "file": None if self.file is None else str(self.file)}

    def to_text(self) -> str:
        """A page for a terminal."""
        share = len(self.rows) / self.n_checked
        lines = [
            f"{len(self.rows)} of {self.n_checked} labels ({share:.1%}) are probably wrong by confident learning, with "
            f"{FOLDS} cross-validated students of the kind {self.student}. Look at each before you change it."
        ]
        lines += [
            f"  {row.location}: {row.label!r}, likelier {row.suggested_label!r}: {' '.join(row.text.split())[:70]}"
            for row in self.rows[:MAX_SHOWN]
        ]
        if len(self.rows) > MAX_SHOWN:
            lines.append(f"  and {len(self.rows) - MAX_SHOWN} more" + (f" in {self.file}" if self.file else ""))
        if self.n_guarded:
            lines.append(
                f"{self.n_guarded} cells of {self.file} begin like a formula of a spreadsheet and were written with a "
                "leading quote; --no-guard-formulas writes them as they are."
            )
        return "\n".join(lines)

    def write(self, path: Path, *, guard_formulas: bool = True) -> LabelIssueReport:
        """Write all rows to a table; returns the report with its path.

        Args:
            path: .csv, .tsv, .jsonl or .parquet.
            guard_formulas: in CSV and TSV, write a quote before what a spreadsheet would read as a formula.
        """
        rows = [asdict(row) for row in self.rows]
        guard = guard_formulas and path.suffix.lower() in (".csv", ".tsv")
        write_table(path, COLUMNS, rows, guard_formulas=guard)
        n_guarded = sum(guarded_cell(cell) != cell for row in rows for cell in row.values()) if guard else 0
        return replace(self, file=path, n_guarded=n_guarded)


def can_find_label_errors(subset: Subset, task: Task) -> bool:
    """Whether `find_label_errors` works on a labelled subset: its task has one label a text, and it has enough rows."""
    return task.kind in ("single", "pair") and len(subset.texts) >= MIN_TEXTS and len(np.unique(subset.gold)) > 1


def find_label_errors(
    subset: Subset, task: Task, *, student: str = BASELINE_STUDENT, seed: int = 0
) -> LabelIssueReport:
    """The rows of a labelled subset whose label cross-validated students contradict.

    Args:
        subset: labelled rows of a single-label or pair task.
        task: the task.
        student: the kind of student, and after a colon the weights to start from.
        seed: draws the folds.

    Raises:
        BadData: too few rows, rows of one label only, or a multi-label task.
        MissingExtra: cleanlab is not installed.
    """
    if task.kind == "multi":
        raise BadData(
            "Label errors are found in tasks with one label a text; here a text may have several.",
            "Check the labels one at a time, each in a file of its own, with --kind single.",
        )
    gold = np.asarray(subset.gold, dtype=np.int64)
    probs = cross_val_probs(subset.texts, gold, task, student=student, seed=seed)
    if probs is None:
        raise BadData(
            f"{len(subset.texts)} labelled texts are too few to find errors among them.",
            f"Give at least {MIN_TEXTS}, with at least two different labels.",
        )
    # cleanlab needs every label to occur.
    present = np.unique(gold)
    probs = probs[:, present] / probs[:, present].sum(axis=1, keepdims=True)
    found = agreement.label_issues(np.searchsorted(present, gold), probs)
    suggestions = present[found.suggested_label].tolist()
    rows = tuple(
        LabelIssue(
            location=subset.ids[row],
            text=subset.texts[row],
            label=task.labels[int(gold[row])],
            suggested_label=task.labels[suggestion],
            label_quality=round(quality, 4),
        )
        for row, suggestion, quality in zip(found.rows.tolist(), suggestions, found.quality.tolist(), strict=True)
    )
    return LabelIssueReport(len(subset.texts), rows, student)
