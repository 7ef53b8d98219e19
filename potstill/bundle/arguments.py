"""What the arguments of `predict` are: texts, files, or standard input; what looks like a path is never a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from potstill.data.paths import as_path
from potstill.data.tables import (
    COMPRESSION_SUFFIXES,
    STANDARD_INPUT,
    WRITABLE,
    Format,
    ReadOptions,
    check_path,
    file_head,
    is_stream,
    looks_like_table,
    stored_stream,
    stream_rows,
)
from potstill.errors import BadData, BadInput

MAX_PATH = 1024  # characters; a longer argument is a text
HEAD_BYTES = 65_536  # of standard input, that show its format
_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,9}")


def find_files(
    arguments: Sequence[str | Path],
    *,
    out: Path | None,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    reading: Callable[[Path, ReadOptions], ReadOptions] = lambda path, read: read,
) -> tuple[Path, ...]:
    """The arguments as files; empty if they are texts.

    Args:
        arguments: texts or files.
        out: the output file, if one is named.
        read: how the user says that the files are read.
        reading: a file that exists, and `read` -> how it is read.

    Raises:
        BadData: a file does not exist, or is no table that can be read.
        BadInput: files and texts are mixed, or texts and an output file.
    """
    paths = [_as_path(each) for each in arguments]
    files = tuple(path for path in paths if path is not None)
    if len(files) < len(paths) and (files or out is not None):
        text = arguments[paths.index(None)]
        what = f"-o {out} is given" if out is not None else f"{files[0]} is a file"
        raise BadInput(f"There is no file {str(text)[:60]!r}, and {what}.", "Give files alone, or texts without -o.")
    for path in files:
        if not is_stream(path):
            check_path(path)
            _check_table(path, reading(path, read))
    if len(files) > 1 and any(map(is_stream, files)):
        raise BadInput("Standard input is read alone.", "Give it without other files.")
    return files


def output_files(files: Sequence[Path], out: Path | None) -> Sequence[Path | None]:
    """The output of each file; None for the default one, beside the file.

    Raises:
        BadInput: several files and one output file, or two outputs of the same name.
    """
    if len(files) == 1 and (out is None or not out.is_dir()):
        return [out]
    if out is not None and not out.is_dir():
        raise BadInput(f"{len(files)} files cannot be written into {out}.", "Give an existing folder with -o.")
    outs = [(out or path.parent) / labelled_name(path) for path in files]
    twice = next((each for each in outs if outs.count(each) > 1), None)
    if twice is not None:
        raise BadInput(f"Two files would be written as {twice}.", "Label them one by one, each with its own -o.")
    return outs if out is not None else [None for _ in files]


def labelled_name(path: Path) -> str:
    """The name of the default output of a file; formats that are read and not written become CSV or JSON Lines."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSION_SUFFIXES else path
    suffix = inner.suffix.lower()
    written = {".json": ".jsonl", ".jsonlines": ".jsonl", ".tab": ".tsv"}.get(suffix, inner.suffix)
    return f"{inner.stem}.labelled{written if written.lower() in WRITABLE else '.csv'}"


@contextmanager
def stored_texts(path: Path, columns: Sequence[str], read: ReadOptions) -> Iterator[tuple[Path, ReadOptions]]:
    """Copy a stream into a temporary file, since a table is read twice; its format is seen by its first bytes.

    One of `columns` in the first line makes it CSV or TSV; an object in the first line JSON Lines; else it is one text
    a line.

    Raises:
        BadData: it is empty, or begins like the header of another table.
    """
    with stored_stream(path) as copy:
        found = read.layout.format or _stream_format(file_head(copy, HEAD_BYTES), columns)
        yield copy, replace(read, layout=replace(read.layout, format=found))


def _stream_format(head: bytes, columns: Sequence[str]) -> Format | None:
    if head.startswith((b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return None  # seen when it is opened
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    first = next(iter(text.lstrip().splitlines()), "")
    if first.startswith("{") and _is_object(first):
        return "jsonl"
    if re.match(r"\[\s*[{\"]", text.lstrip()):
        return "json"
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    cells = [cell.strip().strip('"').strip() for cell in first.split(delimiter)]
    if set(cells) & set(columns):
        return "tsv" if delimiter == "\t" else "csv"
    if columns and len(cells) > 1 and all(cell and " " not in cell for cell in cells):
        wanted = " and ".join(map(repr, columns))
        raise BadData(
            f"Standard input begins like a table without {wanted}: {first[:60]!r}.",
            "Name its column of texts with --text COLUMN; if it has one text a line: --format txt",
        )
    return "txt"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _as_path(argument: str | Path) -> Path | None:
    """The argument as a path if it exists or looks like one; None if it is a text."""
    if isinstance(argument, Path):
        return as_path(argument)
    if not isinstance(argument, str):
        raise BadInput(f"A {type(argument).__name__} is not a text.", "Give it to the bundle: load(MODEL).predict(...)")
    if len(argument) > MAX_PATH or not argument.strip(" .") or re.search(r"[\n\r\0]|://", argument):
        return None
    path = Path(argument)
    suffix = path.suffix.lower()
    if argument.startswith("~"):
        path = as_path(path)
    try:
        if argument == STANDARD_INPUT or path.exists():
            return path
    except OSError:  # a name that no file can have; it may look like a path all the same
        pass
    if " " in argument:
        return None
    in_folder = "/" in argument and (_SUFFIX.fullmatch(suffix) or "*" in argument)
    table = looks_like_table(path) or suffix in COMPRESSION_SUFFIXES or suffix == ".numbers"
    return path if in_folder or table or argument.startswith(("/", "./", "../", "~/")) else None


def _check_table(path: Path, read: ReadOptions) -> None:
    rows = stream_rows(path, encoding=read.encoding, layout=read.layout, on_bad=lambda bad: None)
    with closing(rows):  # type: ignore[type-var]
        next(rows, None)
