"""Labels that are probably wrong, found before anything is taught them: gold against cross-validated students."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from potstill.annotation import agreement
from potstill.annotation.cross_validation import FEWEST, FOLDS, held_out_probs
from potstill.data.pool import Part
from potstill.data.tables import write_table
from potstill.data.task import Task
from potstill.errors import BadData

COLUMNS = ("where", "text", "label", "likelier", "chance_right")
SHOWN = 10


@dataclass(frozen=True)
class Suspect:
    """A row whose label is probably wrong, what a model finds likelier, and the chance that the label is right."""

    where: str
    text: str
    label: str
    likelier: str
    chance_right: float


@dataclass(frozen=True)
class Suspects:
    """The doubtful rows among `n` labelled ones, worst first, and the file they were written to."""

    n: int
    rows: tuple[Suspect, ...]
    by: str
    file: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {**asdict(self), "file": None if self.file is None else str(self.file)}

    def to_text(self) -> str:
        """A page for a terminal."""
        share = len(self.rows) / self.n
        lines = [
            f"{len(self.rows)} of {self.n} labels ({share:.1%}) are probably wrong: {FOLDS} students of the kind "
            f"{self.by} that did not learn a row contradict it (confident learning). Look before you change one."
        ]
        lines += [
            f"  {row.where}: {row.label!r}, likelier {row.likelier!r}: {' '.join(row.text.split())[:70]}"
            for row in self.rows[:SHOWN]
        ]
        if len(self.rows) > SHOWN:
            lines.append(f"  and {len(self.rows) - SHOWN} more" + (f" in {self.file}" if self.file else ""))
        return "\n".join(lines)

    def write(self, path: Path) -> Suspects:
        """The same, and all of it in a table."""
        write_table(path, COLUMNS, [asdict(row) for row in self.rows])
        return Suspects(self.n, self.rows, self.by, path)


def find_suspects(part: Part, task: Task, *, student: str = "linear", seed: int = 0) -> Suspects:
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
    probs = held_out_probs(part.texts, gold, task, student=student, seed=seed)
    if probs is None:
        raise BadData(
            f"{len(part.texts)} labelled texts are too few to doubt one of them.",
            f"Give at least {FEWEST}, of two labels or more.",
        )
    # A label nobody has cannot be compared with anything.
    there = np.unique(gold)
    squeezed = np.searchsorted(there, gold)
    kept = probs[:, there] / probs[:, there].sum(axis=1, keepdims=True)
    found = agreement.doubtful(squeezed, kept)
    found_rows = zip(found.rows.tolist(), there[found.likelier].tolist(), found.quality.tolist(), strict=True)
    rows = tuple(
        Suspect(part.ids[row], part.texts[row], task.labels[int(gold[row])], task.labels[likelier], round(chance, 4))
        for row, likelier, chance in found_rows
    )
    return Suspects(len(part.texts), rows, student)
