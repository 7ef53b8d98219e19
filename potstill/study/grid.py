"""The grid: which cells a study has, in the order they are run. Knows no data beyond their sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from potstill.study.backbones import StudyBackbones
from potstill.study.records import Cell
from potstill.study.spec import PROCEDURES, Procedure, StudySpec


def make_grid(
    study: StudySpec,
    casts: Mapping[str, StudyBackbones],
    sizes: Mapping[str, Sequence[int]],
    classes: Mapping[str, int],
) -> list[Cell]:
    """Every cell: what needs no gold first, then seed by seed and size by size, so that an interrupted study has whole
    columns.

    Args:
        study: what was asked.
        casts: data set -> the backbones.
        sizes: data set -> gold labels in all.
        classes: data set -> K.
    """
    return [cell for name in study.data for cell in _of(study, casts[name], name, sizes[name], classes[name])]


def _of(study: StudySpec, cast: StudyBackbones, data: str, sizes: Sequence[int], classes: int) -> Iterator[Cell]:
    seen = set()
    for backbone in cast.backbones:
        named = backbone.finetuned
        if named is not None and named.kind in ("encoder", "static") and named.name not in seen:
            seen.add(named.name)  # before it learns anything its options make no difference
            yield Cell(data, 0, study.seeds[0], "zero-encoder", backbone.name)
    if study.teacher is not None:
        yield Cell(data, 0, study.seeds[0], "zero-llm", study.teacher.name)
    for seed in study.seeds:
        for n in sizes:
            yield Cell(data, n, seed, "majority")
            yield Cell(data, n, seed, "tf-idf")
            for procedure in PROCEDURES:
                yield from (
                    Cell(data, n, seed, procedure, each.name)
                    for each in cast.backbones
                    if procedure in each.procedures
                    and not _too_large(study, data, procedure, n, classes)
                    and not (procedure == "ft+kd" and each is cast.ft_teacher)
                )


def _too_large(study: StudySpec, data: str, procedure: Procedure, n: int, classes: int) -> bool:
    """Whether the study keeps a procedure away from so many labels. P + KD needs its teacher, so P's limit holds it."""
    most = {**study.most, **study.data[data].most}
    limits = [most[each] for each in _needs(procedure) if each in most]
    return bool(limits) and n > min(limits) * (classes if study.per == "class" else 1)


def _needs(procedure: Procedure) -> tuple[Procedure, ...]:
    return {"p+kd": ("p", "p+kd"), "ft+kd": ("ft", "ft+kd")}.get(procedure, (procedure,))  # type: ignore[return-value]
