"""Writes tables that potstill reads and does not write (workbooks, compressed files), and reads those it refuses."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import pytest

from potstill.data.tables import read_table
from potstill.errors import BadData

Value = str | int | float | bool | None
Rows = Sequence[Mapping[str, Value]]


def pack(data: bytes, name: str) -> bytes:
    """The bytes as the suffix of a file name says: .gz, .bz2, .xz, .zst, .zip; else as they are."""
    match PurePosixPath(name).suffix:
        case ".gz":
            return gzip.compress(data, mtime=0)
        case ".bz2":
            return bz2.compress(data)
        case ".xz":
            return lzma.compress(data)
        case ".zst":
            from backports import zstd

            return zstd.compress(data)
        case ".zip":
            inner = PurePosixPath(name).stem
            return archive({inner if "." in inner else "table.csv": data})
    return data


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return stored.getvalue()


def workbook(sheets: Mapping[str, Sequence[Sequence[Value]]], merged: Sequence[str] = ()) -> bytes:
    """An .xlsx file; `merged` are ranges of the first sheet such as "B2:B5"."""
    kinds = "application/vnd.openxmlformats-officedocument"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    numbers = range(1, len(sheets) + 1)
    types = "".join(
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{kinds}.spreadsheetml.worksheet+xml"/>'
        for n in numbers
    )
    named = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>' for n, name in zip(numbers, sheets, strict=True)
    )
    targets = "".join(
        f'<Relationship Id="rId{n}" Type="{links}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.spreadsheetml.sheet.main+xml"/>{types}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{links}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{links}"><sheets>{named}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">{targets}</Relationships>',
    }
    for n, rows in zip(numbers, sheets.values(), strict=True):
        cells = "".join(f'<row r="{r}">{_row(r, row)}</row>' for r, row in enumerate(rows, 1))
        ranges = "".join(f'<mergeCell ref="{each}"/>' for each in merged if n == 1)
        ranges = f"<mergeCells>{ranges}</mergeCells>" if ranges else ""
        files[f"xl/worksheets/sheet{n}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData>{ranges}</worksheet>'
        )
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return archive({name: (head + text).encode() for name, text in files.items()})


def _row(number: int, row: Sequence[Value]) -> str:
    return "".join(
        _cell(f"{chr(ord('A') + column)}{number}", value) for column, value in enumerate(row) if value is not None
    )


def _cell(place: str, value: Value) -> str:
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


def packed_table(name: str, rows: Rows) -> bytes:
    """Rows of one shape in the format and the compression that a file name says; in a .zip as CSV."""
    suffixes = PurePosixPath(name).suffixes
    columns = list(rows[0])
    match suffixes[0]:
        case ".xlsx":
            return workbook({"Sheet1": [columns, *(list(row.values()) for row in rows)]})
        case ".jsonl":
            data = "".join(json.dumps(row) + "\n" for row in rows)
        case ".json":
            data = json.dumps(list(rows))
        case _:
            delimiter = "\t" if suffixes[0] in (".tsv", ".tab") else ","
            quoted = [[f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in row.values()] for row in rows]
            data = "\n".join(delimiter.join(line) for line in [columns, *quoted]) + "\n"
    return pack(data.encode(), name)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, **options: object) -> BadData:
    """The error of a table that is refused; it has a hint."""
    with pytest.raises(BadData) as caught:
        read_table(path, **options)  # type: ignore[arg-type]
    assert caught.value.hint
    return caught.value
