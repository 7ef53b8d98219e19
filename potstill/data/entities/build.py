"""Builds a pool of entities from files or tables: read, check the marks, clean, split, and warn of likely problems."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from potstill.data.entities.columns import EntityColumns, find_entity_columns
from potstill.data.entities.marks import UnreadableMarksError
from potstill.data.entities.pool import EntityPool
from potstill.data.pool.assign_splits import assign_splits, check_not_emptied, check_options, limit_rows, pool_leaks
from potstill.data.pool.clean import CleaningOptions, RawRows, clean_rows, count_near_duplicates, format_rows
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import PoolReport, SourceReport
from potstill.data.pool.source_tables import SPLIT_OF_ROLE, Sources, read_splits, read_tables
from potstill.data.pool.splits import DEFAULT_VALIDATION_SHARE
from potstill.data.task import SPLITS
from potstill.errors import BadData, did_you_mean
from potstill.evaluation.text2text.entities import Entities, Entity

_MAX_SHOWN = 5
_SMALL_TEST, _RARE = 100, 2
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
) -> EntityPoolBuild:
    """Read, check, clean and split.

    Args:
        sources: as for `pool.build_pool`.
        types: the types of entities, in order; empty to take those of the data, sorted.
        options: columns, encoding, and what to do with bad rows, duplicates, conflicts and leaks. A row whose marks
            cannot be read is a bad row.

    Raises:
        BadData: what `read_table` raises; marks that cannot be read; an entity of another type than `types`; no entity
            at all; no rows left to learn from.
        BadSpec: an unknown role of a source, or a share outside [0, 1).
    """
    check_options(options)
    if options.validation_share is None:  # training ends by entity F1 on them, however few there are
        options = replace(options, validation_share=DEFAULT_VALIDATION_SHARE)
    read = _read_sources(sources, options)
    cleaning = CleaningOptions(options.on_duplicate, options.on_conflict or "drop", options.on_leak, options.seed)
    cleaned = clean_rows(read.rows, cleaning)
    check_not_emptied(Counter(read.rows.splits), cleaned)
    names = _resolve_types(cleaned.rows, types)
    stratum = np.array([0 if label else -1 for label in cleaned.rows.labels], dtype=np.int64)
    splits = assign_splits(cleaned, stratum, 1, options, multi=False)
    rows, report = replace(cleaned.rows, splits=splits.names), cleaned.cleaning
    if splits.created and options.on_leak != "allow":
        leaks = pool_leaks(splits, cleaned.groups)
        rows = rows.filter(~leaks)
        report = replace(report, leaks_normalised=report.leaks_normalised + int(leaks.sum()))
    pool = _make_pool(rows, names)
    if options.on_leak != "allow":
        report = count_near_duplicates(rows, report)
    n_unlabelled = int((pool.split == "pool").sum())
    return EntityPoolBuild(
        pool,
        PoolReport(
            sources=read.sources,
            cleaning=report,
            counts={s: {"unlabelled": n_unlabelled} if s == "pool" else pool.counts(s) for s in SPLITS},
            sizes={split: int((pool.split == split).sum()) for split in SPLITS},
            created_splits=splits.created,
            unlabelled_dropped=read.unlabelled_dropped,
            over_limit=read.over_limit,
            hidden=sum(each is not None for each in pool.hidden),
            warnings=(*read.warnings, *_warnings(pool)),
        ),
    )


@dataclass(frozen=True)
class _Read:
    """The rows of all sources; a label is the entities as JSON, "" if the row is unlabelled."""

    rows: RawRows
    sources: tuple[SourceReport, ...]
    unlabelled_dropped: int
    over_limit: int
    warnings: tuple[str, ...]


def _read_sources(sources: Sources, options: PoolOptions) -> _Read:
    tables = read_tables(sources, options)
    names = Counter(table.name for table in tables.values())
    rows, reports, warnings = RawRows((), (), (), (), ()), [], list[str]()
    n_unlabelled = n_over_limit = 0
    for role, table in tables.items():
        found = find_entity_columns(role, table, options)
        prefix = f"{role}/{table.name}" if names[table.name] > 1 else table.name
        new, n_bad, sentences = _read_rows(role, found, prefix, options)
        reports.append(_report(role, found, n_bad))
        warnings += (*found.table.warnings, *found.sentences, *sentences)
        limited = limit_rows(new, options)
        n_over_limit += len(new) - len(limited)
        unlabelled = np.array(
            [s in ("test", "validation") and not y for s, y in zip(limited.splits, limited.labels, strict=True)],
            dtype=np.bool_,
        )
        n_unlabelled += int(unlabelled.sum())
        rows = rows + limited.filter(~unlabelled)
    return _Read(rows, tuple(reports), n_unlabelled, n_over_limit, tuple(warnings))


def _read_rows(
    role: str, found: EntityColumns, prefix: str, options: PoolOptions
) -> tuple[RawRows, int, tuple[str, ...]]:
    """The rows of a source, the number of those that were left out, and sentences about them."""
    table = found.table
    texts = [text or "" for text in table.column(found.text)]
    cells = table.column(found.marks) if found.marks else [None] * len(table)
    missing = set(MISSING if options.missing is None else options.missing)
    labels, bad = [], list[str]()
    keep = np.ones(len(table), dtype=np.bool_)
    for i, (text, cell) in enumerate(zip(texts, cells, strict=True)):
        if cell is None or not cell.strip() or cell.strip() in missing or not text.strip():
            labels.append("")
            continue
        try:
            labels.append(encode_entities(found.read(text, cell)))
        except UnreadableMarksError as error:
            labels.append("")
            keep[i] = False
            bad.append(f"row {table.line_numbers[i]:,} {error}")
    if bad and options.on_bad_row == "error":
        raise BadData(
            f"{_count_bad(bad)} of {table.name}: {_listed(bad)}.",
            "Correct the marks, or leave these rows out: --on-bad-row skip",
        )
    splits = read_splits(table, found.split) if found.split else [SPLIT_OF_ROLE[role]] * len(table)
    splits = ["pool" if s in ("", "train") and not y else s for s, y in zip(splits, labels, strict=True)]
    rows = RawRows(tuple(texts), tuple(labels), tuple(splits), tuple(table.ids(prefix)), (None,) * len(texts))
    said = (f"{_count_bad(bad)} of {table.name} left out: {_listed(bad)}.",) if bad else ()
    return rows.filter(keep), len(bad), said


def _count_bad(bad: Sequence[str]) -> str:
    return f"{format_rows(len(bad))} with marks that are no entities of the text"


def _listed(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _MAX_SHOWN:,} more" if len(parts) > _MAX_SHOWN else ""
    return "; ".join(parts[:_MAX_SHOWN]) + more


def encode_entities(entities: Entities) -> str:
    """The entities of a text as JSON, which `decode_entities` reads."""
    return json.dumps([[each.start, each.end, each.type] for each in entities], ensure_ascii=False)


def decode_entities(encoded: str) -> Entities | None:
    """What `encode_entities` wrote; None for the empty string."""
    return tuple(Entity(*each) for each in json.loads(encoded)) if encoded else None


def _resolve_types(rows: RawRows, named: Sequence[str]) -> tuple[str, ...]:
    """The task's types: those that were named, or all in the data.

    Raises:
        BadData: no entity at all, or one of another type than those named.
    """
    found: Counter[str] = Counter()
    for label, n in Counter(rows.labels).items():
        for entity in decode_entities(label) or ():
            found[entity.type] += n
    if not found:
        raise BadData(
            "No text has an entity, so there is nothing to learn.",
            "Name the column of the marks with --label COLUMN, or mark some texts.",
        )
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


def _make_pool(rows: RawRows, types: tuple[str, ...]) -> EntityPool:
    """The pool of these rows; the entities of the split "pool" are hidden."""
    entities = [decode_entities(label) for label in rows.labels]
    hidden = [split == "pool" for split in rows.splits]
    return EntityPool(
        labels=types,
        texts=rows.texts,
        gold=tuple(None if hide else each for each, hide in zip(entities, hidden, strict=True)),
        split=np.array(rows.splits, dtype="<U10"),
        ids=rows.ids,
        hidden=tuple(each if hide else None for each, hide in zip(entities, hidden, strict=True)),
    )


def _report(role: str, found: EntityColumns, n_bad: int) -> SourceReport:
    table = found.table
    columns: Mapping[str, str] = {"text": found.text, "label": found.marks, "split": found.split}
    return SourceReport(
        name=table.name,
        role=role,
        rows=len(table),
        skipped=table.skipped + n_bad,
        encoding=table.encoding,
        columns={option: name for option, name in columns.items() if name},
        guesses=(*table.guesses, *found.guesses),
        layout=table.layout,
    )


def _warnings(pool: EntityPool) -> Iterator[str]:
    test, train = pool.counts("test"), pool.counts("train")
    n_test = int((pool.split == "test").sum())
    if not n_test:
        yield "There is no test set: nothing will be measured."
    elif n_test < _SMALL_TEST:
        yield f"The test set has only {format_rows(n_test)}: its metrics have wide intervals."
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
