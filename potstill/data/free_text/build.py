"""Builds a pool of free texts from files or tables: read, gather the references, clean, split, and warn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from potstill.data.free_text.columns import decode_references, encode_references, find_answer_columns
from potstill.data.free_text.pool import FreeTextPool
from potstill.data.label_values import MISSING_MARKERS
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
from potstill.errors import BadData


@dataclass(frozen=True)
class FreeTextPoolBuild:
    """A pool of free texts and the report on how it was built; its counts are texts with answers, and references."""

    pool: FreeTextPool
    report: PoolReport


def build_free_text_pool(
    sources: Sources,
    *,
    options: PoolOptions = PoolOptions(),  # noqa: B008 - frozen
    needs_gold: bool = True,
) -> FreeTextPoolBuild:
    """Read, gather references, clean and split.

    A text in several rows of a split with different answers becomes one with several references, unless
    `options.on_conflict` says otherwise. A row without an answer joins the pool.

    Args:
        sources: as for `pool.build_pool`.
        options: columns, encoding, and what to do with bad rows, duplicates, conflicts and leaks. The label is the
            column of the answers, or several.
        needs_gold: whether an answer has to be there.

    Raises:
        BadData: what `read_table` raises; answers that cannot be read; no answer at all; no rows left to learn from.
        BadSpec: an unknown role of a source, or a share outside [0, 1).
    """
    read = read_form_rows(sources, options, _FreeTextForm())
    if needs_gold and not any(read.rows.labels):
        raise BadData("No text has an answer, so there is nothing to learn.", "Name their column with --label COLUMN.")
    gathered = _Gathered(read.rows, 0) if options.on_conflict else _gather_references(read.rows)
    split = split_form_rows(gathered.rows, options)
    pool = FreeTextPool(labels=(), **pool_fields(split.rows, decode_references))
    return FreeTextPoolBuild(
        pool, form_report(read, split, pool.counts, (*gathered.sentences(), *_warnings(pool, options)))
    )


class _FreeTextForm:
    """Answers in a cell, written as a JSON list of references."""

    unreadable = "with answers that cannot be read"
    mend = "Correct the answers"

    def find_columns(self, role: str, table: Table, options: PoolOptions) -> FormColumns:
        return find_answer_columns(role, table, options)


@dataclass(frozen=True)
class _Gathered:
    """Rows in which a text of a split stands once with all its references, and how many texts had several rows."""

    rows: RawRows
    n_gathered: int

    def sentences(self) -> Iterator[str]:
        if self.n_gathered:
            texts = "1 text stands" if self.n_gathered == 1 else f"{self.n_gathered:,} texts stand"
            yield f"{texts} in several rows with different answers: all of them are references of the text."


def _gather_references(rows: RawRows) -> _Gathered:
    """Join the different answers to a text of one split in its first row; rows that repeat an answer stay."""
    same: dict[tuple[str, str], list[int]] = {}
    for i, (split, text, label) in enumerate(zip(rows.splits, rows.texts, rows.labels, strict=True)):
        if label:
            same.setdefault((split, text.strip()), []).append(i)
    labels, keep, n = list(rows.labels), np.ones(len(rows), dtype=np.bool_), 0
    for group in same.values():
        if len({rows.labels[i] for i in group}) > 1:
            references = [each for i in group for each in decode_references(rows.labels[i]) or ()]
            labels[group[0]] = encode_references(references)
            keep[group[1:]] = False
            n += 1
    return _Gathered(replace(rows, labels=tuple(labels)).filter(keep), n)


def _warnings(pool: FreeTextPool, options: PoolOptions) -> Iterator[str]:
    if small := small_test_warning(int((pool.split == "test").sum())):
        yield small
    if options.missing is None and (found := _marker(pool)):
        word, n = next(iter(found.items()))
        texts = "1 text is" if n == 1 else f"{n:,} texts are"
        yield f"{texts} answered {word!r}, which is learnt as an answer; --missing {word} makes it none."


def _marker(pool: FreeTextPool) -> Mapping[str, int]:
    """The most frequent answer that other tables write for none, and how often it stands; empty without any."""
    answers = Counter(each[0] for each in pool.gold if each is not None and len(each) == 1)
    found = {word: n for word, n in answers.items() if word in MISSING_MARKERS}
    return dict(sorted(found.items(), key=lambda each: -each[1])[:1])
