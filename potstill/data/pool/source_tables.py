"""The tables of a pool's sources by their role, and the split column of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.data.column_guess import NO_COLUMN, SPLIT_ALIASES, format_values
from potstill.data.frames import read_frame
from potstill.data.paths import is_paths
from potstill.data.pool.options import PoolOptions
from potstill.data.tables import HEADER_MEND, Table, read_table
from potstill.errors import BadData, BadSpec, did_you_mean

Source = Any  # the path of a file, several paths, a table, or a frame (see `frames.read_frame`)
Sources = Source | Mapping[str, Source]
SPLIT_OF_ROLE = {"data": "", "train": "train", "validation": "validation", "test": "test", "pool": "pool"}
_ROLE_ALIASES = {alias: role for alias, role in SPLIT_ALIASES.items() if alias != role}


def read_tables(sources: Sources, options: PoolOptions) -> dict[str, Table]:
    """The table of each role, in the order of `SPLIT_OF_ROLE`.

    Raises:
        BadData: what `read_table` raises, no rows, or a header that looks like a row.
        BadSpec: an unknown role, a role given twice, no source, or a split column for files that are splits.
    """
    given = sources if isinstance(sources, Mapping) else {"data": sources}
    roles: dict[str, Source] = {}
    for name, source in given.items():
        role = _ROLE_ALIASES.get(name, name)
        if role not in SPLIT_OF_ROLE:
            known = (*SPLIT_OF_ROLE, *_ROLE_ALIASES)
            raise BadSpec(f"There is no source called {name!r}.", did_you_mean(name, known))
        if role in roles:
            raise BadSpec(f"The source {role!r} is given twice.", "Give each split one file.")
        roles[role] = source
    if not roles:
        raise BadSpec("No data was given.", "Name at least one file.")
    if options.split not in ("", NO_COLUMN) and "data" not in roles:
        raise BadSpec(
            f"A split column ({options.split!r}) was named, but every file is a split already.",
            "Give one file with the split column, or leave the column out.",
        )
    tables = {
        role: read_table(s, encoding=options.encoding, on_bad=options.on_bad_row, layout=options.layout)
        if is_paths(s)
        else read_frame(s, role)
        for role in SPLIT_OF_ROLE
        if (s := roles.get(role)) is not None
    }
    empty = next((table for table in tables.values() if not len(table)), None)
    if empty is not None:
        raise BadData(f"{empty.name} has no rows.", "Give it at least one row.")
    doubtful = next((table for table in tables.values() if table.header_doubt), None)
    if doubtful is not None and not (options.text or options.label):
        first = ", ".join(map(repr, doubtful.columns))
        raise BadData(
            f"{doubtful.header_doubt}; the names of the columns would be {first[:200]}.",
            HEADER_MEND,
        )
    return tables


def read_splits(table: Table, column: str) -> list[str]:
    """The split of each row by a column; "" if no row has one.

    Raises:
        BadData: a value that is no split.
    """
    cells = table.column(column)
    names = [(c or "").strip().casefold() for c in cells]
    unknown = [i for i, name in enumerate(names) if name and name not in SPLIT_ALIASES]
    if unknown:
        lines = ", ".join(f"{table.line_numbers[i]:,}" for i in unknown[:3])
        read = {split: [a for a in SPLIT_ALIASES if SPLIT_ALIASES[a] == split] for split in SPLIT_ALIASES.values()}
        understood = "; ".join(f"{split} ({', '.join(words[1:])})" for split, words in read.items())
        raise BadData(
            f"The split column {column!r} of {table.name} has values that are not splits: "
            f"{format_values([cells[i] for i in unknown])}; first on line {lines}. "
            f"In all it has {format_values(cells)}.",
            f"Understood are {understood}. Rename the others, name another column (--split COLUMN), "
            f"or say that there is none: --split={NO_COLUMN}",
        )
    # If any row has a split, an empty cell means train; otherwise the splits are still to be decided.
    empty = "train" if any(names) else ""
    return [SPLIT_ALIASES[name] if name else empty for name in names]
