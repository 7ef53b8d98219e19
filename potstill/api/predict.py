"""`predict`: labels for a few texts, or for a file of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from potstill.bundle.bundle import Prediction
    from potstill.data.task import JsonObject
    from potstill.run import ProgressReporter


@dataclass(frozen=True)
class PredictResult:
    """The predictions for some texts (or pairs), or the file they were written to."""

    texts: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    label_sets: tuple[tuple[str, ...], ...] = ()
    file: Path | None = None
    n: int = 0
    notes: tuple[str, ...] = ()
    read_from: str = ""
    multilabel: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each text; in a multi-label task its labels separated by commas, and a dash for none."""
        return tuple(", ".join(one.labels) or "–" if self.multilabel else one.label for one in self.predictions)

    def to_json(self) -> JsonObject:
        """One object a text, or the file's name with the number of rows and the notes."""
        if self.file is not None:
            return {"file": str(self.file), "n": self.n, "read_from": self.read_from, "notes": list(self.notes)}
        return {"predictions": list(self._objects())}

    def _objects(self) -> Iterator[JsonObject]:
        for row, (text, one) in enumerate(zip(self.texts, self.predictions, strict=True)):
            labels = {"labels": list(one.labels)} if self.multilabel else {}
            sets = {"label_set": list(self.label_sets[row])} if self.label_sets else {}
            yield {
                "text": text,
                "label": one.label,
                "confidence": one.probability,
                "confident": one.confident,
                "in_scope": one.in_scope,
                **labels,
                **sets,
            }

    def to_text(self) -> str:
        """One line a text: label, confidence, a question mark where the student is not confident, text."""
        if self.file is not None:
            return "\n".join([f"{self.n} texts of {self.read_from} labelled in {self.file}.", *self.notes])
        width = max(map(len, self.labels), default=0)
        lines = []
        for row, (text, label, one) in enumerate(zip(self.texts, self.labels, self.predictions, strict=True)):
            mark = "?" if one.confident is False or not one.in_scope else " "
            lines.append(f"{label:<{width}}  {one.probability:6.1%} {mark} {' '.join(text.split())[:80]}")
            if self.label_sets:
                lines.append(f"{'':<{width}}   among {', '.join(self.label_sets[row])}")
        if any(one.confident is False or not one.in_scope for one in self.predictions):
            lines.append("? = the student is not confident, or the text is unlike its held-out texts.")
        return "\n".join(lines)


def predict(
    model: Annotated[Path, "A run's folder, or a bundle's."],
    *texts: Annotated[str, "Texts to label; or one file."],
    out: Annotated[Path | None, "The file to write; else FILE.labelled.EXT.", "-o"] = None,
    text: Annotated[str | None, "The column with the text; else the one the student was trained on."] = None,
    text_b: Annotated[str | None, "The column with the second text, if the student compares pairs."] = None,
    encoding: Annotated[str | None, "The file's encoding, if it is not UTF-8."] = None,
    coverage: Annotated[float | None, "Also give a set of labels that contains the right one this often (0.9)."] = None,
    reporter: ProgressReporter | None = None,
) -> PredictResult:
    """Label texts, or a file of any size, with a trained student.

    A file (CSV, TSV, JSON Lines, Parquet) is read by the column that the student was trained on, keeps its columns and gets `predicted` and `confidence`, and where the
    student was calibrated on held-out texts `confident` and `in_scope`. Rows that cannot be read are left out and
    listed with their line. The same command continues a job that was stopped.

    In a pair task the texts are taken two by two: the first with the second, the third with the fourth.

    Raises:
        RunNotFound: the folder holds no bundle.
        BadData: the file cannot be read, or has no such column.
        BadInput: there is nothing to label, the last pair lacks a text, or no coverage can be guaranteed.
    """
    from potstill.bundle.bundle import load
    from potstill.bundle.label_file import label_file, names_a_table
    from potstill.bundle.text_columns import named_columns
    from potstill.data.pairs import join_pair
    from potstill.errors import BadInput

    if not texts:
        raise BadInput("There is nothing to label.", "Give a text in quotes, or a file.")
    bundle = load(model)
    if len(texts) == 1 and names_a_table(texts[0]):
        progress = None if reporter is None else partial(reporter.progress, "Labelling")
        file = Path(texts[0])
        columns = named_columns(text, text_b, pairs=bundle.takes_pairs)
        done = label_file(
            bundle, file, out=out, columns=columns, encoding=encoding, coverage=coverage, progress=progress
        )
        return PredictResult(file=done.file, n=done.n, notes=done.notes, read_from=str(done.text_columns))
    if bundle.takes_pairs:
        if len(texts) % 2:
            raise BadInput(
                f"This student compares two texts, and {len(texts)} cannot be taken two by two.",
                "Give the second one, too.",
            )
        texts = tuple(join_pair(one, other) for one, other in zip(texts[::2], texts[1::2], strict=True))
    logits = bundle.predict_logits(texts)
    sets = () if coverage is None else tuple(bundle.prediction_sets(logits, coverage))
    return PredictResult(texts, tuple(bundle.predictions_from_logits(logits)), sets, multilabel=bundle.multilabel)
