"""The backbones of a study of entities or of answers in words: which student each is, and which of them teaches.

The sibling of `backbones.py`: a backbone is one student, fine-tuned on the gold or on a teacher's answers.
"""

from __future__ import annotations

from potstill.data.task import ANSWERS, Output, OutputForm
from potstill.errors import BadSpec
from potstill.models.weights import find_weights
from potstill.run.spec import ComponentSpec
from potstill.students import FORM_STUDENTS, WRITING_STUDENTS
from potstill.students import REGISTRY as STUDENTS
from potstill.students.base import StudentConfig
from potstill.students.kinds import student_kind
from potstill.study.backbones import Backbone, StudyBackbones, n_bytes
from potstill.study.records import procedure_title
from potstill.study.spec import StudySpec
from potstill.study.spec_tables import BackboneSpec
from potstill.teachers.kinds import teacher_kind


def resolve_form_backbones(study: StudySpec, data: str) -> StudyBackbones:
    """Look up every backbone of the study for one data set.

    Raises:
        UnknownName, MissingWeights, BadInput: weights that are not on this machine, or of another kind.
        BadSpec: a teacher or a backbone's student that gives other answers, an option that there is not, or a procedure
            that no backbone runs.
    """
    form = study.data[data].form
    assert form is not None
    _check_teacher(study, form)
    backbones = tuple(_resolve(each, form, study) for each in study.backbones)
    unused = next((name for name in study.procedures if not any(name in each.procedures for each in backbones)), None)
    if unused is not None:
        raise BadSpec(
            f"No backbone runs {procedure_title(unused)}, which the study names.",
            "Leave it out of procedures, or name it under a backbone, too.",
        )
    teacher: Backbone | None = None
    if any("ft+kd" in each.procedures for each in backbones):
        name = study.kd.ft_teacher
        teacher = max((each for each in backbones if name in (None, each.name)), key=lambda each: each.n_bytes)
    return StudyBackbones(backbones, ft_teacher=teacher)


def _check_teacher(study: StudySpec, form: OutputForm) -> None:
    teacher = study.teacher
    if teacher is None:
        return
    capabilities = teacher_kind(teacher.kind).capabilities
    if capabilities.human or form not in capabilities.output_forms:
        does = (
            "stands for people, and a study asks models alone"
            if capabilities.human
            else f"does not give {ANSWERS[form]}"
        )
        raise BadSpec(
            f"The teacher {teacher.name!r} {does}.", "Name another under [teacher], or leave it and llm+kd out."
        )


def _resolve(spec: BackboneSpec, form: OutputForm, study: StudySpec) -> Backbone:
    given = spec.student or spec.name
    kind, _, weights = given.partition(":")
    if kind not in STUDENTS:
        kind, weights = _kind_of(given, form), given
    if form not in student_kind(kind).capabilities.output_forms:
        default = FORM_STUDENTS[form]
        raise BadSpec(
            f"The backbone {spec.name!r} is a student of the kind {kind!r}, which does not give {ANSWERS[form]}.",
            f'Take student = "{default}:WEIGHTS" for it.',
        )
    for alternative in spec.alternatives or ({},):
        options = {**spec.options, **alternative}
        config = StudentConfig((), weights, {}, options, "text2text", "", Output(form))
        student_kind(kind)(config).check_requirements()  # what cannot be is refused before anything is trained
    student = ComponentSpec(name=f"{kind}:{weights}".rstrip(":"), **spec.options)
    size = n_bytes(find_weights(weights)) if weights else 0
    procedures = study.procedures if spec.procedures is None else spec.procedures
    return Backbone(spec.name, student, None, procedures, spec.alternatives, size)


def _kind_of(weights: str, form: OutputForm) -> str:
    """The student of weights that are named without one: of answers in words by the kind of the weights."""
    default = FORM_STUDENTS[form]
    return WRITING_STUDENTS.get(find_weights(weights).kind, default) if form == "free" else default
