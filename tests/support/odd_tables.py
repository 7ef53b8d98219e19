"""A hypothesis strategy of odd tables: format, dialect, encoding, header, label kind, compression and newline.

Each table is what was written, the bytes, and the layout that names all of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import assume
from hypothesis import strategies as st
from support.tables import pack, workbook

from potstill.data.tables import Layout

WORDS = {
    "utf-8": "the parcel is late; «où» est naïve, “never” 荷物 посылка 5 € 🙂 a|b 3,5 C:\\new it's",
    "cp1252": "the parcel is late; très cher, “never” naïve ½ 5 € a|b 3,5 C:\\new it's",
    "cp1250": "paczka nie dotarła; źle, „nigdy” świetna a|b 3,5 C:\\new it's",
    "koi8_r": "посылка не пришла; плохо, никогда a|b 3,5 C:\\new it's",
    "shift_jis": "荷物が 届いていません; 遅い, 返金 a|b 3,5 it's",
    "gb18030": "包裹 没有到; 很慢, 退款 a|b 3,5 C:\\new it's",
    "cp949": "택배가 도착하지 않았; 늦게, 환불 a|b 3,5 it's",
}
ENCODINGS = {
    **dict.fromkeys(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"), "utf-8"),
    **{name: name for name in WORDS},
}
MARKED = ("utf-8", "utf-8-sig", "utf-16", "utf-32")  # are read without being named
DELIMITERS = (",", ";", "\t", "|")
LABELS = {
    "words": ("billing", "delivery", "other thing"),
    "letters": ("é", "N", "ß"),
    "numbers": ("1", "2", "10"),
    "decimals": ("0.5", "1.0", "-1.5"),
    "truths": ("true", "false"),
    "lists": ('["a", "b"]', "[]", '["b"]'),
    "several": ("a|b", "b", "a;b"),
    "missing": ("a", "b", ""),
}
HEADERS = (("text", "label"), ("id", "message", "category"), ("", "text", "stars", "note"), ("Text ", "LABEL"))
COMPRESSIONS = ("", "", ".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass(frozen=True)
class OddTable:
    """A table as it was written.

    Attributes:
        name: of the file.
        data: its bytes.
        columns: the names that are read.
        rows: the cells that are read.
        layout: names all that is not as usual.
        extra_rows: rows of the file that are left out and counted: repeated headers.
        facts: what is odd about it, for a failed test.
    """

    name: str
    data: bytes
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    layout: Layout
    extra_rows: int = 0
    facts: dict[str, object] = field(default_factory=dict)


def _cell(words: str, *, breaks: bool, controls: bool) -> st.SearchStrategy[str]:
    parts = [*words.split(" "), '"', '""', "'", ",", ";", "\t", "|", "#", "\\", "=", "-", ""]
    parts += ["\n", "\r\n", "\r"] if breaks else []
    parts += ["\x0b", "\x1f", "\x85", "\u2028", "\ufeff"] if controls else []
    return st.lists(st.sampled_from(parts), min_size=1, max_size=6).map(" ".join).filter(str.strip)


@st.composite
def odd_tables(draw: st.DrawFn) -> OddTable:
    """Any table that potstill reads back."""
    kind = draw(st.sampled_from(("csv", "csv", "csv", "tsv", "jsonl", "json", "xlsx", "txt")))
    packed = draw(st.sampled_from(COMPRESSIONS))
    packed = "" if kind == "xlsx" and packed == ".zip" else packed
    label_kind = draw(st.sampled_from(sorted(LABELS)))
    header = draw(st.sampled_from(HEADERS))
    encoding = draw(st.sampled_from(sorted(ENCODINGS))) if kind != "xlsx" else "utf-8"
    controls = ENCODINGS[encoding] == "utf-8" and kind != "xlsx"
    text = _cell(WORDS[ENCODINGS[encoding]], breaks=kind not in ("txt", "xlsx"), controls=controls and kind != "txt")
    labels = LABELS[label_kind]
    labels = tuple(each for each in labels if _fits(each, encoding)) or ("a", "b")
    rows = []
    for number in range(draw(st.integers(2, 9))):
        cells = [draw(text)]
        if len(header) > 2:
            cells.insert(0, f"{number}")
        cells.append(draw(st.sampled_from(labels)))
        rows.append(cells + ["note"] * (len(header) - len(cells)))
    facts: dict[str, object] = {"kind": kind, "encoding": encoding, "labels": label_kind, "packed": packed}
    newline = draw(st.sampled_from(("\n", "\r\n", "\r")))
    end = newline * draw(st.integers(0, 2))
    name = f"table.{kind}{packed}"
    named = None if encoding in MARKED else encoding
    if kind in ("csv", "tsv"):
        return _delimited(
            draw, header, rows, OddTable(name, b"", (), (), Layout(encoding=named), facts=facts), newline, end
        )
    columns = tuple(each.strip() or f"column_{i}" for i, each in enumerate(header, 1))
    layout = Layout(encoding=named)
    if kind == "xlsx":
        return _workbook(draw, columns, rows, OddTable(name, b"", (), (), layout, facts=facts))
    if kind == "txt":
        lines = [row[len(header) > 2] for row in rows]
        data = (newline.join(lines) + end).encode(encoding)
        layout = Layout(format="txt", encoding=named)
        return OddTable(name, pack(data, name), ("text",), tuple((line,) for line in lines), layout, facts=facts)
    ascii_only = draw(st.booleans())
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    if kind == "jsonl":
        written = newline.join(json.dumps(each, ensure_ascii=ascii_only) for each in objects) + end
    else:
        written = json.dumps(objects, ensure_ascii=ascii_only, indent=draw(st.sampled_from((None, 1)))) + end
    assume(_fits(written, encoding))
    data = pack(written.encode(encoding), name)
    return OddTable(name, data, columns, tuple(map(tuple, rows)), layout, facts=facts)


def _fits(text: str, encoding: str) -> bool:
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeError:
        return False


def _workbook(draw: st.DrawFn, columns: Sequence[str], rows: Sequence[Sequence[str]], table: OddTable) -> OddTable:
    above = draw(st.integers(0, 2))
    sheets: dict[str, list[list[str | None]]] = {f"empty {n}": [] for n in range(draw(st.integers(0, 1)))}
    filled: list[list[str | None]] = [["An export"]] * above + [[*columns]]
    filled += [[cell or None for cell in row] for row in rows]
    sheets["Data & more"] = filled
    if draw(st.booleans()):
        sheets["Other"] = [["text"], ["x"]]
    data = pack(workbook(sheets), table.name)
    read = tuple(tuple(cell or None for cell in row) for row in rows)
    layout = Layout(sheet="Data & more", skip_rows=above, header=True)
    facts = {**table.facts, "above": above}
    return OddTable(table.name, data, tuple(columns), read, layout, facts=facts)


def _delimited(
    draw: st.DrawFn, header: Sequence[str], rows: list[list[str]], table: OddTable, newline: str, end: str
) -> OddTable:
    delimiter = draw(st.sampled_from(DELIMITERS))
    style = draw(st.sampled_from(("minimal", "all", "escape", "text")))
    top = draw(st.sampled_from(("header", "header", "none", "title", "sep")))
    repeat = top != "none" and draw(st.booleans()) and draw(st.booleans())
    trailing = draw(st.booleans()) and draw(st.booleans()) and top != "none" and style != "text"
    encoding = table.layout.encoding or str(table.facts["encoding"])
    if style == "text":
        banned = str.maketrans(dict.fromkeys(f"{delimiter}\r\n", " "))
        rows = [[cell.translate(banned) for cell in row] for row in rows]
        rows = [[cell if cell.strip() else "x" if cell else "" for cell in row] for row in rows]

    def line(cells: Sequence[str]) -> str:
        return delimiter.join(_written(cell, delimiter, style) for cell in cells)

    lines = [line(row) + delimiter * trailing for row in rows]
    if repeat:
        lines.insert(len(lines) // 2, line(header))
    if top != "none":
        lines.insert(0, line(header))
    above = ["An export of May", "of all"][: draw(st.integers(1, 2))] if top == "title" else []
    above += [f"sep={delimiter}"] if top == "sep" and delimiter != "\t" else []
    text = newline.join([*above, *lines]) + end
    assume(_fits(text, encoding))
    assume(all([*row] != [*header] for row in rows))
    columns = tuple(each.strip() or f"column_{i}" for i, each in enumerate(header, 1))
    if top == "none":
        columns = tuple(f"column_{i}" for i in range(1, len(header) + 1))
    layout = Layout(
        format="tsv" if table.name.startswith("table.tsv") else "csv",
        encoding=table.layout.encoding,
        delimiter=delimiter,
        quotes="text" if style == "text" else "cells",
        escape="\\" if style == "escape" else "",
        header=top != "none",
        skip_rows=len(above) if top == "title" else 0,
    )
    data = pack(text.encode(encoding), table.name)
    facts = {
        **table.facts,
        "delimiter": delimiter,
        "style": style,
        "top": top,
        "newline": newline,
        "trailing": trailing,
    }
    return OddTable(table.name, data, columns, tuple(map(tuple, rows)), layout, int(repeat), facts)


def _written(cell: str, delimiter: str, style: str) -> str:
    if style == "text":
        return cell
    if style == "escape":
        escaped = cell.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    needed = style == "all" or any(char in cell for char in f'{delimiter}"\r\n') or cell[:1] in " \ufeff"
    return '"' + cell.replace('"', '""') + '"' if needed else cell
