"""Builds a pool of entities from files or tables: read, check the marks, clean, split, and warn of likely problems."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from potstill.data.entities.columns import find_entity_columns
from potstill.data.entities.pool import EntityPool
from potstill.data.pool.clean import RawRows
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import PoolReport
from potstill.data.pool.source_tables import Sources
from potstill.data.tables import Table
from potstill.data.text2text_rows import (
    FormColumns,
    form_report,
    pool_fields,
    read_form_rows,
    small_test_warning,
    split_form_rows,
)
from potstill.errors import BadData, did_you_mean
from potstill.evaluation.text2text.entities import Entities, Entity

_MAX_SHOWN = 5
_RARE = 2
MISSING = ("nan", "NaN", "null", "None", "N/A", "-")  # a cell that means: not marked yet


@dataclass(frozen=True)
class EntityPoolBuild:
    """A pool of entities and the report on how it was built; its counts are entities of each type."""

    pool: EntityPool
    report: PoolReport


def build_entity_pool(
    sources: Sources,
    *,
    types: Sequence[str] = (),
    options: PoolOptions = PoolOptions(),  # noqa: B008 - frozen
    needs_gold: bool = True,
) -> EntityPoolBuild:
    """Read, check, clean and split.

    Args:
        sources: as for `pool.build_pool`.
        types: the types of entities, in order; empty to take those of the data, sorted.
        options: columns, encoding, and what to do with bad rows, duplicates, conflicts and leaks. A row whose marks
            cannot be read is a bad row.
        needs_gold: whether an entity has to be there; if not, its types have to be named.

    Raises:
        BadData: what `read_table` raises; marks that cannot be read; an entity of another type than `types`; no entity
            at all; no rows left to learn from.
        BadSpec: an unknown role of a source, or a share outside [0, 1).
    """
    read = read_form_rows(sources, options, _EntityForm())
    split = split_form_rows(read.rows, options)
    pool = EntityPool(labels=_resolve_types(split.rows, types, needs_gold), **pool_fields(split.rows, decode_entities))
    return EntityPoolBuild(pool, form_report(read, split, pool.counts, _warnings(pool)))


class _EntityForm:
    """Marks in a cell, written as JSON."""

    unreadable = "with marks that are no entities of the text"
    mend = "Correct the marks"

    def find_columns(self, role: str, table: Table, options: PoolOptions) -> FormColumns:
        found = find_entity_columns(role, table, options)
        cells = found.table.column(found.marks) if found.marks else [None] * len(found.table)
        missing = set(MISSING if options.missing is None else options.missing)

        def read(row: int, text: str) -> str:
            cell = cells[row]
            if cell is None or not cell.strip() or cell.strip() in missing:
                return ""
            return encode_entities(found.read(text, cell))

        return FormColumns(found.table, found.text, found.marks, found.split, read, found.guesses, found.sentences)


def encode_entities(entities: Entities) -> str:
    """The entities of a text as JSON, which `decode_entities` reads."""
    return json.dumps([[each.start, each.end, each.type] for each in entities], ensure_ascii=False)


def decode_entities(encoded: str) -> Entities | None:
    """What `encode_entities` wrote; None for the empty string."""
    return tuple(Entity(*each) for each in json.loads(encoded)) if encoded else None


def _resolve_types(rows: RawRows, named: Sequence[str], needs_gold: bool) -> tuple[str, ...]:
    """The task's types: those that were named, or all in the data.

    Raises:
        BadData: no entity at all, or one of another type than those named.
    """
    found: Counter[str] = Counter()
    for label, n in Counter(rows.labels).items():
        for entity in decode_entities(label) or ():
            found[entity.type] += n
    if not found and needs_gold:
        raise BadData(
            "No text has an entity, so there is nothing to learn.",
            "Name the column of the marks with --label COLUMN, or mark some texts.",
        )
    if not found and not named:
        raise BadData("No text has an entity, so their types are unknown.", "Name them, as in --labels Amount,Reagent")
    if not named:
        return tuple(sorted(found))
    names = tuple(dict.fromkeys(" ".join(name.split()) for name in named))
    unknown = [name for name in found if name not in names]
    if unknown:
        shown = ", ".join(f"{name!r} ({found[name]:,})" for name in unknown[:_MAX_SHOWN])
        more = f" and {len(unknown) - _MAX_SHOWN:,} more types" if len(unknown) > _MAX_SHOWN else ""
        near = did_you_mean(unknown[0], names, otherwise="")
        raise BadData(
            f"The data have entities of types that are not in the task: {shown}{more}.",
            f"{near} Add them to --labels, or leave --labels out to take all types.".strip(),
        )
    return names


def _warnings(pool: EntityPool) -> Iterator[str]:
    test, train = pool.counts("test"), pool.counts("train")
    if small := small_test_warning(int((pool.split == "test").sum())):
        yield small
    for split, counts in (("train", train), ("test", test)):
        missing = [name for name, n in counts.items() if not n]
        if missing and any(counts.values()):
            yield f"No text of {split} has an entity of the type {_quoted(missing)}."
    rare = [name for name, n in train.items() if 0 < n < _RARE]
    if rare:
        yield f"Only one entity in train has the type {_quoted(rare)}."


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_SHOWN:,} others" if len(names) > _MAX_SHOWN else ""
    return ", ".join(map(repr, names[:_MAX_SHOWN])) + more
