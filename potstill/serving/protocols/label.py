"""potstill's own route: everything that is known of a text, in one object. The page of the server uses it.

`confident` and `in_scope` are null where the bundle was not calibrated on held-out texts; label sets come on request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from potstill.bundle.bundle import Text
from potstill.bundle.forms import GIVES
from potstill.data.task import OutputForm
from potstill.errors import RequestRefused
from potstill.serving.entity_model import EntityModelAnswer
from potstill.serving.free_text_model import FreeTextModelAnswer
from potstill.serving.model import ModelAnswer, as_text
from potstill.serving.protocols.base import (
    Fact,
    Incoming,
    Operation,
    Question,
    RenderedReply,
    ServingProtocol,
    Situation,
    json_reply,
    parse_body,
    status_of,
)
from potstill.serving.protocols.entities import labelled_entities
from potstill.serving.protocols.free_text import answered_texts
from potstill.serving.refusals import wrong_shape
from potstill.serving.served import AnyServedModel

ONE_TEXT = "a text, or [first, second] for a pair"
_TEXTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "oneOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
        ]
    },
    "description": f"Each is {ONE_TEXT}.",
}
Share = Annotated[float, Field(gt=0, lt=1)]


class LabelCall(BaseModel):
    """The body of `/label`.

    `precision` asks for `confident` at another precision than the bundle's own, `coverage` for a set of labels a text
    that contains the right one this often.
    """

    texts: Annotated[list[Any], WithJsonSchema(_TEXTS)]
    model: str = ""
    truncate: bool = True
    precision: Share | None = None
    coverage: Share | None = None


@dataclass(frozen=True)
class LabelQuery:
    """What is asked beside the labels: `confident` at this precision, and sets of this coverage; None for neither."""

    precision: float | None = None
    coverage: float | None = None


class LabelledReply(BaseModel):
    """What is known of one text.

    Attributes:
        label: the most probable label.
        labels: all labels of the text in a multi-label task, most probable first; else the one.
        probability: of `label`.
        probabilities: of every label.
        confident: whether the probability reaches the threshold; null if none is known.
        in_scope: False if the text is unlike the held-out texts; null if there were none.
        typicality: conformal p-value of that, in (0, 1].
        label_set: the set that was asked for.
    """

    label: str
    labels: list[str]
    probability: float
    probabilities: dict[str, float]
    confident: bool | None
    in_scope: bool | None
    typicality: float | None
    label_set: list[str] | None = None


def parse_label(incoming: Incoming) -> Question[LabelQuery]:
    """The texts of `/label`.

    Raises:
        RequestRefused: not JSON, or another shape.
    """
    given = parse_body(LabelCall, incoming.body)
    texts: list[Text] = []
    for row, each in enumerate(given.texts):
        text = as_text(each)
        if text is None:
            raise wrong_shape(f"texts[{row}]", ONE_TEXT, each)
        texts.append(text)
    query = LabelQuery(given.precision, given.coverage)
    return Question(texts, query, incoming.model or given.model, given.truncate)


def labelled_texts(answer: ModelAnswer, query: LabelQuery) -> Sequence[LabelledReply]:
    """What is known of each text of an answer.

    Raises:
        BadInput: sets of a model without calibration, or of one with several labels a text.
    """
    bundle = answer.model.bundle
    threshold = bundle.threshold if query.precision is None else bundle.threshold_for(query.precision)
    sets = None if query.coverage is None else answer.label_sets(query.coverage)
    found = []
    rows = zip(answer.predictions(), answer.scores(), strict=True)
    for row, (each, probs) in enumerate(rows):
        found.append(
            LabelledReply(
                label=each.label,
                labels=list(each.labels),
                probability=each.probability,
                probabilities=dict(zip(bundle.labels, probs, strict=True)),
                confident=None if threshold is None else each.probability >= threshold,
                in_scope=None if each.typicality is None else each.in_scope,
                typicality=each.typicality,
                label_set=None if sets is None else list(sets[row]),
            )
        )
    return found


def render_label(question: Question[LabelQuery], answer: ModelAnswer) -> RenderedReply:
    """The model, and what is known of each text."""
    texts = [each.model_dump(exclude_none=False) for each in labelled_texts(answer, question.options)]
    return json_reply({"model": answer.model.name, "version": answer.model.version, "texts": texts})


def render_entities(question: Question[LabelQuery], answer: EntityModelAnswer) -> RenderedReply:
    """The model, and the entities of each text.

    Raises:
        RequestRefused: `precision` or `coverage` was given, which are about labels.
    """
    _refuse_about_labels(question, answer)
    return labelled_entities(answer)


def render_answers(question: Question[LabelQuery], answer: FreeTextModelAnswer) -> RenderedReply:
    """The model, and the answer to each text.

    Raises:
        RequestRefused: `precision` or `coverage` was given, which are about labels.
    """
    _refuse_about_labels(question, answer)
    return answered_texts(answer)


def _refuse_about_labels(question: Question[LabelQuery], answer: EntityModelAnswer | FreeTextModelAnswer) -> None:
    asked = [name for name in ("precision", "coverage") if getattr(question.options, name) is not None]
    if asked:
        model = answer.model
        raise RequestRefused("task", f"{model.name} {GIVES[model.form]}, and {asked[0]} is about labels.")


def render_models(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/models`: the served models, the default one first."""
    return json_reply(
        {
            "default": situation.default,
            "models": [
                {
                    "name": model.name,
                    "version": model.version,
                    "labels": list(model.labels),
                    "takes_pairs": model.facts.takes_pairs,
                    "several_labels": model.facts.several_labels,
                    "threshold": model.facts.threshold,
                    "entities": model.form == "entities",
                    "form": model.form,
                    "size_mb": round(model.bundle.size_mb, 2),
                    "made_by": model.bundle.record.made_by,
                }
                for model in situation.models
            ],
        }
    )


def refuse(refusal: RequestRefused) -> RenderedReply:
    """The sentence, the mend, and the reason in a word."""
    return json_reply({"error": refusal.message, "hint": refusal.hint, "reason": refusal.reason}, status_of(refusal))


EXAMPLE = {
    "model": "tickets",
    "version": "0a1b2c3d4e5f",
    "texts": [
        {
            "label": "billing",
            "labels": ["billing"],
            "probability": 0.98,
            "probabilities": {"billing": 0.98, "delivery": 0.02},
            "confident": True,
            "in_scope": True,
            "typicality": 0.7,
            "label_set": ["billing"],
        }
    ],
}
SUMMARY = (
    "Labels, probabilities, confident, in_scope and, on request, label sets; or the entities of or answer to a text."
)
FORMS: Mapping[OutputForm, Callable[[Question[LabelQuery], Any], RenderedReply]] = {
    "entities": render_entities,
    "free": render_answers,
}
LABEL = ServingProtocol(
    "potstill",
    ("/label", "/models"),
    (
        *(
            Operation(path, SUMMARY, parse_label, render_label, LabelCall, EXAMPLE, forms=FORMS)
            for path in ("/label", "/models/{model}/label")
        ),
    ),
    (Fact("/models", "The served models, and the default one.", render_models),),
    refuse,
)
