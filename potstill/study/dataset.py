"""The data of a study: one test set, one unlabelled pool, and for each size and seed a gold subset, nested in the next.

The unlabelled texts are set aside first and are the same for all cells, so that a teacher's answers can be shared. Gold
is drawn class by class in turn, in an order that the seed draws; every n-th of a class is for validation, if there are
alternatives to select from. A validation split of the source is labelled text like any other: it counts as gold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.data.entities.columns import holds_entities
from potstill.data.near_duplicates import hash_texts, normalise
from potstill.data.paths import as_path
from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.pool.report import PoolReport
from potstill.data.pool.source_tables import read_tables
from potstill.data.pool.splits import balanced_sample
from potstill.data.task import Task
from potstill.errors import BadData, MissingWeights, sentence_with_keys, unknown_name, with_keys
from potstill.models.downloads.fetch import DOWNLOADS, cache_folder, cached_path
from potstill.study.spec import StudySpec
from potstill.study.spec_tables import StudyDataSpec, SubsetSize

FILE_SUFFIXES = ("parquet", "csv", "jsonl", "tsv")
# The keys of a data set that are options of `build_pool`.
READING_KEYS = {
    *("text", "text_b", "label", "label_separator", "kind", "split", "answer", "missing"),
    *("on_conflict", "on_duplicate", "limit", "test_share"),
    *("format", "sheet", "encoding", "delimiter", "quotes", "escape", "header", "skip_rows", "on_bad_row"),
}
TEST_SALT, POOL_SALT, SEED_SALT = 101, 202, 1000


@dataclass(frozen=True, eq=False)
class StudyDataset:
    """One data set of a study.

    Attributes:
        name: as the study calls it.
        task: its labels.
        pool: all of its rows: "train" for gold, "pool" for the unlabelled texts, "test".
        notes: sentences about what reading it found.
        leaks: rows that are in train and in test and were left in, as specified.
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
        return _take(self.pool, np.flatnonzero(np.isin(self.pool.split, ("test", "pool"))))


def read_dataset(
    name: str, spec: StudyDataSpec, study: StudySpec, folder: Path, allow_leak: bool = False
) -> StudyDataset:
    """Read one data set and split it.

    Args:
        name: as the study calls it.
        spec: of the data set.
        study: the specification.
        folder: that relative paths start from.
        allow_leak: whether test texts may be in train.

    Raises:
        BadData: what `build_pool` raises; test texts that are in train; a label without a labelled text; too few
            labels for the smallest size; no unlabelled text for distillation.
        MissingWeights: sample data that are not on this machine.
    """
    sources, source = find_sources(spec, folder)
    options = read_options(spec, allow_leak)
    with errors_of(name):
        tables = read_tables(sources, options)
        first, one_text = next(iter(tables.values())), not (spec.text_b or spec.label_separator)
        if spec.kind is None and one_text and holds_entities(first):
            raise BadData(
                f"{first.name} has texts with marked entities.",
                f'Say form = "entities" under [data.{name}], or kind = "single" to read labels.',
            )
        built = build_pool(tables, labels=spec.labels, options=options)
    if built.pool.kind == "multi":
        raise BadData(
            f"{name}: a text may have several labels; a comparison has one per text.", "Take: potstill distill"
        )
    pool = _split(name, built.pool, study, spec)
    task = Task(pool.labels, name=name, descriptions=spec.descriptions, instruction=spec.instruction, kind=pool.kind)
    _check_sizes(name, pool, study)
    leaks = built.report.cleaning.leaks_kept
    return StudyDataset(name, task, pool, source_notes(name, built.report), leaks, source)


def read_options(spec: StudyDataSpec, allow_leak: bool) -> PoolOptions:
    """How the tables of a data set are read."""
    given = spec.model_dump(include=READING_KEYS - ({"kind"} if spec.form else set()), exclude_none=True)
    return PoolOptions(**given, on_leak="allow" if allow_leak else spec.on_leak, validation_share=0.0)


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Name the data set, and the keys of a study, in the errors of reading it."""
    try:
        yield
    except BadData as error:
        if "--on-leak drop" in error.hint:
            raise BadData(
                f"{name}: {error.message}",
                'Remove them from one side, set on_leak = "drop" under that data set, or go on with --allow-leak.',
            ) from None
        mended = with_keys(error, f"data.{name}")
        raise BadData(f"{name}: {mended.message}", mended.hint) from None


def source_notes(name: str, report: PoolReport) -> tuple[str, ...]:
    """What reading a data set found, with the keys of a study."""
    return tuple(sentence_with_keys(sentence, f"data.{name}") for sentence in report.sentences())


def subset_sizes(dataset: StudyDataset, study: StudySpec) -> tuple[int, ...]:
    """Gold labels in all, for each size of the study, ascending; a size above the number of labels becomes "all"."""
    counts = np.array(list(dataset.pool.counts("train").values()))
    return tuple(sorted({_total(size, counts, study) for size in study.sizes}))


def size_notes(dataset: StudyDataset, study: StudySpec) -> tuple[str, ...]:
    """A sentence for each size of the study that the data set has too few labels for."""
    counts = np.array(list(dataset.pool.counts("train").values()))
    notes = []
    for size in study.sizes:
        wanted = 0 if size == "all" else int(size) * (len(counts) if study.per == "class" else 1)
        if (total := _total(size, counts, study)) < wanted:
            every = "all " if total == counts.sum() else ""
            per = f"{size} per class" if study.per == "class" else f"{size}"
            notes.append(f"{dataset.name} has too few labels for the size {per}: it is run with {every}{total:,}.")
    return tuple(notes)


def gold_subset(dataset: StudyDataset, total: int, seed: int, study: StudySpec) -> Pool:
    """The pool of one subset: `total` gold labels drawn by the seed, the unlabelled texts and the test texts.

    The texts of a smaller total are among those of a larger one, for training as for validation.
    """
    rows = np.flatnonzero(dataset.pool.split == "train")
    gold = dataset.pool.gold[rows]
    order = random_order(dataset, seed)
    drawn = balanced_sample(gold, order, total)
    split = dataset.pool.split.copy()
    split[rows[~drawn]] = ""
    if study.needs_validation:
        split[_every_nth(rows[drawn], gold[drawn], order[drawn], study.validation_share)] = "validation"
    pool = _take(dataset.pool, np.flatnonzero(split != ""))
    return Pool(
        pool.labels, pool.texts, pool.gold, split[split != ""], pool.ids, pool.hidden_labels, pool.kind, pool.soft
    )


@lru_cache(maxsize=16)
def random_order(dataset: StudyDataset, seed: int) -> NDArray[np.uint64]:
    """(M,) a number for each of the M training texts, whose order depends on the seed."""
    return hash_texts([normalise(text) for text in dataset.pool.subset("train").texts], SEED_SALT + seed)


def find_sources(spec: StudyDataSpec, folder: Path) -> tuple[dict[str, Path], str]:
    """Part -> file, and a name of the source for the report."""
    if spec.sample is not None:
        samples = [row.name for row in DOWNLOADS.values() if row.kind == "data"]
        if spec.sample not in samples:
            raise unknown_name("sample data", spec.sample, samples)
        cached = cached_path(spec.sample)
        if cached is None:
            raise MissingWeights(
                f"The sample data {spec.sample!r} are not in {cache_folder()}.", f"Run: potstill fetch {spec.sample}"
            )
        return {"train": cached / "train.csv", "test": cached / "test.csv"}, spec.sample
    if spec.folder is not None:
        parts = _find_parts(folder / as_path(spec.folder))
        return parts, str(spec.folder)
    files = {"data": spec.file} if spec.file else {"train": spec.train}
    files |= {"validation": spec.validation, "pool": spec.pool, "test": spec.test}
    paths = {part: folder / as_path(path) for part, path in files.items() if path is not None}
    return paths, str(spec.file or spec.train)


def _find_parts(folder: Path) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    for part in ("train", "validation", "pool", "test"):
        paths = (folder / f"{part}.{suffix}" for suffix in FILE_SUFFIXES)
        path = next((each for each in paths if each.exists()), None)
        if path is not None:
            parts[part] = path
    if "train" not in parts or "test" not in parts:
        raise BadData(f"{folder} has no train and test file ({', '.join(FILE_SUFFIXES)}).", "Name the folder that has.")
    return parts


def set_aside(
    name: str, texts: Sequence[str], given: NDArray[np.str_], study: StudySpec, spec: StudyDataSpec
) -> NDArray[np.str_]:
    """The splits with at most `max_test` test texts, and with unlabelled texts if the study distils; "" is left out.

    Raises:
        BadData: there is no test text, or no unlabelled one for distillation.
    """
    split = given.copy()
    split[split == "validation"] = "train"
    test = np.flatnonzero(split == "test")
    if not len(test):
        raise BadData(f"{name} has no test texts.", "Give some: every cell is evaluated on the same ones.")
    split[_shuffle(texts, test, TEST_SALT)[study.max_test :]] = ""
    max_unlabelled = study.max_unlabelled if spec.max_unlabelled is None else spec.max_unlabelled
    unlabelled = np.flatnonzero(split == "pool")
    if len(unlabelled):
        split[_shuffle(texts, unlabelled, POOL_SALT)[max_unlabelled:]] = ""
    elif study.distils:
        train = np.flatnonzero(split == "train")
        split[_shuffle(texts, train, POOL_SALT)[: min(max_unlabelled, len(train) // 2)]] = "pool"
    if study.distils and not (split == "pool").any():
        raise BadData(
            f"{name} has no unlabelled text, and distillation needs some.",
            "Set max_unlabelled above 0, give a pool file, or leave out the procedures with KD.",
        )
    return split


def _split(name: str, pool: Pool, study: StudySpec, spec: StudyDataSpec) -> Pool:
    """The pool with the splits of `set_aside`."""
    split = set_aside(name, pool.texts, pool.split, study, spec)
    rows = np.flatnonzero(split != "")
    subset = _take(pool, rows)
    is_unlabelled = split[rows] == "pool"
    gold = np.where(is_unlabelled, -1, subset.gold)
    hidden = np.where(is_unlabelled, np.maximum(subset.gold, subset.hidden_labels), -1)
    return Pool(subset.labels, subset.texts, gold, split[rows], subset.ids, hidden, pool.kind, subset.soft)


def _shuffle(texts: Sequence[str], rows: NDArray[np.int64], salt: int) -> NDArray[np.int64]:
    """The rows in an order that depends on their texts alone."""
    return rows[np.argsort(hash_texts([texts[i] for i in rows], salt), kind="stable")]


def _check_sizes(name: str, pool: Pool, study: StudySpec) -> None:
    counts = pool.counts("train")
    rarest = min(counts, key=lambda label: counts[label])
    smallest = min((size for size in study.sizes if size != "all"), default=None)
    if counts[rarest] == 0:
        raise BadData(
            f"{name} has no labelled text of {rarest!r} to draw gold from, so every subset would lack that class.",
            "Label some, name the labels without it, or set fewer texts aside with `max_unlabelled`.",
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
    """Every (1/share)-th row of each class in the given order: nested, as the subsets are."""
    step = max(2, round(1 / share))
    ranked = np.lexsort((order, gold))
    starts = np.searchsorted(gold[ranked], gold[ranked], side="left")
    rank = np.arange(len(ranked)) - starts
    return np.asarray(rows[ranked[rank % step == step - 1]])


def _take(pool: Pool, rows: NDArray[np.int64]) -> Pool:
    subset = pool.take(rows)
    split, hidden = pool.split[rows], pool.hidden_labels[rows]
    return Pool(pool.labels, subset.texts, subset.gold.copy(), split, subset.ids, hidden, pool.kind, subset.soft)
