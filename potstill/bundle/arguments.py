"""What the arguments of `predict` are: texts, files, or standard input; what looks like a path is never a text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory

from potstill.data.tables import FILE_FORMATS, ReadOptions, stream_rows
from potstill.errors import BadData, BadInput

STANDARD_INPUT = "-"
MAX_PATH = 1024  # characters; a longer argument is a text
HEAD_BYTES = 65_536  # of standard input, that show its format
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
UNPACK = {".gz": "gunzip -c", ".zst": "zstd -dc", ".bz2": "bunzip2 -c", ".xz": "xz -dc", ".zip": "unzip -p"}
_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,9}")


def find_files(
    arguments: Sequence[str | Path],
    *,
    out: Path | None,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> tuple[Path, ...]:
    """The arguments as files; empty if they are texts.

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
            _check_table(path, read)
    if len(files) > 1 and any(map(is_stream, files)):
        raise BadInput("Standard input is read alone.", "Give it without other files.")
    return files


def output_files(files: Sequence[Path], out: Path | None) -> list[Path | None]:
    """The output of each file; None for the default one, beside the file.

    Raises:
        BadInput: several files and one output file, or two outputs of the same name.
    """
    if out is None or (len(files) == 1 and not out.is_dir()):
        return [out for _ in files]
    if not out.is_dir():
        raise BadInput(f"{len(files)} files cannot be written into {out}.", "Give an existing folder with -o.")
    names = [labelled_name(path) for path in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"Two files would be written as {out / twice}.", "Label them one by one, each with its own -o.")
    return [out / name for name in names]


def labelled_name(path: Path) -> str:
    """The name of the default output of a file; formats that are read and not written become CSV or JSON Lines."""
    suffix = {".txt": ".csv", ".json": ".jsonl"}.get(path.suffix.lower(), path.suffix)
    return f"{path.stem}.labelled{suffix}"


def is_stream(path: Path) -> bool:
    """Whether it can be read once only: standard input, or a pipe."""
    if str(path) == STANDARD_INPUT or str(path).startswith("/dev/"):  # /dev/stdin, /dev/fd/63
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def stored_stream(path: Path, columns: Sequence[str]) -> Iterator[Path]:
    """Copy a stream into a temporary file, since a table is read twice; its format is seen by its first bytes.

    One of `columns` in the first line makes it CSV or TSV; an object in the first line JSON Lines; else it is one text
    a line.

    Raises:
        BadData: it is empty, compressed, or begins like the header of another table.
    """
    with TemporaryDirectory(prefix="potstill-") as folder:
        copy = Path(folder) / "standard-input"
        with copy.open("wb") as target:
            if str(path) == STANDARD_INPUT:
                copyfileobj(sys.stdin.buffer, target)
            else:
                with path.open("rb") as source:
                    copyfileobj(source, target)
        with copy.open("rb") as stored:
            head = stored.read(HEAD_BYTES)
        yield copy.rename(copy.with_suffix(_stream_suffix(head, columns)))


def _stream_suffix(head: bytes, columns: Sequence[str]) -> str:
    if not head.strip():
        raise BadData("Standard input is empty.", "Give one text a line, or a table with a header.")
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        raise BadData("Standard input is compressed.", "Unpack it on the way: gunzip -c FILE | potstill predict ...")
    if head.startswith(b"PAR1"):
        return ".parquet"
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    first = text.lstrip().splitlines()[0]
    if first.startswith("{") and _is_object(first):
        return ".jsonl"
    if re.match(r"\[\s*[{\"]", text.lstrip()):
        return ".json"
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    cells = [cell.strip().strip('"').strip() for cell in first.split(delimiter)]
    if set(cells) & set(columns):
        return ".tsv" if delimiter == "\t" else ".csv"
    if columns and len(cells) > 1 and all(cell and " " not in cell for cell in cells):
        wanted = " and ".join(map(repr, columns))
        raise BadData(
            f"Standard input begins like a table without {wanted}: {first[:60]!r}.",
            "Name its column of texts with --text COLUMN; texts without a header go into a .txt file.",
        )
    return ".txt"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _as_path(argument: str | Path) -> Path | None:
    """The argument as a path if it exists or looks like one; None if it is a text."""
    if isinstance(argument, Path):
        return argument.expanduser()
    if not isinstance(argument, str):
        raise BadInput(f"A {type(argument).__name__} is not a text.", "Give it to the bundle: load(MODEL).predict(...)")
    if len(argument) > MAX_PATH or not argument.strip(" .") or re.search(r"[\n\r\0]|://", argument):
        return None
    path = Path(argument)
    suffix = path.suffix.lower()
    if argument.startswith("~"):
        path = path.expanduser()
    try:
        if argument == STANDARD_INPUT or path.exists():
            return path
    except OSError:  # a name that no file can have
        return None
    if " " in argument:
        return None
    in_folder = "/" in argument and (_SUFFIX.fullmatch(suffix) or "*" in argument)
    table = suffix in FILE_FORMATS or suffix in UNPACK or suffix in SPREADSHEETS
    return path if in_folder or table or argument.startswith(("/", "./", "../", "~/")) else None


def _check_table(path: Path, read: ReadOptions) -> None:
    suffix = path.suffix.lower()
    if path.is_file() and suffix in UNPACK:
        command = f"{UNPACK[suffix]} {path} | potstill predict MODEL - -o OUT.csv"
        raise BadData(f"{path.name} is compressed.", f"Unpack it on the way: {command}")
    if path.is_file() and suffix in SPREADSHEETS:
        raise BadData(f"{path.name} is a spreadsheet.", "Save it as CSV in your spreadsheet program, and give that.")
    rows = stream_rows(path, encoding=read.encoding, layout=read.layout, on_bad=lambda bad: None)
    with closing(rows):  # type: ignore[type-var]
        next(rows, None)
