"""A file of texts -> the same file with labels, of any size, by a trained student.

The file is read twice: once to scan it, so that an error of reading comes before the first prediction, and once to
label it, a block at a time. The predictions of each block are stored in a journal beside the output; the same command
continues a job that was stopped, and the output appears whole or not at all.

In a multi-label task `predicted` holds all labels of a text: a list, or in CSV separated by "|". In a task of entities
it holds their list, in CSV as JSON, and the answer where a text is answered in words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

from potstill.bundle.arguments import labelled_name
from potstill.bundle.bundle import Bundle
from potstill.bundle.entity_bundle import EntityBundle
from potstill.bundle.form_bundle import no_label_sets
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.bundle.journal import Journal, content_key, not_own_error
from potstill.bundle.load import AnyBundle
from potstill.bundle.record import RECORD_FILE, sha256
from potstill.bundle.remembered_layout import reading_of
from potstill.bundle.text_columns import TextColumns, choose_text_columns, table_head
from potstill.data.atomic import atomic_file
from potstill.data.label_sets import format_labels
from potstill.data.pairs import join_pair
from potstill.data.tables import (
    BytesText,
    Layout,
    OutputDialect,
    ReadOptions,
    Row,
    bytes_error,
    columns_as_text,
    dialect_like,
    stream_rows,
    write_table,
)
from potstill.data.task import JsonObject
from potstill.errors import BadData

BLOCK = 4096  # rows in memory at once
ANY_TEXT = '",;|\t\r\n\u4e2d'  # an answer in words may have any character
MAX_BAD_ROWS_SHOWN = 5  # bad rows named in the notes
GUESS_ROWS = 200  # rows to guess the text column from, if it must be
PARQUET = ".parquet"
TYPED_SUFFIXES = (".jsonl", ".ndjson", PARQUET)  # keep numbers, truths and lists as they are
BAD_ROW = re.compile(rb"(line|row) [\d,]+ ")  # what a line of the list of bad rows begins with
RowProgress = Callable[[float, float], None]


class LabelFileOptions(TypedDict, total=False):
    """How a file is read and written.

    Attributes:
        read: encoding, layout, and whether a bad row is left out and listed (the default) or an error.
        coverage: share of the texts whose `label_set` contains the right label, as in `Bundle.predict_sets`.
        guard_formulas: write a quote before cells of CSV that a spreadsheet would read as a formula.
    """

    read: ReadOptions
    coverage: float | None
    guard_formulas: bool


@dataclass(frozen=True)
class LabelFileResult:
    """The file written, the number of its rows, the columns that were read, and notes for the reader."""

    file: Path
    n: int
    text_columns: TextColumns
    notes: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """A JSON object with the file's name, its rows, what was read, and the notes."""
        return {"file": str(self.file), "n": self.n, "read_from": str(self.text_columns), "notes": list(self.notes)}

    def to_text(self) -> str:
        """One line, and one for each note."""
        texts = "1 text" if self.n == 1 else f"{self.n} texts"
        return "\n".join([f"{texts} of {self.text_columns} labelled in {self.file}.", *self.notes])


def label_file(
    bundle: AnyBundle,
    path: Path,
    *,
    out: Path | None = None,
    columns: Sequence[str] = (),
    progress: RowProgress | None = None,
    **options: Unpack[LabelFileOptions],
) -> LabelFileResult:
    """Read `path`, add the predictions for each row, write it; continue where an earlier attempt was stopped.

    The new columns are `predicted` and `confidence`; `confident` if the bundle has an abstain threshold, `in_scope` if
    it was calibrated on held-out texts, and `label_set` with a `coverage`. A row that cannot be read is left out and
    listed in `OUT.bad.txt`, with its line.

    Args:
        bundle: the trained student.
        path: the table.
        out: where to write; its suffix gives the format. Without it `NAME.labelled.EXT` beside the file.
        columns: the text column, or in a pair task both; empty takes those the student was trained on.
        progress: called with the number of rows done and of all rows.
        options: see `LabelFileOptions`.

    Raises:
        BadData: the file cannot be read or has no such column; nothing was written.
        BadInput: a coverage that the bundle cannot guarantee.
    """
    out = out or path.with_name(labelled_name(path))
    if out.resolve() == path.resolve():
        raise BadData(f"Output and input are the same file: {out}.", "Give another one with -o.")
    read, coverage = options.get("read", ReadOptions()), options.get("coverage")
    if coverage is not None and not isinstance(bundle, Bundle):
        raise no_label_sets(bundle.form)
    if coverage is not None and isinstance(bundle, Bundle):
        bundle.predict_sets([], coverage)  # refuses before anything is read
    reading = reading_of(path, bundle.record, columns, read)
    read = reading.options
    scan = _scan(path, out, read)
    typed = out.suffix.lower() in TYPED_SUFFIXES
    cells = _cells(bundle, coverage, typed=typed)
    available = tuple(name for name in scan.columns if name not in scan.of_bytes)
    if binary := scan.of_bytes.intersection(columns or bundle.record.text_columns):
        raise bytes_error(path.name, min(binary), available)
    text_columns = choose_text_columns(
        bundle.record, path.name, available, columns, lambda: table_head(scan.head, available, path.name)
    )
    dialect = _dialect(path, scan, out, bundle, coverage)
    notes = [
        *([reading.note] if reading.note else []),
        *_notes(path, scan, cells, out),
        *([dialect.note] if dialect and dialect.note else []),
    ]
    job = {"record": sha256(bundle.folder / RECORD_FILE), "graph": bundle.graph, "columns": cells.columns}
    counts = _RowCounts(truncated=-bundle.truncated, unknown=-bundle.unknown)
    with Journal(out.with_name(f"{out.name}.part"), job | {"coverage": coverage}) as journal:
        rows = (row for _, row in _rows(path, read, lambda bad: None))
        labelled = _with_progress(_labelled(rows, text_columns, cells, journal, counts), scan.n, progress)
        originals = [name for name in scan.columns if name not in cells.columns]
        n = write_table(
            out,
            [*originals, *cells.columns],
            labelled,
            schema_from=path,
            new_columns=cells.columns,
            dialect=dialect,
            guard_formulas=options.get("guard_formulas", False),
        )
        journal.finish()
    counts.truncated += bundle.truncated
    counts.unknown += bundle.unknown
    return LabelFileResult(out, n, text_columns, (*notes, *counts.sentences(), *cells.sentences()))


@dataclass
class _FileScan:
    """The first reading of the file: columns in order of appearance, rows, bad rows, the first rows, and notes."""

    columns: dict[str, None] = field(default_factory=dict)
    n: int = 0
    bad: list[str] = field(default_factory=list)
    n_bad: int = 0
    head: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)
    of_bytes: set[str] = field(default_factory=set)


@dataclass
class _RowCounts:
    empty: int = 0
    found: int = 0
    truncated: int = 0
    unknown: int = 0

    def sentences(self) -> Iterator[str]:
        """What the reader should know of the texts."""
        if self.truncated:
            yield f"{self.truncated:,} of the texts were too long and were not read as a whole."
        if self.unknown:
            yield (
                f"{self.unknown:,} of the texts are mostly characters that the student's vocabulary lacks: their "
                "labels are guesses."
            )
        if self.empty:
            yield f"{self.empty} of the texts were empty."
        if self.found:
            yield f"{self.found:,} rows had been labelled before the last attempt was stopped."


class _Cells(Protocol):
    """The predictions for a block of texts as the cells of the new columns."""

    columns: list[str]

    def of(self, texts: Sequence[str]) -> list[list[Any]]:
        """A list of cells for each text."""

    def sentences(self) -> Iterator[str]:
        """What the reader should know of the predictions."""
        yield from ()


def _cells(bundle: AnyBundle, coverage: float | None, *, typed: bool) -> _Cells:
    if isinstance(bundle, EntityBundle):
        return _EntityCells(bundle, typed=typed)
    return _AnswerCells(bundle) if isinstance(bundle, FreeTextBundle) else _PredictionCells(bundle, coverage, typed)


class _AnswerCells(_Cells):
    """The answer to a text, and the confidence in it."""

    def __init__(self, bundle: FreeTextBundle) -> None:
        self._bundle = bundle
        self._n_cut = 0
        self.columns = ["predicted", "confidence"]

    def of(self, texts: Sequence[str]) -> list[list[Any]]:
        answers = list(self._bundle.iter_answers(texts))
        self._n_cut += sum(not each.complete for each in answers)
        return [[each.text, round(each.confidence, 4)] for each in answers]

    def sentences(self) -> Iterator[str]:
        if self._n_cut:
            limit = self._bundle.preprocessor.prompt.max_tokens
            yield f"{self._n_cut:,} of the answers end at the limit of {limit} tokens."


class _EntityCells(_Cells):
    """The entities of a text as a list of objects, and the least confidence in one of them."""

    def __init__(self, bundle: EntityBundle, *, typed: bool) -> None:
        self._bundle, self._typed = bundle, typed
        self.columns = ["predicted", "confidence"]

    def of(self, texts: Sequence[str]) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for found in self._bundle.predict(texts):
            listed = [each.to_json() for each in found]
            least = min((each.confidence for each in found), default=None)
            shown = listed if self._typed else json.dumps(listed, ensure_ascii=False)
            rows.append([shown, None if least is None else round(least, 4)])
        return rows


class _PredictionCells(_Cells):
    """The predictions for a block of texts as the cells of the new columns."""

    def __init__(self, bundle: Bundle, coverage: float | None, typed: bool) -> None:
        self._bundle, self._coverage, self._typed = bundle, coverage, typed
        self.columns = ["predicted", "confidence"]
        self.columns += ["confident"] if bundle.threshold is not None else []
        self.columns += ["in_scope"] if bundle.guarantees is not None else []
        self.columns += ["label_set"] if coverage is not None else []

    def of(self, texts: Sequence[str]) -> list[list[Any]]:
        """A list of cells for each text."""
        logits = self._bundle.predict_logits(texts)
        sets = [()] * len(texts) if self._coverage is None else self._bundle.prediction_sets(logits, self._coverage)
        rows = []
        for one, labels in zip(self._bundle.predictions_from_logits(logits), sets, strict=True):
            every = {
                "predicted": self._label_list(one.labels) if self._bundle.multilabel else one.label,
                "confidence": round(one.probability, 4),
                "confident": one.confident,
                "in_scope": one.in_scope,
                "label_set": list(labels),
            }
            rows.append([self._cell(every[name]) for name in self.columns])
        return rows

    def _label_list(self, labels: tuple[str, ...]) -> Any:
        return list(labels) if self._typed else format_labels(labels)

    def _cell(self, value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list) and not self._typed else value


def _rows(
    path: Path, read: ReadOptions, on_bad: Callable[[str], None], scan: _FileScan | None = None
) -> Iterator[tuple[int, Row]]:
    """The rows with their lines; each bad one is passed to `on_bad`, or with `on_bad_row="error"` raises."""
    return stream_rows(
        path,
        encoding=read.encoding,
        layout=read.layout,
        on_bad=None if read.on_bad_row == "error" else on_bad,
        on_note=None if scan is None else scan.notes.append,
        on_layout=None if scan is None else scan.layouts.append,
    )


def _dialect(path: Path, scan: _FileScan, out: Path, bundle: AnyBundle, coverage: float | None) -> OutputDialect | None:
    """How a CSV or TSV output is written; None for other formats."""
    if out.suffix.lower() not in (".csv", ".tsv"):
        return None
    if isinstance(bundle, FreeTextBundle):
        return dialect_like(path, scan.layouts[0], out.suffix, [ANY_TEXT], added_have="answers may have")
    several = "|" if isinstance(bundle, Bundle) and bundle.multilabel else ""
    listed = isinstance(bundle, EntityBundle) or coverage is not None
    added = [*bundle.labels, several, json.dumps(["", ""]) if listed else ""]
    return dialect_like(path, scan.layouts[0], out.suffix, added)


def _scan(path: Path, out: Path, read: ReadOptions) -> _FileScan:
    """Read the file once; bad rows are written beside the output, since there may be many."""
    scan = _FileScan()
    beside = out.with_name(f"{out.name}.bad.txt")
    if not out.parent.is_dir():
        raise BadData(f"There is no folder {out.parent} to write {out.name} into.", "Make the folder first.")
    _check_own(beside)
    typed = path.suffix.lower() == PARQUET
    with atomic_file(beside) as unfinished, unfinished.open("w", encoding="utf-8", errors="replace") as handle:

        def on_bad(bad: str) -> None:
            scan.n_bad += 1
            handle.write(f"{bad}\n")
            if len(scan.bad) < MAX_BAD_ROWS_SHOWN:
                scan.bad.append(bad)

        for _, row in _rows(path, read, on_bad, scan):
            scan.n += 1
            if row.keys() != scan.columns.keys():
                scan.columns.update(dict.fromkeys(row))
            if typed:
                scan.of_bytes.update(name for name, cell in row.items() if type(cell) is BytesText)
            if len(scan.head) < GUESS_ROWS:
                scan.head.append(row)
    if not scan.n_bad:
        beside.unlink(missing_ok=True)
    if not scan.n:
        what = (
            f"none of its {scan.n_bad:,} rows can be read ({'; '.join(scan.bad)})" if scan.n_bad else "it has no rows"
        )
        mend = "Correct them, or say how the file is laid out: --delimiter CHARACTER --quotes text --skip-rows N"
        raise BadData(f"{path} cannot be labelled: {what}.", mend if scan.n_bad else "Give a file with texts.")
    return scan


def _check_own(beside: Path) -> None:
    """Raise BadData unless the list of bad rows is absent or an earlier list."""
    if beside.is_symlink():
        raise not_own_error(beside, "is a symbolic link")
    if beside.exists():
        with beside.open("rb") as handle:
            head = handle.read(64)
        if head and not BAD_ROW.match(head):
            raise not_own_error(beside, "exists and is no list of bad rows")


def _notes(path: Path, scan: _FileScan, cells: _Cells, out: Path) -> Iterator[str]:
    if scan.n_bad:
        more = f" and {scan.n_bad - len(scan.bad):,} more" if scan.n_bad > len(scan.bad) else ""
        rows = f"{scan.n_bad:,} bad row{'s' * (scan.n_bad != 1)}"
        yield f"{rows} left out: {'; '.join(scan.bad)}{more} (all in {out.name}.bad.txt)."
    yield from scan.notes
    if out.suffix.lower() != PARQUET:
        for name in sorted(scan.of_bytes):
            yield f"The column {name!r} holds bytes, not text; they are written as base64."
    elif path.suffix.lower() == PARQUET and (as_text := columns_as_text(path)):
        yield f"Written as text: {', '.join(as_text)}."
    over = [name for name in cells.columns if name in scan.columns]
    if over:
        yield f"Written over: the file had {', '.join(over)} already."


def _labelled(
    rows: Iterator[Row], columns: TextColumns, cells: _Cells, journal: Journal, counts: _RowCounts
) -> Iterator[Row]:
    while block := list(islice(rows, BLOCK)):
        parts = columns.texts(block)
        counts.empty += sum(not all(map(str.strip, each)) for each in parts)
        texts = [join_pair(*each) if len(each) == 2 else each[0] for each in parts]
        key = content_key(texts)
        added = journal.find(key)
        if added is None:
            added = cells.of(texts)
            journal.add(key, added)
        else:
            counts.found += len(block)
        for row, values in zip(block, added, strict=True):
            yield {**row, **dict(zip(cells.columns, values, strict=True))}


def _with_progress(rows: Iterator[Row], n: int, progress: RowProgress | None) -> Iterator[Row]:
    for done, row in enumerate(rows, 1):
        yield row
        if progress is not None and (done % BLOCK == 0 or done == n):
            progress(done, n)
