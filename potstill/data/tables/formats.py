"""Which format a file has: by its first bytes where they say it, else by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from potstill.data.tables.header import has_header_word
from potstill.data.tables.layout import FORMATS, Format, Guess
from potstill.data.tables.row_lines import is_row, split_line
from potstill.errors import BadData, BadSpec, did_you_mean

# suffix -> what it holds, in messages
FILE_FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".xlsx": "an Excel workbook",
    ".txt": "one text a line",
    ".conll": "a word and its tag a line",
}
COMPRESSION_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "excel"),
    ".txt": "txt",
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2", ".bioes", ".ner"), "conll"),
}
_OLE = b"\xd0\xcf\x11\xe0"  # .xls, and .xlsx with a password
_BINARY = (
    (b"%pdf", "a PDF document"),
    (b"{\\rtf", "a document of a word processor"),
    (b"sqlite format 3", "a SQLite database"),
    (b"arrow1", "an Arrow file"),
    (b"\x89png", "an image"),
)
_MARKUP = ((b"<!doctype", "a web page"), (b"<html", "a web page"), (b"<?xml", "XML"))
_SAMPLE_LINES = 50


def is_workbook(path: Path) -> bool:
    """Whether a zip archive is a workbook of Excel or LibreOffice."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    return any(name.startswith("xl/") for name in names) or {"mimetype", "content.xml"} <= names


def find_format(
    shown: str, inner_name: str, head: bytes, named: str | None, *, is_stream: bool = False
) -> tuple[Format, Guess | None]:
    """The format of a file, and the guess if its name does not say it.

    Args:
        shown: the file's name, for messages.
        inner_name: its name when it is unpacked.
        head: its first bytes, unpacked.
        named: the format that the user named.
        is_stream: it has no name of its own, and a text in it is known by its lines.

    Raises:
        BadData: it is no table, or its name does not say what it is.
        BadSpec: there is no such format.
    """
    if named is not None:
        if named not in FORMATS:
            raise BadSpec(f"There is no format {named!r}.", did_you_mean(named, FORMATS))
        return named, None  # type: ignore[return-value]
    suffix = PurePosixPath(inner_name).suffix.lower()
    by_name = SUFFIXES.get(suffix)
    by_bytes = _by_bytes(shown, head, _BINARY if by_name == "txt" else (*_BINARY, *_MARKUP))
    if by_bytes is not None:
        return by_bytes, None if by_bytes == by_name else Guess("format", by_bytes, "by its first bytes")
    if by_name == "excel" or (by_name is None and is_stream):
        return _by_lines(shown, head, is_stream=is_stream)
    if suffix == ".spacy":
        raise BadData(
            f"{shown} is spaCy's binary format, which is not read.",
            "Write its documents as JSON Lines: of each document in DocBin().from_disk(...) its text and its cats.",
        )
    if by_name is None:
        what = f"ends in {suffix!r}" if suffix else "has no suffix"
        hint = f"Save it as one of {', '.join(FILE_FORMATS)}, or name what it holds: --format csv"
        raise BadData(f"{shown} {what}, which is not a supported table.", hint)
    if by_name == "txt" and (n := _tab_cells(head)) > 1:
        return "tsv", Guess("format", "tsv", f"as tabs divide each line into {n} cells; txt is one text a line")
    return by_name, None


def _by_lines(shown: str, head: bytes, *, is_stream: bool) -> tuple[Format, Guess]:
    """The format of a text without a name, or with the name of a workbook, as some programs give it to tables."""
    found = format_of_text(head)
    if found == "txt" and not is_stream:
        raise BadData(f"{shown} is no workbook by its first bytes.", f"Save it as one of {', '.join(FILE_FORMATS)}.")
    return found, Guess("format", found, "by its lines")


def _by_bytes(shown: str, head: bytes, others: Sequence[tuple[bytes, str]]) -> Format | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", _OLE)):
        return "excel"
    start = head.lstrip()[:20].lower()
    what = next((what for magic, what in others if start.startswith(magic)), "")
    if head[257:262] == b"ustar":
        raise BadData(f"{shown} is an archive (tar).", "Unpack it (tar -xf FILE) and give a table that is in it.")
    if what:
        raise BadData(f"{shown} is {what} by its first bytes.", f"Save it as one of {', '.join(FILE_FORMATS)}.")
    return None


def format_of_text(head: bytes) -> Format:
    """What a text without a name holds: JSON by its first character, else CSV or TSV, or one text a line.

    A table is one whose first line has words of a header, or whose lines all have as many cells, two at least and
    without a blank at the start of a cell.
    """
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if utf16 else "utf-8-sig", "replace").lstrip()
    if text.startswith("{"):
        return "jsonl"
    if text.startswith("[") and text[1:].lstrip()[:1] in ("{", '"', "]"):
        return "json"
    lines = [line for line in text.splitlines()[:_SAMPLE_LINES] if line.strip()]
    lines = lines[:-1] if len(head) > 60_000 and len(lines) > 1 else lines  # the last one may be cut off
    for delimiter in ("\t", ",", ";", "|"):
        width = len(split_line(lines[0], delimiter)) if lines else 0
        same = sum(is_row(line, delimiter, width) or len(split_line(line, delimiter)) == width for line in lines)
        whole = is_row(lines[0], delimiter, width) if lines else False
        header = whole and has_header_word(split_line(lines[0], delimiter))
        if width > 1 and whole and len(lines) > 1 and (header or same == len(lines)):
            return "tsv" if delimiter == "\t" else "csv"
    return "txt"


def _tab_cells(head: bytes) -> int:
    """The number of cells that tabs divide each line into; 1 if the lines differ."""
    lines = [line for line in head.splitlines()[:_SAMPLE_LINES] if line.strip()]
    widths = {line.count(b"\t") + 1 for line in (lines[:-1] if len(lines) > 2 else lines)}
    return widths.pop() if len(widths) == 1 and len(lines) > 2 else 1
