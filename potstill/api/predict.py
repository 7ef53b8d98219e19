"""`predict`: labels for a few texts, or for a file of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from potstill.api.table_options import COLUMN, FileOptions, file_reading
from potstill.data.paths import as_path_or_none
from potstill.data.printable import escape_controls

if TYPE_CHECKING:
    from potstill.bundle.bundle import Bundle, Prediction
    from potstill.bundle.label_file import LabelFileOptions, LabelFileResult
    from potstill.data.tables import ReadOptions
    from potstill.data.task import JsonObject
    from potstill.run import ProgressReporter


@dataclass(frozen=True)
class PredictResult:
    """The predictions for some texts (or pairs), or the files they were written to."""

    texts: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    label_sets: tuple[tuple[str, ...], ...] = ()
    files: tuple[LabelFileResult, ...] = ()
    multilabel: bool = False

    @property
    def file(self) -> Path | None:
        """The file that was written, or the first one; None if there is none."""
        return self.files[0].file if self.files else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each text; in a multi-label task its labels separated by commas, and a dash for none."""
        return tuple(", ".join(one.labels) or "–" if self.multilabel else one.label for one in self.predictions)

    def to_json(self) -> JsonObject:
        """One object a text, or a file's name with the number of rows and the notes."""
        files = [each.to_json() for each in self.files]
        if files:
            return files[0] if len(files) == 1 else {"files": files}
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
        if self.files:
            return "\n".join(each.to_text() for each in self.files)
        width = max(map(len, self.labels), default=0)
        lines = []
        for row, (text, label, one) in enumerate(zip(self.texts, self.labels, self.predictions, strict=True)):
            label = escape_controls(label)
            mark = "?" if one.confident is False or not one.in_scope else " "
            lines.append(
                f"{label:<{width}}  {one.probability:6.1%} {mark} {escape_controls(' '.join(text.split())[:80])}"
            )
            if self.label_sets:
                lines.append(f"{'':<{width}}   among {', '.join(self.label_sets[row])}")
        if any(one.confident is False or not one.in_scope for one in self.predictions):
            lines.append("? = the student is not confident, or the text is unlike its held-out texts.")
        return "\n".join(lines)


class PredictOptions(FileOptions, total=False):
    """The options of `predict` besides its main parameters."""

    coverage: Annotated[float | None, "Also give a set of labels that contains the right one this often (0.9)."]
    guard_formulas: Annotated[bool, "Write a quote before CSV cells that a spreadsheet would read as a formula."]


def predict(
    model: Annotated[str | Path, "A run's folder, or a bundle's."],
    *texts: Annotated[str | Path | Any, "Texts to label, files, or - for standard input."],
    out: Annotated[str | Path | None, "The file to write, or a folder; else FILE.labelled.EXT.", "-o"] = None,
    text: Annotated[str | None, "The column with the text; else the one the student was trained on.", COLUMN] = None,
    text_b: Annotated[str | None, "The column with the second text, if the student compares pairs.", COLUMN] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[PredictOptions],
) -> PredictResult:
    """Label texts, or a file of any size, with a trained student.

    A file (CSV, TSV, JSON Lines, Parquet) is read by the column that the student was trained on, keeps its columns and
    gets `predicted` and `confidence`, and where the student was calibrated on held-out texts `confident` and
    `in_scope`. Rows that cannot be read are left out and listed with their line. The same command continues a job that
    was stopped.

    What looks like a path has to be a file: it is never taken for a text. Standard input holds one text a line, or a
    table whose header has the column of the texts.

    From Python the texts may also be a data frame (pandas, polars, Arrow, a data set, a list of dictionaries), read by
    the same column, or a list of texts.

    In a pair task the texts are taken two by two: the first with the second, the third with the fourth.

    Raises:
        RunNotFound: the folder holds no bundle.
        BadData: the file cannot be read, or has no such column.
        BadInput: there is nothing to label, files and texts are mixed, the last pair lacks a text, or no coverage can
            be guaranteed.
    """
    from potstill.bundle.arguments import find_files, output_files
    from potstill.bundle.bundle import load
    from potstill.bundle.remembered_layout import reading_of
    from potstill.bundle.text_columns import named_columns
    from potstill.errors import BadInput

    if not texts:
        raise BadInput("There is nothing to label.", "Give a text in quotes, or a file.")
    out = as_path_or_none(out)
    read = file_reading(options)
    bundle = load(model)
    if len(texts) == 1 and not isinstance(texts[0], str | Path):
        return _predict_given(bundle, texts[0], text=text, text_b=text_b, out=out, coverage=options.get("coverage"))
    columns = named_columns(text, text_b, pairs=bundle.takes_pairs)
    files = find_files(
        texts, out=out, read=read, reading=lambda path, read: reading_of(path, bundle.record, columns, read).options
    )
    if not files:
        strings = tuple(map(str, texts))
        return _predict_texts(bundle, _pairs(strings) if bundle.takes_pairs else strings, options.get("coverage"))
    outs = output_files(files, out)
    job = partial(_predict_file, bundle, columns=columns, options=_labelling(options, read), reporter=reporter)
    done = [job(file, target) for file, target in zip(files, outs, strict=True)]
    if isinstance(done[0], PredictResult):  # of standard input without -o
        return done[0]
    return PredictResult(files=tuple(each for each in done if not isinstance(each, PredictResult)))


def _labelling(options: PredictOptions, read: ReadOptions) -> LabelFileOptions:
    """The options of `label_file` among those of the command."""
    return {
        "read": read,
        "coverage": options.get("coverage"),
        "guard_formulas": bool(options.get("guard_formulas")),
    }


def _predict_given(
    bundle: Bundle, given: Any, *, text: str | None, text_b: str | None, out: Path | None, coverage: float | None
) -> PredictResult:
    """Label a data frame or a list of texts."""
    from potstill.bundle.text_columns import named_columns
    from potstill.bundle.text_inputs import read_inputs
    from potstill.data.pairs import join_pair
    from potstill.errors import BadInput

    if out is not None:
        raise BadInput(f"A {type(given).__name__} is not written to {out}.", "Leave out= away, or give a file.")
    named = named_columns(text, text_b, pairs=bundle.takes_pairs)
    values = read_inputs(given, bundle.record, named)
    texts = (each if isinstance(each, str) or each is None else join_pair(*map(str, each)) for each in values)
    return _predict_texts(bundle, tuple(text or "" for text in texts), coverage)


def _predict_texts(bundle: Bundle, texts: tuple[str, ...], coverage: float | None) -> PredictResult:
    logits = bundle.predict_logits(texts)
    sets = () if coverage is None else tuple(bundle.prediction_sets(logits, coverage))
    return PredictResult(texts, tuple(bundle.predictions_from_logits(logits)), sets, multilabel=bundle.multilabel)


def _predict_file(
    bundle: Bundle,
    file: Path,
    out: Path | None,
    *,
    columns: tuple[str, ...],
    options: LabelFileOptions,
    reporter: ProgressReporter | None,
) -> LabelFileResult | PredictResult:
    """Label a file; a stream without an output file gives its predictions."""
    from potstill.bundle.arguments import stored_texts
    from potstill.bundle.label_file import label_file
    from potstill.bundle.text_columns import read_texts
    from potstill.data.tables import is_stream

    if is_stream(file):
        with stored_texts(file, columns or bundle.record.text_columns, options["read"]) as (stored, read):
            if out is None:
                texts, _ = read_texts(stored, bundle.record, columns, read)
                return _predict_texts(bundle, texts, options.get("coverage"))
            options = {**options, "read": read}
            return _predict_file(bundle, stored, out, columns=columns, options=options, reporter=reporter)
    progress = None if reporter is None else partial(reporter.progress, f"Labelling {file.name}")
    return label_file(bundle, file, out=out, columns=columns, progress=progress, **options)


def _pairs(texts: tuple[str, ...]) -> tuple[str, ...]:
    from potstill.data.pairs import join_pair
    from potstill.errors import BadInput

    if len(texts) % 2:
        raise BadInput(
            f"This student compares two texts, and {len(texts)} texts are not pairs.",
            "Give the second one, too.",
        )
    return tuple(join_pair(one, other) for one, other in zip(texts[::2], texts[1::2], strict=True))
