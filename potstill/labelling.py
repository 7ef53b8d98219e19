"""A file of texts -> the same file with labels, of any size, by a trained student."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from potstill.bundle import Bundle
from potstill.errors import BadData
from potstill.guess import guess
from potstill.tables import KINDS, Row, Table, read_table, stream_rows, write_table

BLOCK = 4096  # rows in memory at once


@dataclass(frozen=True)
class Labelled:
    """The file written, how many rows it has, and what a reader must know."""

    file: Path
    n: int
    notes: tuple[str, ...]


def is_file(argument: str) -> bool:
    """True if the argument names a table rather than being a text: it exists, or it looks like nothing else."""
    path = Path(argument) if len(argument) < 1024 and "\n" not in argument else None
    if path is None:
        return False
    return path.suffix.lower() in KINDS and (path.is_file() or " " not in argument)


def label_file(
    bundle: Bundle, path: Path, *, out: Path | None = None, column: str | None = None, encoding: str | None = None
) -> Labelled:
    """Read `path`, add the columns `predicted` and `confidence`, write it.

    Args:
        bundle: the trained student.
        path: the table.
        out: where to write; its suffix says the kind. Without it `NAME.labelled.EXT` beside the file.
        column: the text column; guessed without.
        encoding: when it is not UTF-8.

    Raises:
        BadData: the file cannot be read or has no such column; nothing was written.
    """
    out = out or path.with_suffix(f".labelled{path.suffix}")
    if out.resolve() == path.resolve():
        raise BadData(f"{out} is the file that is read.", "Give another one with -o.")
    column = column or _text_column(path, encoding)
    rows = (row for _, row in stream_rows(path, encoding=encoding))
    first = next(rows, None)
    if first is None:
        raise BadData(f"{path} has no rows.", "Give a file with texts.")
    if column not in first:
        raise BadData(f"{path} has no column {column!r}; there are {', '.join(first)}.", "Name it with --text.")
    empty = 0

    def labelled() -> Iterator[dict[str, Any]]:
        nonlocal empty
        block = [first, *islice(rows, BLOCK - 1)]
        while block:
            texts = [row.get(column) or "" for row in block]
            empty += sum(not text.strip() for text in texts)
            probs = bundle.predict_proba(texts)
            for row, label, confidence in zip(block, probs.argmax(axis=1), probs.max(axis=1), strict=True):
                yield {**row, "predicted": bundle.labels[label], "confidence": round(float(confidence), 4)}
            block = list(islice(rows, BLOCK))

    columns = [name for name in first if name not in ("predicted", "confidence")]
    n = write_table(out, [*columns, "predicted", "confidence"], labelled())
    return Labelled(out, n, (f"{empty} of the texts were empty.",) if empty else ())


def _text_column(path: Path, encoding: str | None) -> str:
    head: list[Row] = [row for _, row in islice(stream_rows(path, encoding=encoding), 200)]
    if not head:
        read_table(path, encoding=encoding)  # says what is wrong with a file without rows
    columns = tuple(head[0]) if head else ()
    return guess(Table.of({name: [row.get(name) for row in head] for name in columns}, path.name)).text
