"""A file of texts -> the same file with labels, of any size, by a trained student.

The file is read twice: first to see what is in it, so that whatever ends the reading ends it before the first
prediction, then to label it, a block at a time. What was said of each block is kept in a journal beside the output;
the same command continues a job that was stopped, and the output appears whole or not at all.

Where a text may have several labels, `predicted` holds all of them: a list, or in CSV separated by "|".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from potstill.bundle.bundle import Bundle
from potstill.bundle.journal import Journal, content_key
from potstill.bundle.record import RECORD_FILE, sha256
from potstill.data.atomic import atomic_file
from potstill.data.column_guess import guess_columns
from potstill.data.label_sets import format_labels
from potstill.data.pairs import join_pair
from potstill.data.tables import FILE_FORMATS, Row, Table, stream_rows, write_table
from potstill.errors import BadData

BLOCK = 4096  # rows in memory at once
MAX_BAD_ROWS_SHOWN = 5  # bad rows named in the notes
GUESS_ROWS = 200  # rows to guess the text column from
TYPED_SUFFIXES = (".jsonl", ".ndjson", ".parquet")  # keep numbers, truths and lists as they are
OUTPUT_SUFFIXES = {".txt": ".csv", ".json": ".jsonl"}  # kinds that are read and not written
RowProgress = Callable[[float, float], None]


@dataclass(frozen=True)
class LabelFileResult:
    """The file written, how many rows it has, and what a reader must know."""

    file: Path
    n: int
    notes: tuple[str, ...]


def names_a_table(argument: str) -> bool:
    """True if the argument names a table rather than being a text: it exists, or it looks like nothing else."""
    path = Path(argument) if len(argument) < 1024 and "\n" not in argument else None
    if path is None:
        return False
    return path.suffix.lower() in FILE_FORMATS and (path.is_file() or " " not in argument)


def label_file(
    bundle: Bundle,
    path: Path,
    *,
    out: Path | None = None,
    column: str | None = None,
    encoding: str | None = None,
    coverage: float | None = None,
    progress: RowProgress | None = None,
) -> LabelFileResult:
    """Read `path`, add what the student says of each row, write it; continue where an earlier attempt was stopped.

    The new columns are `predicted` and `confidence`; `sure` where the bundle has an abstain threshold, `in_scope` where
    it was measured on held-out texts, and `label_set` with a `coverage`. A row that cannot be read is left out and
    told in `OUT.bad.txt`, with its line.

    Args:
        bundle: the trained student.
        path: the table.
        out: where to write; its suffix says the kind. Without it `NAME.labelled.EXT` beside the file.
        column: the text column, or where texts are compared the two columns, "first,second"; guessed without.
        encoding: when it is not UTF-8.
        coverage: how often the right label has to be in `label_set`, as in `Bundle.predict_sets`.
        progress: called with the rows done and the rows there are.

    Raises:
        BadData: the file cannot be read or has no such column; nothing was written.
        BadInput: a coverage that the bundle cannot promise.
    """
    out = out or path.with_suffix(f".labelled{OUTPUT_SUFFIXES.get(path.suffix.lower(), path.suffix)}")
    if out.resolve() == path.resolve():
        raise BadData(f"{out} is the file that is read.", "Give another one with -o.")
    if coverage is not None:
        bundle.predict_sets([], coverage)  # refuses before anything is read
    seen = _survey(path, out, encoding)
    columns = seen.text_columns(path.name, column, bundle.takes_pairs)
    said = _Said(bundle, coverage, typed=out.suffix.lower() in TYPED_SUFFIXES)
    notes = list(_notes(seen, said, out))
    rows = (row for _, row in stream_rows(path, encoding=encoding, on_bad=lambda bad: None))
    record = {"record": sha256(bundle.folder / RECORD_FILE), "graph": bundle.graph, "columns": said.columns}
    counts, too_long = _RowCounts(), bundle.truncated
    with Journal(out.with_name(f"{out.name}.part"), record | {"coverage": coverage}) as journal:
        labelled = _labelled(rows, columns, said, journal, counts)
        told = _with_progress(labelled, seen.n, progress)
        kept = [name for name in seen.columns if name not in said.columns]
        like = path if len(kept) == len(seen.columns) else None  # a column written over has a type of its own
        n = write_table(out, [*kept, *said.columns], told, schema_from=like)
        journal.finish()
    if bundle.truncated > too_long:
        more = bundle.truncated - too_long
        notes.append(f"{more:,} of the texts were longer than the student reads and were not read as a whole.")
    if counts.empty:
        notes.append(f"{counts.empty} of the texts were empty.")
    if counts.found:
        notes.append(f"{counts.found:,} rows had been labelled before the last attempt was stopped.")
    return LabelFileResult(out, n, tuple(notes))


@dataclass
class _FileScan:
    """What the first reading saw: the columns in order of appearance, rows, bad rows, the first rows."""

    columns: dict[str, None] = field(default_factory=dict)
    n: int = 0
    bad: list[str] = field(default_factory=list)
    n_bad: int = 0
    head: list[Row] = field(default_factory=list)

    def text_columns(self, name: str, named: str | None, pairs: bool) -> tuple[str, ...]:
        """The one column with the text, or the two of a pair; `named` by the user or guessed."""
        there = ", ".join(self.columns)
        if named is None:
            cells = {column: [row.get(column) for row in self.head] for column in self.columns}
            found = guess_columns(Table.from_columns(cells, name), pairs=pairs)
            if pairs and not found.text_b:
                raise BadData(
                    f"The student compares two texts, and {name} shows one column of them; there are {there}.",
                    "Name both with --text first,second.",
                )
            return (found.text, *([found.text_b] if found.text_b else []))
        columns = (named,) if not pairs else tuple(each.strip() for each in named.split(","))
        if pairs and len(columns) != 2:
            raise BadData(f"{named!r} is not two columns; there are {there}.", "Name both with --text first,second.")
        for column in columns:
            if column not in self.columns:
                raise BadData(f"{name} has no column {column!r}; there are {there}.", "Name it with --text.")
        return columns


@dataclass
class _RowCounts:
    empty: int = 0
    found: int = 0


class _Said:
    """What the student says of a block of texts, as the cells of the new columns."""

    def __init__(self, bundle: Bundle, coverage: float | None, *, typed: bool) -> None:
        self._bundle, self._coverage, self._typed = bundle, coverage, typed
        self.columns = ["predicted", "confidence"]
        self.columns += ["sure"] if bundle.threshold is not None else []
        self.columns += ["in_scope"] if bundle.guarantees is not None else []
        self.columns += ["label_set"] if coverage is not None else []

    def of(self, texts: Sequence[str]) -> list[list[Any]]:
        """A list of cells for each text."""
        logits = self._bundle.predict_logits(texts)
        sets = [()] * len(texts) if self._coverage is None else self._bundle.prediction_sets(logits, self._coverage)
        cells = []
        for one, labels in zip(self._bundle.predictions_from_logits(logits), sets, strict=True):
            every = {
                "predicted": self._several(one.labels) if self._bundle.multilabel else one.label,
                "confidence": round(one.probability, 4),
                "sure": one.confident,
                "in_scope": one.in_scope,
                "label_set": list(labels),
            }
            cells.append([self._cell(every[name]) for name in self.columns])
        return cells

    def _several(self, labels: tuple[str, ...]) -> Any:
        return list(labels) if self._typed else format_labels(labels)

    def _cell(self, value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list) and not self._typed else value


def _survey(path: Path, out: Path, encoding: str | None) -> _FileScan:
    """Read the file once; bad rows are written beside the output, since there may be many."""
    seen = _FileScan()
    beside = out.with_name(f"{out.name}.bad.txt")
    if not out.parent.is_dir():
        raise BadData(f"There is no folder {out.parent} to write {out.name} into.", "Make the folder first.")
    with atomic_file(beside) as unfinished, unfinished.open("w", encoding="utf-8", errors="replace") as handle:

        def on_bad(bad: str) -> None:
            seen.n_bad += 1
            handle.write(f"{bad}\n")
            if len(seen.bad) < MAX_BAD_ROWS_SHOWN:
                seen.bad.append(bad)

        for _, row in stream_rows(path, encoding=encoding, on_bad=on_bad):
            seen.n += 1
            if row.keys() != seen.columns.keys():
                seen.columns.update(dict.fromkeys(row))
            if len(seen.head) < GUESS_ROWS:
                seen.head.append(row)
    if not seen.n_bad:
        beside.unlink()
    if not seen.n:
        what = (
            f"none of its {seen.n_bad:,} rows can be read ({'; '.join(seen.bad)})" if seen.n_bad else "it has no rows"
        )
        raise BadData(f"{path} cannot be labelled: {what}.", "Give a file with texts.")
    return seen


def _notes(seen: _FileScan, said: _Said, out: Path) -> Iterator[str]:
    if seen.n_bad:
        more = f" and {seen.n_bad - len(seen.bad):,} more" if seen.n_bad > len(seen.bad) else ""
        rows = f"{seen.n_bad:,} bad row{'s' * (seen.n_bad != 1)}"
        yield f"{rows} left out: {'; '.join(seen.bad)}{more} (all in {out.name}.bad.txt)."
    over = [name for name in said.columns if name in seen.columns]
    if over:
        yield f"Written over: the file had {', '.join(over)} already."


def _labelled(
    rows: Iterator[Row], columns: Sequence[str], said: _Said, journal: Journal, counts: _RowCounts
) -> Iterator[Mapping[str, Any]]:
    while block := list(islice(rows, BLOCK)):
        parts = [[row.get(column) or "" for column in columns] for row in block]
        counts.empty += sum(not all(map(str.strip, own)) for own in parts)
        texts = [join_pair(*own) if len(own) == 2 else own[0] for own in parts]
        key = content_key(texts)
        cells = journal.find(key)
        if cells is None:
            cells = said.of(texts)
            journal.add(key, cells)
        else:
            counts.found += len(block)
        for row, own in zip(block, cells, strict=True):
            yield {**row, **dict(zip(said.columns, own, strict=True))}


def _with_progress(
    rows: Iterator[Mapping[str, Any]], n: int, progress: RowProgress | None
) -> Iterator[Mapping[str, Any]]:
    for done, row in enumerate(rows, 1):
        yield row
        if progress is not None and (done % BLOCK == 0 or done == n):
            progress(done, n)
