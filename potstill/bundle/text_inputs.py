"""What `Bundle.predict` was given, as a list of texts: lists, columns, and frames by the columns it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.bundle.record import BundleRecord
from potstill.data.frames import frame_column, frame_columns, open_frame, plain_list
from potstill.data.pairs import is_pair, join_pair
from potstill.errors import BadData


def read_inputs(given: Any, record: BundleRecord, named: tuple[str, ...] = ()) -> Sequence[Any]:
    """N texts, or pairs of texts, which are still to be checked.

    Args:
        given: texts, or a frame.
        record: of the bundle, with the columns it was trained on.
        named: the columns of a frame that are read instead.

    Raises:
        BadData: a mapping, or a frame without the columns.
    """
    given = open_frame(given)
    if isinstance(given, str):
        return given
    available = frame_columns(given)
    if available is None:
        texts = given if isinstance(given, list | tuple) else plain_list(given)
        return texts if texts is given or frame_columns(texts) is None else read_inputs(texts, record, named)
    missing = next((name for name in named if name not in available), None)
    if missing is not None:
        listed = ", ".join(map(repr, available))
        raise BadData(f"The data frame has no column {missing!r}; it has {listed}.", "Name one of these.")
    names = named or _choose(record, available)
    columns = [frame_column(given, name) for name in names]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def joined_pairs(texts: Sequence[Any]) -> list[str]:
    """The pairs as strings, as `pairs.join_pair` makes them.

    Raises:
        BadData: one is no pair.
    """
    joined = [
        join_pair(*text)
        if isinstance(text, tuple) and len(text) == 2 and all(isinstance(each, str) for each in text)
        else text
        for text in texts
    ]
    if isinstance(texts, str) or not all(isinstance(text, str) and is_pair(text) for text in joined):
        raise BadData("This student compares two texts, and got one.", "Give pairs: [(first, second), ...].")
    return [str(text) for text in joined]


def _choose(record: BundleRecord, available: tuple[str, ...]) -> tuple[str, ...]:
    wanted = record.text_columns
    if wanted and set(wanted) <= set(available):
        return wanted
    listed = ", ".join(map(repr, available))
    if record.task.kind == "pair":
        missing = f"has none of the two columns {wanted}" if wanted else "does not say which columns are the texts"
        raise BadData(
            f"The data frame {missing}; it has {listed}.", "Give pairs: list(zip(frame['first'], frame['second']))."
        )
    if len(available) == 1:
        return available
    why = f"has no column {wanted[0]!r}, which the student was trained on" if wanted else "has several columns"
    raise BadData(f"The data frame {why}; it has {listed}.", "Give its column of texts: frame['text'].")
