"""A study's data: one test set, one unlabelled pool, and for each size and seed the gold subset, nested in the next.

The unlabelled texts are set aside first and are the same for all cells, so that what a teacher says of them can be
shared. Gold comes class by class in turn, in an order that the seed draws; every so-many-th of a class is for choosing,
where something is chosen. A validation split that the source has is labelled text like any other: it is gold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.near_duplicates import hash_texts, normalise
from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.pool.splits import balanced_sample
from potstill.data.task import Task
from potstill.errors import BadData, MissingWeights, unknown_name
from potstill.models.downloads.fetch import DOWNLOADS, cache_folder, cached_path
from potstill.study.spec import StudyDataSpec, StudySpec, SubsetSize

FILE_SUFFIXES = ("parquet", "csv", "jsonl", "tsv")
TEST_SALT, POOL_SALT, SEED_SALT = 101, 202, 1000


@dataclass(frozen=True, eq=False)
class StudyDataset:
    """One data set of a study.

    Attributes:
        name: as the study calls it.
        task: its labels.
        pool: all of its rows: "train" is what gold may be drawn from, "pool" the unlabelled texts, "test" the test.
        notes: what reading it found, in sentences.
        leaks: rows that are in test as well and were left in, as asked.
        source: where it came from.
    """

    name: str
    task: Task
    pool: Pool
    notes: tuple[str, ...] = ()
    leaks: int = 0
    source: str = ""

    @property
    def without_gold(self) -> Pool:
        """The pool without gold: the test and the unlabelled texts."""
        return _rows(self.pool, np.flatnonzero(np.isin(self.pool.split, ("test", "pool"))))


def read_dataset(
    name: str, asked: StudyDataSpec, study: StudySpec, folder: Path, allow_leak: bool = False
) -> StudyDataset:
    """Read one data set and set its parts aside.

    Raises:
        BadData: whatever `build_pool` raises; test texts that are in train as well; a label without a labelled text;
            too few labels for the smallest size; no unlabelled text where one is needed.
        MissingWeights: a carrier that is not here.
    """
    sources, source = _sources(asked, folder)
    given = asked.model_dump(
        include={"text", "text_b", "label", "split", "encoding", "limit", "test_share"}, exclude_none=True
    )
    options = PoolOptions(**given, on_leak="allow" if allow_leak else asked.on_leak, validation_share=0.0)
    try:
        built = build_pool(sources, labels=asked.labels, options=options)
    except BadData as error:
        if "in test or" in error.message:
            raise BadData(
                f"{name}: {error.message}",
                'Take them out of one side, say on_leak = "drop" under that data set, or go on with --allow-leak.',
            ) from None
        raise BadData(f"{name}: {error.message}", error.hint) from None
    if built.pool.kind == "multi":
        raise BadData(f"{name}: a text may have several labels, and a comparison knows one.", "Take: potstill distill")
    pool = _set_aside(name, built.pool, study, study.unlabelled if asked.unlabelled is None else asked.unlabelled)
    task = Task(pool.labels, name=name, descriptions=asked.descriptions, instruction=asked.instruction, kind=pool.kind)
    _check_sizes(name, pool, study)
    left = built.report.cleaning.leaks_kept
    return StudyDataset(name, task, pool, tuple(built.report.sentences()), left, source)


def subset_sizes(world: StudyDataset, study: StudySpec) -> tuple[int, ...]:
    """Gold labels in all, for each size of the study, ascending; a size beyond what there is becomes "all"."""
    counts = np.array(list(world.pool.counts("train").values()))
    return tuple(sorted({_total(size, counts, study) for size in study.sizes}))


def gold_subset(world: StudyDataset, total: int, seed: int, study: StudySpec) -> Pool:
    """The pool of one subset: `total` gold labels drawn by the seed, the unlabelled texts and the test.

    What is chosen for a smaller total is chosen for a larger one, for training as for validation.
    """
    rows = np.flatnonzero(world.pool.split == "train")
    gold = world.pool.gold[rows]
    order = _drawn(world, seed)
    chosen = balanced_sample(gold, order, total)
    split = world.pool.split.copy()
    split[rows[~chosen]] = ""
    if study.needs_validation:
        split[_every_nth(rows[chosen], gold[chosen], order[chosen], study.validation)] = "validation"
    pool = _rows(world.pool, np.flatnonzero(split != ""))
    return Pool(pool.labels, pool.texts, pool.gold, split[split != ""], pool.ids, pool.hidden_labels, pool.kind)


@lru_cache(maxsize=16)
def _drawn(world: StudyDataset, seed: int) -> NDArray[np.uint64]:
    """(M,) a number for each text that gold may be drawn from; their order is the seed's."""
    return hash_texts([normalise(text) for text in world.pool.subset("train").texts], SEED_SALT + seed)


def _sources(asked: StudyDataSpec, folder: Path) -> tuple[Any, str]:  # what to read, and its name for a reader
    if asked.carrier is not None:
        if asked.carrier not in DOWNLOADS or DOWNLOADS[asked.carrier].kind != "data":
            raise unknown_name(
                "sample data", asked.carrier, [row.name for row in DOWNLOADS.values() if row.kind == "data"]
            )
        found = cached_path(asked.carrier)
        if found is None:
            raise MissingWeights(
                f"The sample data {asked.carrier!r} are not in {cache_folder()}.",
                f"Run: potstill fetch {asked.carrier}",
            )
        return {"train": found / "train.csv", "test": found / "test.csv"}, asked.carrier
    if asked.folder is not None:
        lies = folder / asked.folder.expanduser()
        parts = {
            part: path
            for part in ("train", "validation", "pool", "test")
            if (
                path := next(
                    (lies / f"{part}.{kind}" for kind in FILE_SUFFIXES if (lies / f"{part}.{kind}").exists()), None
                )
            )
        }
        if "train" not in parts or "test" not in parts:
            raise BadData(
                f"{lies} holds no train and test file ({', '.join(FILE_SUFFIXES)}).", "Name the folder that does."
            )
        return parts, str(asked.folder)
    named = {"data": asked.file} if asked.file else {"train": asked.train}
    named |= {part: getattr(asked, part) for part in ("validation", "pool", "test")}
    return {part: folder / path.expanduser() for part, path in named.items() if path is not None}, str(
        asked.file or asked.train
    )


def _set_aside(name: str, pool: Pool, study: StudySpec, unlabelled: int) -> Pool:
    split = pool.split.copy()
    split[split == "validation"] = "train"
    test = np.flatnonzero(split == "test")
    if not len(test):
        raise BadData(f"{name} has no test texts.", "Give some: every cell is measured on the same ones.")
    order = np.argsort(hash_texts([pool.texts[i] for i in test], TEST_SALT), kind="stable")
    split[test[order[study.test :]]] = ""
    loose = np.flatnonzero(split == "pool")
    needed = any("kd" in each for each in study.procedures)
    if len(loose):
        order = np.argsort(hash_texts([pool.texts[i] for i in loose], POOL_SALT), kind="stable")
        split[loose[order[unlabelled:]]] = ""
    elif needed:
        train = np.flatnonzero(split == "train")
        order = np.argsort(hash_texts([pool.texts[i] for i in train], POOL_SALT), kind="stable")
        split[train[order[: min(unlabelled, len(train) // 2)]]] = "pool"
    if needed and not (split == "pool").any():
        raise BadData(
            f"{name} has no unlabelled text, and distillation needs some.",
            "Set unlabelled above 0, give a pool file, or leave out the procedures with KD.",
        )
    kept = np.flatnonzero(split != "")
    part = _rows(pool, kept)
    loose_now = split[kept] == "pool"
    gold = np.where(loose_now, -1, part.gold)
    hidden = np.where(loose_now, np.maximum(part.gold, part.hidden_labels), -1)
    return Pool(part.labels, part.texts, gold, split[kept], part.ids, hidden, pool.kind)


def _check_sizes(name: str, pool: Pool, study: StudySpec) -> None:
    counts = pool.counts("train")
    rarest = min(counts, key=lambda label: counts[label])
    smallest = min((size for size in study.sizes if size != "all"), default=None)
    if counts[rarest] == 0:
        raise BadData(
            f"{name} has no labelled text of {rarest!r} to draw gold from, so every subset would lack that class.",
            "Label some, name the labels without it, or set fewer texts aside with `unlabelled`.",
        )
    if smallest is None:
        return
    if study.per == "class" and counts[rarest] < smallest:
        raise BadData(
            f"The smallest size is {smallest} labels a class, and {name} has only {counts[rarest]} of {rarest!r}.",
            f"Begin with {counts[rarest]} or fewer, or label more.",
        )
    if study.per == "total" and smallest < len(counts):
        raise BadData(
            f"The smallest size is {smallest} labels in all, and {name} has {len(counts)} classes: some would be "
            "missing from the subset.",
            f"Begin with {len(counts)} or more.",
        )
    if study.per == "total" and smallest > sum(counts.values()):
        raise BadData(
            f"The smallest size is {smallest} labels, and {name} has {sum(counts.values())}.", "Begin with fewer."
        )


def _total(size: SubsetSize, counts: NDArray[np.int64], study: StudySpec) -> int:
    if size == "all":
        return int(counts.sum())
    if study.per == "total":
        return min(int(size), int(counts.sum()))
    return int(np.minimum(counts, int(size)).sum())


def _every_nth(
    rows: NDArray[np.int64], gold: NDArray[np.int64], order: NDArray[np.uint64], share: float
) -> NDArray[np.int64]:
    """Of each class in its drawn order every (1/share)-th row: nested, as the subsets are."""
    step = max(2, round(1 / share))
    ranked = np.lexsort((order, gold))
    starts = np.searchsorted(gold[ranked], gold[ranked], side="left")
    turn = np.arange(len(ranked)) - starts
    return np.asarray(rows[ranked[turn % step == step - 1]])


def _rows(pool: Pool, rows: NDArray[np.int64]) -> Pool:
    part = pool.take(rows)
    return Pool(
        pool.labels, part.texts, part.gold.copy(), pool.split[rows], part.ids, pool.hidden_labels[rows], pool.kind
    )
