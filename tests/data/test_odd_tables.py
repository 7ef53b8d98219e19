"""Odd tables are read back as they were written: exactly with a layout that names all, and never silently otherwise.

200 tables in `make test`; `POTSTILL_NIGHTLY=1` reads 5,000 (see CONTRIBUTING.md).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, note, settings
from support.odd_tables import OddTable, odd_tables

from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table, read_table, stream_rows
from potstill.errors import PotstillError

Result = TypeVar("Result")
NIGHTLY = bool(os.environ.get("POTSTILL_NIGHTLY"))
N = 5_000 if NIGHTLY else 200
pytestmark = pytest.mark.timeout(3_000 if NIGHTLY else 300)
ODD = settings(
    max_examples=N,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def put(folder: Path, table: OddTable) -> Path:
    path = folder / table.name
    path.write_bytes(table.data)
    note(f"{table.facts} {table.data[:300]!r}")
    return path


def accepted(read: Callable[[], Result]) -> Result | None:
    """What is read; None if it is refused, with a mend."""
    try:
        return read()
    except PotstillError as refused:
        error = refused
    note(str(error))
    assert error.hint
    return None


def cells_of(table: Table) -> list[tuple[str | None, ...]]:
    return [tuple(row[column] for column in table.columns) for row in table.rows()]


@ODD
@given(table=odd_tables())
def test_a_table_is_read_back_with_a_layout_that_names_all_of_it(folder: Path, table: OddTable) -> None:
    path = put(folder, table)
    read = read_table(path, layout=table.layout)
    assert read.columns == table.columns
    assert cells_of(read) == list(table.rows)
    assert read.guesses == ()
    left_out = re.search(r"(\d+) rows? of .* left out: the header, repeated", " ".join(read.warnings))
    assert int(left_out[1] if left_out else 0) == table.extra_rows
    assert [row for _, row in stream_rows(path, layout=table.layout, on_bad=lambda bad: None)] == [*read.rows()]
    again = read_table(path, layout=read.layout)  # the layout that was found reads the same
    assert (cells_of(again), again.layout) == (cells_of(read), read.layout)


@ODD
@given(table=odd_tables())
def test_a_table_is_read_back_by_guesses_or_something_is_said(folder: Path, table: OddTable) -> None:
    path = put(folder, table)
    read = accepted(lambda: read_table(path))
    if read is None:
        return
    note(f"{read.columns} {cells_of(read)} {read.warnings} {read.header_doubt}")
    if (read.columns, cells_of(read)) != (table.columns, list(table.rows)):
        # A first row that looks like names is said by the names of the columns that are read.
        first_row = table.facts.get("top") == "none" and len(read) < len(table.rows)
        # Nothing shows that backslashes are doubled where none stands before a quote.
        escaped = table.facts.get("style") == "escape" and not any(
            '"' in str(cell) for row in table.rows for cell in row
        )
        assert first_row or escaped or read.header_doubt or any("--" in warning for warning in read.warnings)
    if read.guesses:  # what was guessed reads the same when it is named
        again = read_table(path, layout=read.layout)
        assert (again.columns, cells_of(again), again.guesses) == (read.columns, cells_of(read), ())


@ODD
@given(table=odd_tables())
def test_every_row_of_a_table_is_used_or_counted(folder: Path, table: OddTable) -> None:
    path = put(folder, table)
    names = [name for name in table.columns if name.casefold() not in ("id", "note")]
    text = next((name for name in names if name.casefold() in ("message", "text")), names[0])
    label = next((name for name in names[::-1] if name != text), "")
    layout = vars(table.layout) | {}
    layout.pop("compression")
    options = PoolOptions(text=text, label=label, kind="single", on_conflict="first", split="-", answer="-", **layout)
    built = accepted(lambda: build_pool(path, options=options))
    if built is None:
        return
    report = built.report
    cleaning = report.cleaning
    left_out = cleaning.empty + cleaning.duplicates + cleaning.conflicting_rows
    left_out += cleaning.leaks_exact + cleaning.leaks_normalised
    assert len(built.pool) + left_out + report.unlabelled_dropped + report.over_limit == len(table.rows)
    if left_out:
        assert "left out" in " ".join(report.sentences()).casefold()
