"""`predict`: a trained student at work, on a few texts or a file of any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from potstill.bundle.bundle import Prediction
    from potstill.run import ProgressReporter


@dataclass(frozen=True)
class PredictResult:
    """What `predict` made: what the student says of each text (or pair), or the file it was written to."""

    texts: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    label_sets: tuple[tuple[str, ...], ...] = ()
    file: Path | None = None
    n: int = 0
    notes: tuple[str, ...] = ()
    multi: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each text; of several, separated by commas, and a dash for none."""
        return tuple(", ".join(one.labels) or "–" if self.multi else one.label for one in self.predictions)

    def to_json(self) -> dict[str, Any]:
        """One object a text, or the file's name and what was noticed."""
        if self.file is not None:
            return {"file": str(self.file), "n": self.n, "notes": list(self.notes)}
        said: list[dict[str, Any]] = [
            {
                "text": text,
                "label": one.label,
                "confidence": one.probability,
                "sure": one.confident,
                "in_scope": one.in_scope,
            }
            for text, one in zip(self.texts, self.predictions, strict=True)
        ]
        for own, one in zip(said, self.predictions, strict=True):
            if self.multi:
                own["labels"] = list(one.labels)
        for own, labels in zip(said, self.label_sets, strict=False):
            own["label_set"] = list(labels)
        return {"predictions": said}

    def to_text(self) -> str:
        """One line a text: label, confidence, a question mark where the student is not sure, text."""
        if self.file is not None:
            return "\n".join([f"{self.n} texts labelled in {self.file}.", *self.notes])
        labels = self.labels
        width = max(map(len, labels), default=0)
        lines = []
        for nth, (text, one) in enumerate(zip(self.texts, self.predictions, strict=True)):
            doubt = "?" if one.confident is False or not one.in_scope else " "
            lines.append(f"{labels[nth]:<{width}}  {one.probability:6.1%} {doubt} {' '.join(text.split())[:80]}")
            if self.label_sets:
                lines.append(f"{'':<{width}}   among {', '.join(self.label_sets[nth])}")
        if any(one.confident is False or not one.in_scope for one in self.predictions):
            lines.append("? = the student is not sure, or the text is unlike those it was checked on.")
        return "\n".join(lines)


def predict(
    model: Annotated[Path, "A run's folder, or a bundle's."],
    *texts: Annotated[str, "Texts to label; or one file."],
    out: Annotated[Path | None, "Where a file's labels go; else FILE.labelled.EXT.", "-o"] = None,
    text: Annotated[str | None, "The column with the text, or of pairs both: first,second; else guessed."] = None,
    encoding: Annotated[str | None, "The file's encoding, when it is not UTF-8."] = None,
    coverage: Annotated[float | None, "Also give the labels among which the right one is this often (0.9)."] = None,
    reporter: ProgressReporter | None = None,
) -> PredictResult:
    """Label texts, or a file of any size, with a trained student.

    A file (CSV, TSV, JSON Lines, Parquet) keeps its columns and gets `predicted` and `confidence`, and where the
    student was measured on held-out texts `sure` and `in_scope`. Rows that cannot be read are left out and told with
    their line. The same command continues what was stopped.

    A student that compares two texts takes the texts two by two: the first with the second, the third with the fourth.

    Raises:
        NotARun: the folder holds no bundle.
        BadData: the file cannot be read, or has no such column.
        BadInput: there is nothing to label, a text has none to be compared with, or no coverage can be promised.
    """
    from potstill.bundle.bundle import load
    from potstill.bundle.label_file import label_file, names_a_table
    from potstill.data.pairs import join_pair
    from potstill.errors import BadInput

    if not texts:
        raise BadInput("There is nothing to label.", "Give a text in quotes, or a file.")
    bundle = load(model)
    if len(texts) == 1 and names_a_table(texts[0]):
        progress = None if reporter is None else partial(reporter.progress, "Labelling")
        file = Path(texts[0])
        done = label_file(bundle, file, out=out, column=text, encoding=encoding, coverage=coverage, progress=progress)
        return PredictResult(file=done.file, n=done.n, notes=done.notes)
    if bundle.takes_pairs:
        if len(texts) % 2:
            raise BadInput(
                f"This student compares two texts, and {len(texts)} cannot be taken two by two.",
                "Give the second one, too.",
            )
        texts = tuple(join_pair(one, other) for one, other in zip(texts[::2], texts[1::2], strict=True))
    logits = bundle.predict_logits(texts)
    sets = () if coverage is None else tuple(bundle.prediction_sets(logits, coverage))
    return PredictResult(texts, tuple(bundle.predictions_from_logits(logits)), sets, multi=bundle.multilabel)
