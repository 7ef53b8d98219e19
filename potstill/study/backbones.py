"""The backbones of a study: which student each is when fine-tuned and when prompted, and which procedures it can run.

Reads the configuration of weights, not the weights. Static vectors and n-grams have no language-model head; encoders
published for sentence embeddings have none either; causal language models have one. They get a classification head too
if the study names a procedure for them that needs one: it is slow, so that is not the default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from potstill.errors import BadSpec
from potstill.models.weights import Weights, find_weights
from potstill.run.spec import ComponentSpec
from potstill.students import FINE_TUNED_STUDENTS, HEADED_LM_STUDENT, LANGUAGE_MODEL_STUDENT
from potstill.students import REGISTRY as STUDENTS
from potstill.students.kinds import student_kind
from potstill.study.records import procedure_title
from potstill.study.spec import StudySpec
from potstill.study.spec_tables import PROCEDURES, BackboneSpec, Procedure


@dataclass(frozen=True)
class Backbone:
    """One backbone.

    Attributes:
        name: as the study calls it.
        finetuned: the student with a classification head; None if there is none for these weights.
        prompted: the student with the weights' language-model head; None if they have none.
        procedures: those to run.
        alternatives: option tables to select among on validation texts; may be empty.
        n_bytes: of its weights; ranks teachers if the study names none.
    """

    name: str
    finetuned: ComponentSpec | None
    prompted: ComponentSpec | None
    procedures: tuple[Procedure, ...]
    alternatives: tuple[Mapping[str, object], ...] = ()
    n_bytes: int = 0

    @property
    def supported(self) -> tuple[Procedure, ...]:
        """Those of `PROCEDURES` it can run."""
        return _supported(self.finetuned, self.prompted)

    def supports(self, procedure: Procedure) -> bool:
        """Whether the student exists that the procedure trains: the prompted one in P, else the fine-tuned one."""
        return (self.prompted if procedure == "p" else self.finetuned) is not None

    def student(self, procedure: Procedure) -> ComponentSpec:
        """The student that a procedure trains."""
        student = self.prompted if procedure == "p" else self.finetuned
        assert student is not None  # checked by `resolve_backbones`
        return student


@dataclass(frozen=True)
class StudyBackbones:
    """The backbones for one data set, and those of them that teach in FT + KD and P + KD."""

    backbones: tuple[Backbone, ...]
    ft_teacher: Backbone | None = None
    p_teacher: Backbone | None = None

    def get(self, name: str) -> Backbone:
        """The backbone of that name."""
        return next(each for each in self.backbones if each.name == name)

    def teacher(self, procedure: Procedure) -> Backbone | None:
        """The backbone whose soft labels a procedure trains on; None if it has none."""
        return {"ft+kd": self.ft_teacher, "p+kd": self.p_teacher}.get(procedure)


def resolve_backbones(study: StudySpec, data: str) -> StudyBackbones:
    """Look up every backbone of the study for one data set, and check that it can run its procedures.

    Raises:
        UnknownName, MissingWeights, BadInput: weights that are not on this machine.
        BadSpec: a backbone that cannot run one of its procedures, or no backbone that can teach.
    """
    backbones = tuple(_resolve(each, study, data) for each in study.backbones)
    for procedure in study.procedures:
        if not any(procedure in each.procedures for each in backbones):
            raise _cannot(backbones[0].name, procedure, backbones[0].supported)
    teachers: dict[str, Backbone | None] = {"ft+kd": None, "p+kd": None}
    wanted: tuple[tuple[Procedure, str | None, Procedure], ...] = (
        ("ft+kd", study.kd.ft_teacher, "ft"),
        ("p+kd", study.kd.p_teacher, "p"),
    )
    for procedure, name, how in wanted:
        if not any(procedure in each.procedures for each in backbones):
            continue
        able = [each for each in backbones if how in each.supported and (name is None or each.name == name)]
        if not able:
            subject = f"{name!r} cannot do" if name else "no backbone of the study can do"
            needs = f"{procedure_title(procedure)} needs a teacher trained by {procedure_title(how)}"
            raise BadSpec(
                f"{needs}, and {subject} that.",
                "Add one, such as smollm2." if how == "p" else "Add an encoder, such as gte-small.",
            )
        teachers[procedure] = max(able, key=lambda each: each.n_bytes)
    return StudyBackbones(backbones, teachers["ft+kd"], teachers["p+kd"])


def _resolve(spec: BackboneSpec, study: StudySpec, data: str) -> Backbone:
    students = _students(spec, {**spec.prompt, **study.data[data].prompt})
    procedures = spec.procedures
    if procedures is None:
        procedures = tuple(each for each in study.procedures if students.supports(each))
    impossible = [each for each in procedures if not students.supports(each)]
    if impossible or not procedures:
        raise _cannot(spec.name, (impossible or list(study.procedures))[0], students.supported)
    return replace(students, procedures=procedures)


def _cannot(name: str, procedure: Procedure, supported: tuple[Procedure, ...]) -> BadSpec:
    missing = "language-model head" if procedure == "p" else "classification head here"
    able = " and ".join(procedure_title(each) for each in supported) or "nothing"
    return BadSpec(
        f"The backbone {name!r} has no {missing}, so it cannot do {procedure_title(procedure)}; it can do {able}.",
        "Name what it is to do with `procedures` under it, or add a backbone that can"
        + (", such as smollm2." if procedure == "p" else ", such as minilm."),
    )


def _students(spec: BackboneSpec, prompt_options: Mapping[str, object]) -> Backbone:
    """The backbone without its procedures."""
    kind, _, weights = (spec.student or (spec.name if spec.name in STUDENTS else "")).partition(":")
    weights = weights or spec.name
    if kind in STUDENTS and "text2text" in student_kind(kind).capabilities.task_kinds:
        raise BadSpec(
            f"The backbone {spec.name!r} is a student of the kind {kind!r}, which gives no labels.",
            'Take another for it, or say the form of the answers under the data sets, such as form = "entities".',
        )
    if kind in STUDENTS and not student_kind(kind).capabilities.pretrained:
        student = ComponentSpec(name=kind, **spec.options)
        return Backbone(spec.name, student, None, (), spec.alternatives)
    found = find_weights(weights)
    kind = kind or FINE_TUNED_STUDENTS.get(found.kind, "")
    if not kind and has_language_head(found) and set(spec.procedures or ()) - {"p"}:
        kind = HEADED_LM_STUDENT
    finetuned, prompted = None, None
    if kind and not student_kind(kind).capabilities.language_head:
        finetuned = ComponentSpec(name=f"{kind}:{weights}", **spec.options)
    if has_language_head(found):
        prompted = ComponentSpec(name=f"{LANGUAGE_MODEL_STUDENT}:{weights}", **prompt_options)
    elif kind == LANGUAGE_MODEL_STUDENT:
        raise _cannot(spec.name, "p", _supported(finetuned, prompted))
    return Backbone(spec.name, finetuned, prompted, (), spec.alternatives, n_bytes(found))


def has_language_head(found: Weights) -> bool:
    """Whether the weights are a causal language model, or an encoder with its masked-language-model head."""
    if found.kind in ("gguf", "causal"):
        return True
    if found.kind != "encoder":
        return False
    config = json.loads((found.path / "config.json").read_text(encoding="utf-8"))
    return any("MaskedLM" in str(each) for each in config.get("architectures") or [])


def _supported(finetuned: ComponentSpec | None, prompted: ComponentSpec | None) -> tuple[Procedure, ...]:
    return tuple(each for each in PROCEDURES if (prompted if each == "p" else finetuned) is not None)


def n_bytes(found: Weights) -> int:
    """Bytes of weights, by which teachers are ranked."""
    if found.path.is_file():
        return found.path.stat().st_size * (4 if found.kind == "gguf" else 1)  # quantised: ranked by its parameters
    return sum(file.stat().st_size for file in found.path.glob("*.safetensors"))
