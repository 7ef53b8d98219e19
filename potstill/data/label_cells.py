"""One label cell, read: a name, a list of names, or a score a name; in JSON, Python, NumPy or bare spelling.

`["a", "b"]`, `['a', 'b']`, `['a' 'b']`, `{'a', 'b'}`, `[a, b]` and `<a><b>` are lists; `{"a": 1, "b": 0}` and
`[{"label": "a", "score": 0.9}]` are scores; `{"choices": ["a"]}` holds a list. What a whole column of cells means is
decided in `label_columns.py`. Nested names of a taxonomy are joined by `PATH_SEPARATOR`.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from potstill.data.label_values import PATH_SEPARATOR, normalise_label

# empty: unlabelled. bare: brackets around names without quotes, a list or a part of the name. broken: see `problem`.
CellForm = Literal["empty", "name", "list", "scores", "bare", "broken"]
_OPENING = ("[", "{", "(", "<", '"', "'", "array(", "np.array(", "set(", "frozenset(")
_CALL = re.compile(r"(?:np\.|numpy\.)?(?:array|set|frozenset)\((.*?)(?:,\s*dtype=[^()\[\]]*)?\)", re.DOTALL)
_NUMPY = re.compile(r"\[\s*(?:(?:'[^'\\]*'|\"[^\"\\]*\")\s*)+\]")
_NUMPY_NUMBERS = re.compile(r"\[\s*(?:-?\d[\d.]*\s+)*-?\d[\d.]*\s*\]")
_QUOTED = re.compile(r"'([^'\\]*)'|\"([^\"\\]*)\"")
_ANGLED = re.compile(r"(?:<[^<>]+>\s*)+")
_BROKEN_STARTS = tuple(f"{bracket}{quote}" for bracket in "[{" for quote in ('"', "'", "{", "["))
_MAX_LITERAL = 20_000  # characters that are read as Python
_LIST_KEYS = ("choices", "labels", "label", "taxonomy", "cats", "categories", "classes", "class", "values", "value")
_NAME_KEYS = ("label", "name", "class", "value", "category", "tag", "title", "text", "id")
_SCORE_KEYS = ("score", "confidence", "probability", "prob", "weight")
_PAIRS = re.compile(r"[;|,]")  # between names with their scores
_PAIR = re.compile(r"\s*([^:=]*[^:=\s])\s*[:=]\s*(\d{1,9}|\d{0,9}\.\d{1,20})(%?)\s*", re.ASCII)
_TRUE, _FALSE = frozenset({"true", "yes", "y", "t", "x"}), frozenset({"false", "no", "n", "f", ""})


@dataclass(frozen=True)
class LabelCell:
    """What a label cell holds.

    Attributes:
        form: see `CellForm`.
        names: the labels of a name or a list, in order, without repeats; those of a bare list.
        scores: label -> number, of scores.
        vector: the numbers of a list of numbers, which may be 0 and 1 a label.
        problem: why a broken cell cannot be read, as the end of a sentence.
    """

    form: CellForm
    names: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    vector: tuple[float, ...] = ()
    problem: str = ""


_EMPTY = LabelCell("empty")


def parse_label_cell(cell: str | None) -> LabelCell:
    """Read one cell; a text without brackets is a name."""
    text = (cell or "").strip()
    if not text or not text.startswith(_OPENING):
        return LabelCell("name", (text,)) if text else _EMPTY
    if text[0] in "<\"'":
        return _marked(text)
    try:
        found = _interpret(_literal(text))
        return LabelCell("list", found.names) if found.form == "name" else found  # the name was inside an object
    except _UnreadableError as error:
        return LabelCell("broken", problem=str(error))
    except RecursionError:
        return LabelCell("broken", problem="is nested too deeply")
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return _without_quotes(text)


def parse_pairs(cell: str) -> LabelCell | None:
    """Names with their scores, as in `a:0.7;b:0.3` or `a=70%|b=30%`; None if a part is none, or a name comes twice."""
    pairs = [_PAIR.fullmatch(part) for part in _PAIRS.split(cell.strip().rstrip(";|,"))]
    found = {normalise_label(pair[1]): float(pair[2]) / (100 if pair[3] else 1) for pair in pairs if pair}
    return LabelCell("scores", tuple(found), found) if len(found) == len(pairs) else None


def _marked(text: str) -> LabelCell:
    """Names in angles (`<a><b>`) or one in quotes, which may be parts of the name."""
    if _ANGLED.fullmatch(text):
        return LabelCell("bare", _unique(text.replace(">", "<").split("<")))
    inner = text[1:-1].strip()
    quoted = text[0] != "<" and len(text) > 2 and text[0] == text[-1] and text[0] not in inner and inner
    return LabelCell("bare", (inner,)) if quoted else LabelCell("name", (text,))


class _UnreadableError(Exception):
    """A value that is no label, with the reason as the end of a sentence."""


def parse_nested(cell: str | None) -> Any:
    """The value of a cell with a list or an object in JSON or Python spelling; None for any other cell."""
    if not cell or cell.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return _literal(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _literal(text: str) -> Any:
    """The value of JSON, of a Python literal, or of what NumPy prints.

    Raises:
        ValueError: it is none of these, as for a text in brackets.
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    if len(text) > _MAX_LITERAL:
        raise ValueError("too long")
    call = _CALL.fullmatch(text)
    inner = call[1].strip() if call else text
    if call and not inner:
        return []
    if _NUMPY.fullmatch(inner):  # Python would read 'a' 'b' as one string
        return [single or double for single, double in _QUOTED.findall(inner)]
    if _NUMPY_NUMBERS.fullmatch(inner):
        return [float(number) if "." in number else int(number) for number in inner.strip("[]").split()]
    if inner.startswith("("):
        value = ast.literal_eval(inner)
        if not isinstance(value, tuple):
            raise ValueError("a name in parentheses")
        return value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes
        return ast.literal_eval(inner)


def _without_quotes(text: str) -> LabelCell:
    """A cell in brackets that is no literal: names without quotes, a name, or a list that is not closed."""
    closing = {"[": "]", "{": "}"}.get(text[0])
    if closing is None:
        return LabelCell("name", (text,))
    if text.startswith(_BROKEN_STARTS) or (text[0] == "{" and ":" in text):
        return LabelCell("broken", problem="is neither JSON nor a Python list")
    if not text.endswith(closing):
        return LabelCell("name", (text,))
    return LabelCell("bare", _unique(name.strip().strip("\"'") for name in text[1:-1].split(",")))


def _interpret(value: Any) -> LabelCell:
    if value is None:
        return _EMPTY
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        return _items(items)
    name = _name(value)
    return LabelCell("name", (name,)) if name else _EMPTY


def _items(items: Sequence[Any]) -> LabelCell:
    """The items of a list: names, pairs of name and score, records, or paths of a taxonomy."""
    if items and all(isinstance(item, Mapping) for item in items):
        return _records(items)
    if items and all(isinstance(item, list | tuple) for item in items):
        if all(len(item) == 2 and isinstance(item[0], str) and _is_number(item[1]) for item in items):
            return _scores({item[0]: item[1] for item in items})
        if any(len(item) >= 3 and _is_number(item[0]) and _is_number(item[1]) for item in items):
            raise _UnreadableError("marks parts of a text (start, end, label) and does not label the text")
        return LabelCell("list", _unique(PATH_SEPARATOR.join(_path(item)) for item in items))
    if items and all(item is None for item in items):
        return _EMPTY
    vector = tuple(float(item) for item in items if isinstance(item, int | float)) if items else ()
    return LabelCell("list", _unique(_name(item) for item in items), vector=vector if len(vector) == len(items) else ())


def _path(item: Sequence[Any]) -> list[str]:
    return [name for each in item if (name := _name(each))]


def _records(items: Sequence[Mapping[Any, Any]]) -> LabelCell:
    """A list of records with a name each, and perhaps a score."""
    if any("start" in item and "end" in item for item in items):
        raise _UnreadableError("marks parts of a text (start, end) and does not label the text")
    names = []
    for item in items:
        key = next((key for key in _NAME_KEYS if key in item), _only_text(item))
        if key is None:
            raise _UnreadableError(f"has records without a label (their keys: {_listed(item)})")
        names.append(_names_in(item[key]))
    scores = [next((item[key] for key in _SCORE_KEYS if key in item), None) for item in items]
    if len(items) > 1 and all(_is_number(score) for score in scores) and all(len(each) == 1 for each in names):
        return _scores({each[0]: score for each, score in zip(names, scores, strict=True)})
    return LabelCell("list", _unique(name for each in names for name in each))


def _names_in(value: Any) -> tuple[str, ...]:
    cell = _interpret(value)
    return cell.names if cell.form in ("name", "list") else ()


def _mapping(value: Mapping[Any, Any]) -> LabelCell:
    """A record that holds the labels under a usual key, or label -> score."""
    if not value:
        return LabelCell("list")
    key = next((key for key in _LIST_KEYS if key in value), None)
    scored = isinstance(value.get("scores"), list) and isinstance(value.get("labels"), list)
    if scored and len(value["scores"]) == len(value["labels"]):
        return _scores(dict(zip(map(_name, value["labels"]), value["scores"], strict=True)))
    if key is not None and (len(value) == 1 or any(each in value for each in _SCORE_KEYS)):
        inner = _interpret(value[key])
        return LabelCell("list", inner.names) if inner.form == "name" else inner
    if all(_flag(each) is not None for each in value.values()):
        return _scores({_name(name): _flag(each) for name, each in value.items()})
    key = key or next((key for key in _NAME_KEYS if isinstance(value.get(key), str)), _only_text(value))
    if key is not None:
        return _interpret(value[key])
    if len(value) == 1:
        return _interpret(next(iter(value.values())))
    raise _UnreadableError(f"is an object without a label (its keys: {_listed(value)})")


def _only_text(item: Mapping[Any, Any]) -> Any:
    """The key whose value is a text, if it is the only one beside numbers; else None."""
    texts = [key for key, value in item.items() if isinstance(value, str)]
    return texts[0] if len(texts) == 1 and all(_is_number(item[key]) for key in item if key != texts[0]) else None


def _scores(scores: Mapping[str, Any]) -> LabelCell:
    numbers = {normalise_label(name): float(score) for name, score in scores.items() if normalise_label(name)}
    wrong = next((f"{name!r}: {score:g}" for name, score in numbers.items() if not 0 <= score < math.inf), None)
    if wrong:
        raise _UnreadableError(f"has the score {wrong}, and scores are numbers of zero or more")
    return LabelCell("scores", tuple(numbers), numbers)


def _flag(value: Any) -> float | None:
    """The number of a score, or 1 and 0 for yes and no; None if it is neither."""
    if value is None:
        return 0.0
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _TRUE or word in _FALSE:
            return float(word in _TRUE)
        try:
            return float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
        except ValueError:
            return None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(value: Any) -> str:
    """The name in a list; "" for none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return normalise_label(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        names = _names_in(value)
        if len(names) == 1:
            return names[0]
    raise _UnreadableError(f"has {json.dumps(value, default=str)[:40]} in place of a label")


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in names if (name := normalise_label(each))))


def _listed(keys: Iterable[Any]) -> str:
    return ", ".join(repr(str(key)) for key in list(keys)[:5])
