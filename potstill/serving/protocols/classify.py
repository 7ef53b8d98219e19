"""The `/classify` of vLLM and SGLang: the model in the body, a label and all probabilities a text."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, WithJsonSchema

from potstill.bundle.bundle import Text
from potstill.errors import RequestRefused
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
from potstill.serving.refusals import wrong_shape
from potstill.serving.served import AnyServedModel

INPUT = "a text, or an array of texts; a pair is an array of two inside it"
_SCHEMA = {
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "array"}]}}],
    "description": INPUT,
}
ERROR_TYPES = {
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    424: "InternalServerError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


class ClassifyRequest(BaseModel):
    """The body of `/classify`."""

    model: str | None = None
    input: Annotated[Any, WithJsonSchema(_SCHEMA)]
    use_activation: bool | None = None


@dataclass(frozen=True)
class ClassifyOptions:
    """Whether `probs` are logits."""

    raw: bool


def parse_classify(incoming: Incoming) -> Question[ClassifyOptions]:
    """The texts; an array of strings is always a batch.

    Raises:
        RequestRefused: not JSON, or another shape.
    """
    given = parse_body(ClassifyRequest, incoming.body)
    inputs = [given.input] if isinstance(given.input, str) else given.input
    if not isinstance(inputs, list):
        raise wrong_shape("input", INPUT, inputs)
    texts: list[Text] = []
    for row, each in enumerate(inputs):
        text = as_text(each)
        if text is None:
            raise wrong_shape(f"input[{row}]", "a text, or [first, second] for a pair", each)
        texts.append(text)
    return Question(texts, ClassifyOptions(given.use_activation is False), given.model or incoming.model)


def render_classify(question: Question[ClassifyOptions], answer: ModelAnswer) -> RenderedReply:
    """One object a text; `label` is the most probable one, also where a text may have several."""
    best = answer.computed.probs.argmax(axis=1).tolist()
    labels = answer.model.labels
    tokens = int(answer.computed.tokens.sum())
    data = [
        {"index": row, "label": labels[k], "probs": scores, "num_classes": len(labels)}
        for row, (k, scores) in enumerate(zip(best, answer.scores(raw=question.options.raw), strict=True))
    ]
    return json_reply(
        {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": answer.model.name,
            "data": data,
            "usage": {
                "prompt_tokens": tokens,
                "total_tokens": tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
        }
    )


def render_list(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/v1/models`: the served models as clients of vLLM list them."""
    models = [{"id": each.name, "object": "model", "created": 0, "owned_by": "potstill"} for each in situation.models]
    return json_reply({"object": "list", "data": models})


def refuse(refusal: RequestRefused) -> RenderedReply:
    """The shape of an error in vLLM."""
    status = status_of(refusal)
    error_type = ERROR_TYPES.get(status, "BadRequestError")
    param = {"model": "model", "shape": "input"}.get(refusal.reason)
    return json_reply({"error": {"message": str(refusal), "type": error_type, "param": param, "code": status}}, status)


EXAMPLE = {
    "id": "classify-1",
    "object": "list",
    "created": 1,
    "model": "tickets",
    "data": [{"index": 0, "label": "billing", "probs": [0.98, 0.02], "num_classes": 2}],
    "usage": {"prompt_tokens": 5, "total_tokens": 5, "completion_tokens": 0, "prompt_tokens_details": None},
}
SUMMARY = "A label and all probabilities a text; the model is named in the body."
CLASSIFY = ServingProtocol(
    "vLLM and SGLang",
    ("/classify", "/v1/"),
    tuple(
        Operation(path, SUMMARY, parse_classify, render_classify, ClassifyRequest, EXAMPLE)
        for path in ("/classify", "/v1/classify", "/models/{model}/classify")
    ),
    (Fact("/v1/models", "The served models.", render_list),),
    refuse,
)
