"""Asks the reader of each tool whether a table is one of its exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.data.label_exports.argilla import read_argilla
from potstill.data.label_exports.base import LabelExport
from potstill.data.label_exports.chats import read_chats
from potstill.data.label_exports.label_studio import read_label_studio
from potstill.data.label_exports.text_tools import read_doccano, read_fasttext, read_prodigy, read_spacy
from potstill.data.tables import Table

_READERS: tuple[Callable[[Table, str, Sequence[str]], LabelExport | None], ...] = (
    read_label_studio,
    read_prodigy,
    read_argilla,
    read_doccano,
    read_spacy,
    read_fasttext,
    read_chats,
)


def read_export(table: Table, named: str = "", labels: Sequence[str] = ()) -> LabelExport | None:
    """A labelling tool's export as a plain table; None for any other table.

    Args:
        table: as read from the file.
        named: the column, question or control that the user named as the label; "" to choose.
        labels: the task's labels, by which a question is chosen; empty if unknown.
    """
    for read in _READERS:
        export = read(table, named, labels)
        if export is not None:
            return export.with_label(named) if named else export
    return None
