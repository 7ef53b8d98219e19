"""`predict`: labels for a few texts, or for a file of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from potstill.api.table_options import COLUMN, FileOptions, file_reading
from potstill.data.paths import as_path_or_none
from potstill.data.printable import escape_controls

if TYPE_CHECKING:
    from potstill.bundle.bundle import Prediction
    from potstill.bundle.entity_bundle import EntityBundle, PredictedEntity
    from potstill.bundle.label_file import LabelFileOptions, LabelFileResult
    from potstill.bundle.load import AnyBundle
    from potstill.data.tables import ReadOptions
    from potstill.data.task import JsonObject
    from potstill.models.greedy_decoding import GeneratedAnswer
    from potstill.run import ProgressReporter

TASKS = ".json"  # of an output that is a list of tasks for Label Studio
SHOWN_TEXT = 100  # characters of a text above its entities


@dataclass(frozen=True)
class PredictResult:
    """The predictions for some texts (or pairs), or the files they were written to.

    `entities` are those of a task of entities, `answers` of a task whose texts are answered in words.
    """

    texts: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    label_sets: tuple[tuple[str, ...], ...] = ()
    files: tuple[LabelFileResult, ...] = ()
    multilabel: bool = False
    entities: tuple[tuple[PredictedEntity, ...], ...] | None = None
    answers: tuple[GeneratedAnswer, ...] | None = None

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
        if self.entities is not None:
            found = zip(self.texts, self.entities, strict=True)
            return {"predictions": [{"text": text, "entities": [e.to_json() for e in own]} for text, own in found]}
        if self.answers is not None:
            answered = zip(self.texts, self.answers, strict=True)
            return {"predictions": [_answer_object(text, answer) for text, answer in answered]}
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
        if self.entities is not None:
            return "\n".join(self._entity_lines(self.entities))
        if self.answers is not None:
            return "\n".join(self._answer_lines(self.answers))
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

    def _entity_lines(self, entities: tuple[tuple[PredictedEntity, ...], ...]) -> Iterator[str]:
        """The text, and a line an entity: type, confidence, place, words."""
        width = max((len(each.type) for found in entities for each in found), default=0)
        for text, found in zip(self.texts, entities, strict=True):
            yield escape_controls(" ".join(text.split())[:SHOWN_TEXT])
            for each in found:
                words = escape_controls(" ".join(each.text.split())[:SHOWN_TEXT])
                yield f"  {each.type:<{width}}  {each.confidence:6.1%}  {each.start}-{each.end}  {words}"
            if not found:
                yield "  no entity"

    def _answer_lines(self, answers: tuple[GeneratedAnswer, ...]) -> Iterator[str]:
        """The text, and its answer below."""
        for text, answer in zip(self.texts, answers, strict=True):
            yield escape_controls(" ".join(text.split())[:SHOWN_TEXT])
            cut = "" if answer.complete else "  (cut at the limit of tokens)"
            lines = escape_controls(answer.text).splitlines() or ["(an empty answer)"]
            yield from (f"  {line}" for line in lines[:-1])
            yield f"  {lines[-1]}{cut}"


def _answer_object(text: str, answer: GeneratedAnswer) -> JsonObject:
    cut = {} if answer.complete else {"complete": False}
    return {"text": text, "answer": answer.text, "confidence": round(answer.confidence, 4), **cut}


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

    A student of entities finds spans: a file gets `predicted`, a list of objects with start, end, type, text and
    confidence, and -o FILE.json writes tasks for Label Studio. One that answers in words writes its answers there.

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
    from potstill.bundle.bundle import Bundle
    from potstill.bundle.form_bundle import no_label_sets
    from potstill.bundle.load import load
    from potstill.bundle.remembered_layout import reading_of
    from potstill.bundle.text_columns import named_columns
    from potstill.errors import BadInput

    if not texts:
        raise BadInput("There is nothing to label.", "Give a text in quotes, or a file.")
    out = as_path_or_none(out)
    read = file_reading(options)
    bundle = load(model)
    coverage = options.get("coverage")
    if coverage is not None and not isinstance(bundle, Bundle):
        raise no_label_sets(bundle.form)
    if len(texts) == 1 and not isinstance(texts[0], str | Path):
        return _predict_given(bundle, texts[0], text=text, text_b=text_b, out=out, coverage=coverage)
    pairs = bundle.takes_pairs
    columns = named_columns(text, text_b, pairs=pairs)
    files = find_files(
        texts, out=out, read=read, reading=lambda path, read: reading_of(path, bundle.record, columns, read).options
    )
    if not files:
        strings = tuple(map(str, texts))
        return _predict_texts(bundle, _pairs(strings) if pairs else strings, coverage)
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
    bundle: AnyBundle,
    given: Any,
    *,
    text: str | None,
    text_b: str | None,
    out: Path | None,
    coverage: float | None,
) -> PredictResult:
    """Label a data frame or a list of texts."""
    from potstill.bundle.text_columns import named_columns
    from potstill.bundle.text_inputs import read_inputs
    from potstill.data.pairs import join_pair
    from potstill.errors import BadInput

    if out is not None:
        raise BadInput(f"A {type(given).__name__} is not written to {out}.", "Leave out= away, or give a file.")
    pairs = bundle.takes_pairs
    named = named_columns(text, text_b, pairs=pairs)
    values = read_inputs(given, bundle.record, named)
    texts = (each if isinstance(each, str) or each is None else join_pair(*map(str, each)) for each in values)
    return _predict_texts(bundle, tuple(text or "" for text in texts), coverage)


def _predict_texts(bundle: AnyBundle, texts: tuple[str, ...], coverage: float | None) -> PredictResult:
    from potstill.bundle.entity_bundle import EntityBundle
    from potstill.bundle.free_text_bundle import FreeTextBundle

    if isinstance(bundle, EntityBundle):
        return PredictResult(texts, entities=tuple(bundle.predict(texts)))
    if isinstance(bundle, FreeTextBundle):
        return PredictResult(texts, answers=tuple(bundle.iter_answers(texts)))
    logits = bundle.predict_logits(texts)
    sets = () if coverage is None else tuple(bundle.prediction_sets(logits, coverage))
    return PredictResult(texts, tuple(bundle.predictions_from_logits(logits)), sets, multilabel=bundle.multilabel)


def _predict_file(
    bundle: AnyBundle,
    file: Path,
    out: Path | None,
    *,
    columns: tuple[str, ...],
    options: LabelFileOptions,
    reporter: ProgressReporter | None,
) -> LabelFileResult | PredictResult:
    """Label a file; a stream without an output file gives its predictions."""
    from potstill.bundle.arguments import stored_texts
    from potstill.bundle.entity_bundle import EntityBundle
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
    if isinstance(bundle, EntityBundle) and out is not None and out.suffix.lower() == TASKS:
        return _predict_tasks(bundle, file, out, columns, options["read"])
    progress = None if reporter is None else partial(reporter.progress, f"Labelling {file.name}")
    return label_file(bundle, file, out=out, columns=columns, progress=progress, **options)


def _predict_tasks(
    bundle: EntityBundle, file: Path, out: Path, columns: tuple[str, ...], read: ReadOptions
) -> LabelFileResult:
    """Write the texts of a file as Label Studio's tasks, with the entities as predictions."""
    from potstill.bundle.label_file import LabelFileResult
    from potstill.bundle.text_columns import read_texts
    from potstill.data.atomic import atomic_file
    from potstill.data.entities.label_studio import marked_task
    from potstill.evaluation.text2text.entities import Entity

    texts, found_in = read_texts(file, bundle.record, columns, read)
    tasks = []
    for number, (text, found) in enumerate(zip(texts, bundle.iter_predictions(texts), strict=True), 1):
        entities = tuple(Entity(each.start, each.end, each.type) for each in found)
        tasks.append(marked_task(number, text, entities, [each.confidence for each in found], bundle.record.made_by))
    with atomic_file(out) as path:
        path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8", errors="replace")
    note = 'Import it into a project of Label Studio whose labelling config has <Labels name="label" toName="text">.'
    return LabelFileResult(out, len(texts), found_in, (note,))


def _pairs(texts: tuple[str, ...]) -> tuple[str, ...]:
    from potstill.data.pairs import join_pair
    from potstill.errors import BadInput

    if len(texts) % 2:
        raise BadInput(
            f"This student compares two texts, and {len(texts)} texts are not pairs.",
            "Give the second one, too.",
        )
    return tuple(join_pair(one, other) for one, other in zip(texts[::2], texts[1::2], strict=True))
