"""The data of a study of entities or of answers in words; the sibling of `dataset.py` for gold without classes.

Sources, leaks, the test set and the unlabelled texts are those of labels. Gold is drawn in an order that the seed
draws; every n-th text of it is for validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from potstill.data.entities.build import EntityPoolBuild, build_entity_pool
from potstill.data.free_text.build import FreeTextPoolBuild, build_free_text_pool
from potstill.data.label_values import normalise_label
from potstill.data.pool import Pool, PoolOptions
from potstill.data.task import ANSWERS, Task
from potstill.data.text2text_pool import Text2TextPool
from potstill.errors import BadData
from potstill.study.dataset import (
    StudyDataset,
    errors_of,
    find_sources,
    random_order,
    read_options,
    set_aside,
    source_notes,
)
from potstill.study.form_gold import AnswerGold, EntityGold, FormGold
from potstill.study.spec import StudySpec
from potstill.study.spec_tables import StudyDataSpec

FormPool = Text2TextPool[Any]


@dataclass(frozen=True, eq=False)
class FormDataset(StudyDataset):
    """One data set of a study whose pool is an `EntityPool` or a `FreeTextPool`."""

    @property
    def without_gold(self) -> Pool:
        """The pool without gold: the test and the unlabelled texts."""
        pool = form_pool(self)
        return cast(Pool, _with_split(pool, np.where(np.isin(pool.split, ("test", "pool")), pool.split, "")))


def form_pool(dataset: StudyDataset) -> FormPool:
    """The data set's pool."""
    return cast(FormPool, dataset.pool)  # it has the splits and texts of a `Pool`, which is what a run reads


def read_form_dataset(
    name: str, spec: StudyDataSpec, study: StudySpec, folder: Path, allow_leak: bool = False
) -> FormDataset:
    """Read one data set and split it; see `dataset.read_dataset`.

    Raises:
        BadData: marks or answers that cannot be read; test texts that are in train; too few texts for the smallest
            size; no unlabelled text for distillation.
        MissingWeights: sample data that are not on this machine.
    """
    sources, source = find_sources(spec, folder)
    with errors_of(name):
        built = _build(sources, spec, read_options(spec, allow_leak))
    given: FormPool = built.pool
    pool = _with_split(given, set_aside(name, given.texts, given.split, study, spec))
    descriptions = {normalise_label(label): about for label, about in spec.descriptions.items()}
    output = study.output(name)
    assert output is not None
    task = Task(pool.labels, name, descriptions, spec.instruction, "text2text", output)
    _check_sizes(name, int((pool.split == "train").sum()), ANSWERS[output.form], study)
    leaks = built.report.cleaning.leaks_kept
    return FormDataset(name, task, cast(Pool, pool), source_notes(name, built.report), leaks, source)


def _build(sources: dict[str, Path], spec: StudyDataSpec, options: PoolOptions) -> EntityPoolBuild | FreeTextPoolBuild:
    if spec.form == "entities":
        return build_entity_pool(sources, types=spec.labels, options=options)
    return build_free_text_pool(sources, options=options)


def _check_sizes(name: str, n: int, has: str, study: StudySpec) -> None:
    if n == 0:
        raise BadData(
            f"{name} has no text with {has} left to draw gold from.",
            "Give some, or set fewer texts aside with `max_unlabelled`.",
        )
    smallest = min((size for size in study.sizes if size != "all"), default=None)
    if smallest is not None and n < smallest:
        raise BadData(f"The smallest size is {smallest} texts, and {name} has {n} with {has}.", "Begin with fewer.")


def form_subset_sizes(dataset: StudyDataset, study: StudySpec) -> tuple[int, ...]:
    """Gold texts in all, for each size of the study, ascending; a size above their number becomes "all"."""
    n = len(dataset.pool.subset("train").texts)
    return tuple(sorted({n if size == "all" else min(int(size), n) for size in study.sizes}))


def form_size_notes(dataset: StudyDataset, study: StudySpec) -> tuple[str, ...]:
    """A sentence for each size of the study that the data set has too few gold texts for."""
    n = len(dataset.pool.subset("train").texts)
    has = ANSWERS[study.data[dataset.name].form or "entities"]
    return tuple(
        f"{dataset.name} has too few texts with {has} for the size {size}: it is run with all {n:,}."
        for size in study.sizes
        if size != "all" and int(size) > n
    )


def form_gold_subset(dataset: StudyDataset, total: int, seed: int, study: StudySpec) -> Pool:
    """The pool of one subset: `total` gold texts drawn by the seed, the unlabelled texts and the test texts.

    The texts of a smaller total are among those of a larger one, for training as for validation.
    """
    pool = form_pool(dataset)
    rows = np.flatnonzero(pool.split == "train")
    ranked = rows[np.argsort(random_order(dataset, seed), kind="stable")]
    split = pool.split.copy()
    split[ranked[total:]] = ""
    if study.needs_validation:
        step = max(2, round(1 / study.validation_share))
        split[ranked[:total][step - 1 :: step]] = "validation"
    return cast(Pool, _with_split(pool, split))


def form_gold(dataset: StudyDataset) -> FormGold:
    """The gold of the test texts."""
    pool = form_pool(dataset)
    return gold_of(dataset.task, pool.columns(pool.rows_of("test"))["gold"])


def gold_of(task: Task, gold: Sequence[Any]) -> FormGold:
    """The gold of N texts; an unlabelled one has no entity, or no reference."""
    answers = tuple(each or () for each in gold)
    if task.form == "entities":
        return EntityGold(answers, task.labels)
    assert task.output is not None
    assert task.output.metric is not None
    return AnswerGold(answers, task.output.metric)


def _with_split(pool: FormPool, split: NDArray[np.str_]) -> FormPool:
    """The rows that have a split, with it; the gold of unlabelled ones is hidden."""
    rows = np.flatnonzero(split != "").tolist()
    hides = [split[i] == "pool" for i in rows]
    return type(pool)(
        labels=pool.labels,
        texts=tuple(pool.texts[i] for i in rows),
        gold=tuple(None if hide else pool.gold[i] for i, hide in zip(rows, hides, strict=True)),
        split=split[rows],
        ids=tuple(pool.ids[i] for i in rows),
        hidden=tuple(_known(pool, i) if hide else None for i, hide in zip(rows, hides, strict=True)),
    )


def _known(pool: FormPool, row: int) -> Any:
    """What is known of a text that is unlabelled here; None if nothing is."""
    return pool.hidden[row] if pool.gold[row] is None else pool.gold[row]
