"""What each backbone of a study can do: which student it is when fine-tuned, which when prompted, or neither.

Looks at the weights' files, loads none of them. Static vectors and n-grams have no language-model head; encoders as
they are published for sentence vectors have none either; causal language models have one and no encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.errors import BadSpec
from potstill.models.weights import Weights, find_weights
from potstill.run.spec import ComponentSpec
from potstill.study.spec import BackboneSpec, Procedure, StudySpec

PROCEDURE_TITLES: Mapping[Procedure, str] = {"ft": "FT", "p": "P", "ft+kd": "FT+KD", "p+kd": "P+KD", "llm+kd": "LLM+KD"}
BY_KIND = {"encoder": "encoder", "static": "static"}


@dataclass(frozen=True)
class Backbone:
    """One backbone.

    Attributes:
        name: as the study calls it.
        tuned: the student it is with a classification head; None where that cannot be.
        prompted: the student it is with its language-model head; None where it has none.
        procedures: those it is to run.
        alternatives: option tables to choose among on validation texts; may be empty.
        size: bytes of its weights; ranks teachers where the study names none.
    """

    name: str
    finetuned: ComponentSpec | None
    prompted: ComponentSpec | None
    procedures: tuple[Procedure, ...]
    alternatives: tuple[Mapping[str, Any], ...] = ()
    n_bytes: int = 0

    @property
    def supported(self) -> tuple[Procedure, ...]:
        """The procedures it can run."""
        return _can(self.finetuned, self.prompted)

    def student(self, procedure: Procedure) -> ComponentSpec:
        """Who learns in this procedure."""
        found = self.prompted if procedure == "p" else self.finetuned
        assert found is not None  # `resolve` saw to it
        return found


@dataclass(frozen=True)
class StudyBackbones:
    """Who takes part: the backbones, and those of them that teach in FT + KD and P + KD."""

    backbones: tuple[Backbone, ...]
    ft_teacher: Backbone | None = None
    p_teacher: Backbone | None = None

    def teacher(self, procedure: Procedure) -> Backbone | None:
        """Whose soft labels a procedure learns; None where no backbone teaches."""
        return {"ft+kd": self.ft_teacher, "p+kd": self.p_teacher}.get(procedure)


def resolve_backbones(study: StudySpec, data: str) -> StudyBackbones:
    """Every backbone of the study for one data set, looked up and checked against what it is asked to do.

    Raises:
        UnknownName, MissingWeights, BadInput: weights that are not here.
        BadSpec: a backbone asked for what it cannot do, or nobody who could teach.
    """
    backbones = tuple(_resolve(each, study, data) for each in study.backbones)
    for asked in study.procedures:
        if not any(asked in each.procedures for each in backbones):
            raise _cannot(backbones[0].name, asked, backbones[0].supported)
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
            who = f"{name!r}" if name else "no backbone of the study"
            raise BadSpec(
                f"{PROCEDURE_TITLES[procedure]} needs a teacher trained by {PROCEDURE_TITLES[how]}, and {who} can do that.",
                "Add one, such as smollm2." if how == "p" else "Add an encoder, such as gte-small.",
            )
        teachers[procedure] = max(able, key=lambda each: each.n_bytes)
    return StudyBackbones(backbones, teachers["ft+kd"], teachers["p+kd"])


def _resolve(asked: BackboneSpec, study: StudySpec, data: str) -> Backbone:
    tuned, prompted, size = _students(asked, {**asked.prompt, **study.data[data].prompt})
    can = _can(tuned, prompted)
    procedures = asked.procedures
    if procedures is None:
        procedures = tuple(each for each in study.procedures if each in can)
    impossible = [each for each in procedures if each not in can]
    if impossible or not procedures:
        raise _cannot(asked.name, (impossible or list(study.procedures))[0], can)
    return Backbone(asked.name, tuned, prompted, procedures, asked.alternatives, size)


def _cannot(name: str, procedure: Procedure, can: tuple[Procedure, ...]) -> BadSpec:
    lacks = "language-model head" if procedure == "p" else "classification head here"
    able = " and ".join(PROCEDURE_TITLES[each] for each in can)
    return BadSpec(
        f"The backbone {name!r} has no {lacks}, so it cannot do {PROCEDURE_TITLES[procedure]}; it can do {able or 'nothing'}.",
        "Name what it is to do with `procedures` under it, or add a backbone that can"
        + (", such as smollm2." if procedure == "p" else ", such as minilm."),
    )


def _students(
    asked: BackboneSpec, prompt: Mapping[str, Any]
) -> tuple[ComponentSpec | None, ComponentSpec | None, int]:  # unpacked at once, twice
    """The student with a classification head, the one with a language-model head, and the bytes of the weights."""
    kind, _, weights = (asked.student or "").partition(":")
    if asked.name == "linear" or kind == "linear":
        return ComponentSpec(name="linear", **asked.options), None, 0
    found = find_weights(weights or asked.name)
    tuned = kind or BY_KIND.get(found.kind, "")
    named = (
        ComponentSpec(name=f"{tuned}:{weights or asked.name}", **asked.options) if tuned and tuned != "cloze" else None
    )
    prompted = ComponentSpec(name=f"cloze:{weights or asked.name}", **prompt) if has_language_head(found) else None
    if kind == "cloze" and prompted is None:
        raise _cannot(asked.name, "p", _can(named, prompted))
    return named, prompted, _bytes(found)


def has_language_head(found: Weights) -> bool:
    """Whether the weights say words: a causal language model, or an encoder with its masked-language-model head."""
    if found.kind in ("gguf", "causal"):
        return True
    if found.kind != "encoder":
        return False
    config = json.loads((found.path / "config.json").read_text(encoding="utf-8"))
    return any("MaskedLM" in str(each) for each in config.get("architectures") or [])


def _can(tuned: ComponentSpec | None, prompted: ComponentSpec | None) -> tuple[Procedure, ...]:
    learns: tuple[Procedure, ...] = ("ft", "ft+kd", "p+kd", "llm+kd") if tuned is not None else ()
    return tuple(each for each in PROCEDURE_TITLES if each in learns or (each == "p" and prompted is not None))


def _bytes(found: Weights) -> int:
    if found.path.is_file():
        return found.path.stat().st_size * (4 if found.kind == "gguf" else 1)  # quantised: rank it by its parameters
    return sum(file.stat().st_size for file in found.path.glob("*.safetensors"))
