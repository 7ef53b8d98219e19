"""Exports of labelling tools, recognised by their content and read as plain tables.

One file a tool; `read_export` asks each. Read: Label Studio (JSON, JSON-MIN, CSV), Prodigy, doccano, Argilla, spaCy's
text categories, and chats for fine-tuning. Not read: marks on parts of a text, and binary formats (spaCy's DocBin).
"""

from potstill.data.label_exports.base import LabelExport
from potstill.data.label_exports.read import read_export

__all__ = ["LabelExport", "read_export"]
