"""Labels that are probably wrong, found before anything is taught them: gold against cross-validated students."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from potstill.annotation import agreement
from potstill.annotation.cross_validation import FOLDS, MIN_TEXTS, cross_val_probs
from potstill.data.pool import Subset
from potstill.data.tables import write_table
from potstill.data.task import Task
from potstill.errors import BadData

COLUMNS = ("location", "text", "label", "suggested_label", "label_quality")
SHOWN = 10


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is probably wrong, what a model finds likelier, and the chance that the label is right."""

    location: str
    text: str
    label: str
    suggested_label: str
    label_quality: float


@dataclass(frozen=True)
class LabelIssueReport:
    """The doubtful rows among `n` labelled ones, worst first, and the file they were written to."""

    n_checked: int
    rows: tuple[LabelIssue, ...]
    student: str
    file: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {**asdict(self), "file": None if self.file is None else str(self.file)}

    def to_text(self) -> str:
        """A page for a terminal."""
        share = len(self.rows) / self.n_checked
        lines = [
            f"{len(self.rows)} of {self.n_checked} labels ({share:.1%}) are probably wrong: {FOLDS} students of the kind "
            f"{self.student} that did not learn a row contradict it (confident learning). Look before you change one."
        ]
        lines += [
            f"  {row.location}: {row.label!r}, likelier {row.suggested_label!r}: {' '.join(row.text.split())[:70]}"
            for row in self.rows[:SHOWN]
        ]
        if len(self.rows) > SHOWN:
            lines.append(f"  and {len(self.rows) - SHOWN} more" + (f" in {self.file}" if self.file else ""))
        return "\n".join(lines)

    def write(self, path: Path) -> LabelIssueReport:
        """The same, and all of it in a table."""
        write_table(path, COLUMNS, [asdict(row) for row in self.rows])
        return LabelIssueReport(self.n_checked, self.rows, self.student, path)


def find_label_errors(part: Subset, task: Task, *, student: str = "linear", seed: int = 0) -> LabelIssueReport:
    """The rows of a labelled part whose label five students contradict that learnt the others.

    Raises:
        BadData: too few rows, or of one label only.
        MissingExtra: cleanlab is not here.
    """
    if task.kind == "multi":
        raise BadData(
            "A text may have several labels here, and a doubt is about one.",
            'Name one label a row, or look at the labels one by one: kind = "single" under [task].',
        )
    gold = np.asarray(part.gold, dtype=np.int64)
    probs = cross_val_probs(part.texts, gold, task, student=student, seed=seed)
    if probs is None:
        raise BadData(
            f"{len(part.texts)} labelled texts are too few to doubt one of them.",
            f"Give at least {MIN_TEXTS}, of two labels or more.",
        )
    # A label nobody has cannot be compared with anything.
    there = np.unique(gold)
    squeezed = np.searchsorted(there, gold)
    kept = probs[:, there] / probs[:, there].sum(axis=1, keepdims=True)
    found = agreement.doubtful(squeezed, kept)
    found_rows = zip(found.rows.tolist(), there[found.suggested_label].tolist(), found.quality.tolist(), strict=True)
    rows = tuple(
        LabelIssue(part.ids[row], part.texts[row], task.labels[int(gold[row])], task.labels[likelier], round(chance, 4))
        for row, likelier, chance in found_rows
    )
    return LabelIssueReport(len(part.texts), rows, student)
