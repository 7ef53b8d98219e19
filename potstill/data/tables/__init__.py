"""Reads and writes tables: CSV, TSV, JSON Lines, JSON, Parquet, workbooks and plain text, compressed or not.

`read_table` reads a whole file, `stream_rows` iterates over one of any size, `write_table` writes one atomically. One
file a format; `unpack` turns a file into bytes, `decode` turns bytes into lines. What a file is, and what of it was
guessed, is a `Layout` with its `Guess`es. Not supported: databases, remote files, writing workbooks.
"""

from potstill.data.tables.base import HEADER_MEND, BytesText, Cell, Row, Table, bytes_error
from potstill.data.tables.find_file import check_path, looks_like_table
from potstill.data.tables.formats import COMPRESSION_SUFFIXES, FILE_FORMATS
from potstill.data.tables.layout import WITH_HEADER, Format, Guess, Layout, OnBadRow, Quotes, ReadOptions, guess_of
from potstill.data.tables.output_dialect import OutputDialect, dialect_like
from potstill.data.tables.parquet import arrow_table, columns_as_text
from potstill.data.tables.read import read_table, stream_rows
from potstill.data.tables.streams import STANDARD_INPUT, is_stream, stored_stream
from potstill.data.tables.unpack import file_head
from potstill.data.tables.write import WRITABLE, write_table

__all__ = [
    "COMPRESSION_SUFFIXES",
    "FILE_FORMATS",
    "HEADER_MEND",
    "STANDARD_INPUT",
    "WITH_HEADER",
    "WRITABLE",
    "BytesText",
    "Cell",
    "Format",
    "Guess",
    "Layout",
    "OnBadRow",
    "OutputDialect",
    "Quotes",
    "ReadOptions",
    "Row",
    "Table",
    "arrow_table",
    "bytes_error",
    "check_path",
    "columns_as_text",
    "dialect_like",
    "file_head",
    "guess_of",
    "is_stream",
    "looks_like_table",
    "read_table",
    "stored_stream",
    "stream_rows",
    "write_table",
]
