"""What a study does by the kind of its tasks: labels, or entities and answers in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from potstill.data.pool import Pool
from potstill.data.task import JsonObject, OutputForm
from potstill.run.spec import ComponentSpec
from potstill.students import FORM_STUDENTS
from potstill.students.base import TrainedModel
from potstill.study.backbones import StudyBackbones, resolve_backbones
from potstill.study.cell import TFIDF_STUDENT, CellContext, cell_key, run_cell
from potstill.study.dataset import StudyDataset, gold_subset, read_dataset, size_notes, subset_sizes
from potstill.study.footprint import measure_footprint
from potstill.study.form_backbones import resolve_form_backbones
from potstill.study.form_cell import form_cell_key, run_form_cell
from potstill.study.form_dataset import (
    form_gold,
    form_gold_subset,
    form_size_notes,
    form_subset_sizes,
    read_form_dataset,
)
from potstill.study.form_footprint import measure_form_footprint
from potstill.study.form_gold import FormGold
from potstill.study.records import Cell, CellResult, Footprint
from potstill.study.spec import StudySpec
from potstill.study.spec_tables import StudyDataSpec


@dataclass(frozen=True)
class CellKind:
    """How the data sets and cells of a study are made.

    Attributes:
        backbones: looks up the backbones for a data set.
        read: reads a data set: its name, its table, the study, the folder of its files, and whether leaks are allowed.
        sizes, size_notes: gold in all for each size, and sentences about sizes that there is too little gold for.
        subset: draws so much gold by a seed.
        key, run: the key of a cell's result, and the result.
        gold: of the test texts.
        read_result: reads a result that was stored.
        footprint: measures a student; the note says which cell it is of.
        base_student: of runs, until a cell names its own.
    """

    backbones: Callable[[StudySpec, str], StudyBackbones]
    read: Callable[[str, StudyDataSpec, StudySpec, Path, bool], StudyDataset]
    sizes: Callable[[StudyDataset, StudySpec], tuple[int, ...]]
    size_notes: Callable[[StudyDataset, StudySpec], tuple[str, ...]]
    subset: Callable[[StudyDataset, int, int, StudySpec], Pool]
    key: Callable[[Cell, StudySpec, StudyBackbones, str], str]
    run: Callable[[Cell, CellContext], tuple[CellResult, TrainedModel | None]]
    gold: Callable[[StudyDataset], NDArray[Any] | FormGold]
    read_result: Callable[[StudyDataset, JsonObject], CellResult]
    footprint: Callable[[Any, StudyDataset, str], Footprint]
    base_student: ComponentSpec


def _read_label_result(dataset: StudyDataset, record: JsonObject) -> CellResult:
    return CellResult.read(record, len(dataset.pool.subset("test").texts), dataset.task.n_labels)


def _read_form_result(dataset: StudyDataset, record: JsonObject) -> CellResult:
    return CellResult.read_form(record, form_gold(dataset))


def _label_footprint(student: Any, dataset: StudyDataset, note: str) -> Footprint:
    return measure_footprint(student, dataset.task, dataset.pool.subset("test").texts, note)


def _form_footprint(student: Any, dataset: StudyDataset, note: str) -> Footprint:
    return measure_form_footprint(student, dataset.task, dataset.pool.subset("test"), note)


_LABELS = CellKind(
    backbones=resolve_backbones,
    read=read_dataset,
    sizes=subset_sizes,
    size_notes=size_notes,
    subset=gold_subset,
    key=cell_key,
    run=run_cell,
    gold=lambda dataset: dataset.pool.subset("test").gold,
    read_result=_read_label_result,
    footprint=_label_footprint,
    base_student=TFIDF_STUDENT,
)


def cell_kind(form: OutputForm | None) -> CellKind:
    """The kind of a study whose answers are of the form; None for labels."""
    if form is None:
        return _LABELS
    return CellKind(
        backbones=resolve_form_backbones,
        read=read_form_dataset,
        sizes=form_subset_sizes,
        size_notes=form_size_notes,
        subset=form_gold_subset,
        key=form_cell_key,
        run=run_form_cell,
        gold=form_gold,
        read_result=_read_form_result,
        footprint=_form_footprint,
        base_student=ComponentSpec(name=FORM_STUDENTS[form]),
    )
