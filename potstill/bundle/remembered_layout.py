"""Reads a file like the one a student was trained on where it can be read so and not by itself.

A file without a header, with lines above it, or in another encoding, whose flags were given when the student was
trained, need not be named again. What the user names, and what the file shows by itself, comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.bundle.record import BundleRecord
from potstill.data.tables import Layout, ReadOptions, is_stream, stream_rows
from potstill.errors import BadInput


@dataclass(frozen=True)
class FileReading:
    """How a file is read, and a sentence if that is how the training file was read; "" otherwise."""

    options: ReadOptions
    note: str = ""


def reading_of(path: Path, record: BundleRecord, named: Sequence[str], read: ReadOptions) -> FileReading:
    """How `path` is read: as the user says or by itself; if its columns are missing then, like the training file.

    Args:
        path: a file; a stream is read as the user says, since it can be read once only.
        record: of the bundle, with the columns and the layout of the training file.
        named: the columns the user named; empty for the bundle's own.
        read: what the user named of the file.
    """
    if is_stream(path):
        return FileReading(read)
    wanted, known = tuple(named) or record.text_columns, replace(record.layout, format=None, compression="")
    usual = Layout(known.delimiter, "cells", header=True, escape="", encoding="utf-8")
    odd = {key: value for key, value in known.to_json().items() if getattr(usual, key) != value}
    if not wanted or not odd or read.encoding or read.layout != Layout() or _has(path, read, wanted):
        return FileReading(read)
    remembered = replace(read, layout=known)
    if not _has(path, remembered, wanted):
        return FileReading(read)
    shown = ", ".join(f"{key.replace('_', ' ')} {value!r}" for key, value in odd.items())
    flags = ", ".join(f"--{'no-header' if key == 'header' else key.replace('_', '-')}" for key in odd)
    return FileReading(
        remembered,
        f"{path.name} is read like the file that the student was trained on ({shown}); {flags} decide otherwise.",
    )


def _has(path: Path, read: ReadOptions, columns: Sequence[str]) -> bool:
    """Whether the first row of a file, read so, has these columns."""
    try:
        rows = stream_rows(path, encoding=read.encoding, layout=read.layout, on_bad=lambda bad: None)
        with closing(rows):  # type: ignore[type-var]
            first = next(iter(rows), None)
    except BadInput:
        return False
    return first is not None and set(columns) <= first[1].keys()
