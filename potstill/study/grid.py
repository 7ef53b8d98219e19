"""The grid: the cells of a study, in the order they are run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from potstill.data.task import OutputForm
from potstill.students.kinds import student_kind
from potstill.study.backbones import StudyBackbones
from potstill.study.records import Baseline, Cell
from potstill.study.spec import StudySpec
from potstill.study.spec_tables import PROCEDURES, Procedure

GOLD_BASELINES: Mapping[OutputForm | None, tuple[Baseline, ...]] = {
    None: ("majority", "tf-idf"),
    "entities": ("known-words",),
    "free": ("frequent-answer",),
}  # by the form of the answers
TRAINS_TEACHER: Mapping[Procedure, tuple[Procedure, ...]] = {"p+kd": ("p",), "ft+kd": ("ft",)}


def make_grid(
    study: StudySpec,
    backbones: Mapping[str, StudyBackbones],
    sizes: Mapping[str, Sequence[int]],
    n_labels: Mapping[str, int],
) -> list[Cell]:
    """All cells: those without gold first, then by seed and by size, so that an interrupted study has complete seeds.

    Args:
        study: the specification.
        backbones: data set -> backbones.
        sizes: data set -> gold labels in all.
        n_labels: data set -> K.
    """
    return [cell for name in study.data for cell in _cells(study, backbones[name], name, sizes[name], n_labels[name])]


def _cells(
    study: StudySpec, backbones: StudyBackbones, data: str, sizes: Sequence[int], n_labels: int
) -> Iterator[Cell]:
    yield from (Cell(data, 0, study.seeds[0], *each) for each in _without_gold(study, backbones))
    for seed in study.seeds:
        for n in sizes:
            yield from (Cell(data, n, seed, baseline) for baseline in GOLD_BASELINES[study.form])
            if study.teacher and study.kd.shots and not _is_too_large(study, data, "few-llm", n, n_labels):
                yield Cell(data, n, seed, "few-llm", study.teacher.name)
            for procedure in dict.fromkeys((*PROCEDURES, *study.procedures)):
                yield from (
                    Cell(data, n, seed, procedure, each.name)
                    for each in backbones.backbones
                    if procedure in each.procedures
                    and not _is_too_large(study, data, procedure, n, n_labels)
                    and not (procedure == "ft+kd" and each is backbones.ft_teacher)
                )


def _without_gold(study: StudySpec, backbones: StudyBackbones) -> Iterator[tuple[Baseline, str]]:
    """The baselines that need no gold, and the backbone or teacher of each."""
    zero_shot = set()
    for backbone in backbones.backbones:
        student = backbone.finetuned
        if student is None or student.name in zero_shot:
            continue
        capabilities = student_kind(student.kind).capabilities
        if capabilities.vectors and capabilities.zero_shot:
            zero_shot.add(student.name)  # without training its options make no difference
            yield "zero-encoder", backbone.name
    if study.form == "free":
        yield "text-itself", ""
    if study.teacher is not None:
        yield "zero-llm", study.teacher.name


def _is_too_large(study: StudySpec, data: str, procedure: Procedure, n: int, n_labels: int) -> bool:
    """Whether `n` is above the procedure's `max_size`, or that of the procedure which trains its teacher."""
    max_size = {**study.max_size, **study.data[data].max_size}
    limits = [max_size[each] for each in (procedure, *TRAINS_TEACHER.get(procedure, ())) if each in max_size]
    return bool(limits) and n > min(limits) * (n_labels if study.per == "class" else 1)
