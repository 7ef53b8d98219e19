"""Reads and writes tables: CSV, TSV, JSON Lines, JSON, Parquet and plain text.

`read_table` reads a whole file, `stream_rows` iterates over one of any size, `write_table` writes one atomically. One
file a format; `decode` turns bytes into lines. Not supported: compressed files, spreadsheets, databases, remote files.
"""

from potstill.data.tables.base import HEADER_MEND, Cell, Layout, OnBadRow, Quotes, ReadOptions, Row, Table
from potstill.data.tables.read import FILE_FORMATS, read_table, stream_rows
from potstill.data.tables.write import write_table

__all__ = [
    "FILE_FORMATS",
    "HEADER_MEND",
    "Cell",
    "Layout",
    "OnBadRow",
    "Quotes",
    "ReadOptions",
    "Row",
    "Table",
    "read_table",
    "stream_rows",
    "write_table",
]
