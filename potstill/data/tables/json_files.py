"""Reads JSON: one object a line (JSON Lines), or an array of objects, which is read as a whole.

Numbers keep the digits of the file; a nested value becomes a cell of JSON text. A row has the number of its line, and
in an array on one line its place in the array.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from potstill.data.tables.base import JsonText, NumberedRow, Row, oversized_cell_error, to_cell
from potstill.data.tables.decode import TextFile
from potstill.errors import BadData

_DECODER = json.JSONDecoder(parse_int=JsonText, parse_float=JsonText)
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(file: TextFile) -> Iterator[NumberedRow]:
    """The objects of a JSON array if the file starts with "[", else of JSON Lines."""
    if file.peek(4096).lstrip().startswith("["):
        return _array(file)
    return _lines(file)


def _lines(file: TextFile) -> Iterator[NumberedRow]:
    for n, line in enumerate(file.lines(), 1):
        text = line.strip()
        if not text:
            continue
        if "\0" in text:
            yield n, "has a NUL byte"
            continue
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            yield n, f"is not JSON ({error.msg.lower()} at character {error.pos + 1:,})"
        except RecursionError:
            yield n, "is nested too deeply"
        else:
            yield n, _row(value, file.max_cell, escaped="\\u" in text)


def _array(file: TextFile) -> Iterator[NumberedRow]:
    text = "".join(file.lines())
    at = _skip_white_space(text, _skip_white_space(text, 0) + 1)
    line = 1 + text.count("\n", 0, at)
    file.by_row = "\n" not in text.strip()
    while not text.startswith("]", at):
        try:
            value, end = _DECODER.raw_decode(text, at)
            after = _skip_white_space(text, end)
            if not text.startswith((",", "]"), after):
                raise json.JSONDecodeError("expecting ',' or ']'", text, after)
        except json.JSONDecodeError as error:
            what = f"{error.msg.lower()} at column {error.colno:,}"
            raise BadData(
                f"Line {error.lineno:,} of {file.path.name} is not JSON ({what}).",
                "Correct it; an array of objects or one object a line is expected.",
            ) from None
        except RecursionError:
            word = "Row" if file.by_row else "Line"
            raise BadData(f"{word} {line:,} of {file.path.name} is nested too deeply.", "Flatten it.") from None
        yield line, _row(value, file.max_cell, escaped=True)
        after = _skip_white_space(text, after + 1) if text[after] == "," else after
        line += 1 if file.by_row else text.count("\n", at, after)
        at = after


def _skip_white_space(text: str, at: int) -> int:
    match = _WHITE_SPACE.match(text, at)
    return match.end() if match else at


def _row(value: Any, max_cell: int, *, escaped: bool) -> Row | str:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict):
        value = {"column_1": value[0], "column_2": value[1]}  # spaCy's [text, {"cats": ...}]
    if not isinstance(value, dict):
        return 'is not an object like {"text": ..., "label": ...}'
    try:
        row = {key: to_cell(_values(cell)) for key, cell in value.items()}
    except RecursionError:
        return "is nested too deeply"
    if escaped:  # only an escape can hold half a character (a lone surrogate), which tokenizers refuse
        for key, cell in row.items():
            if cell is not None and not cell.isascii():
                row[key] = type(cell)(cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return oversized_cell_error(row, max_cell) or row


def _values(cell: Any) -> Any:
    """The cell with numbers inside lists and objects as numbers; a number alone keeps its digits."""
    if isinstance(cell, list):
        return [_number(each) for each in cell]
    if isinstance(cell, dict):
        return {key: _number(each) for key, each in cell.items()}
    return cell


def _number(cell: Any) -> Any:
    if not isinstance(cell, JsonText):
        return _values(cell)
    try:
        return json.loads(cell)
    except ValueError:  # more digits than Python converts
        return str(cell)
