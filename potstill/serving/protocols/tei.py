"""The protocol of Hugging Face's text-embeddings-inference 1.9, and of `InferenceClient.text_classification`.

TEI reads two strings in an array as a pair and refuses three. The bare address, which `InferenceClient` uses, reads an
array of strings as a batch unless the model compares pairs, and always answers with a list a text. TEI takes the
softmax of all scores; here it is the task's own function: a sigmoid for each label where a text may have several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import to_json

from potstill.bundle.bundle import Text
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
from potstill.serving.protocols.entities import entity_groups
from potstill.serving.protocols.free_text import generated_texts
from potstill.serving.refusals import wrong_shape
from potstill.serving.served import AnyAnswer, AnyServedModel

ONE_OR_PAIR = "a text, a pair of texts [first, second], or a batch [[text], [first, second], ...]"
_STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
_INPUTS = {
    "oneOf": [{"type": "string"}, _STRINGS, {"type": "array", "items": {"oneOf": [{"type": "string"}, _STRINGS]}}],
    "description": ONE_OR_PAIR,
}
BEFORE_SCORE = b'{"score":'
TINY = 1e-12  # the length of an embedding that is not divided by
ERROR_TYPES = {
    "empty": "Empty",
    "tokens": "Tokenizer",
    "backend": "Backend",
    "bug": "Backend",
    "busy": "Overloaded",
    "unready": "Unhealthy",
}


class PredictRequest(BaseModel):
    """The body of `/predict`."""

    inputs: Annotated[Any, WithJsonSchema(_INPUTS)]
    truncate: bool | None = None
    truncation_direction: Annotated[
        Literal["left", "right"], BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
    ] = "right"
    raw_scores: bool = False


class PipelineParameters(BaseModel):
    """The parameters of `InferenceClient.text_classification` and `token_classification`; others are not read."""

    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    truncation: bool | None = None
    ignore_labels: list[str] | None = None  # of `InferenceClient.token_classification`


class PipelineRequest(BaseModel):
    """The body of the bare address."""

    inputs: Annotated[Any, WithJsonSchema(_INPUTS)]
    parameters: PipelineParameters | None = None
    truncate: bool | None = None
    raw_scores: bool = False


class EmbedRequest(BaseModel):
    """The body of `/embed`."""

    inputs: str | list[str]
    normalize: bool = True
    truncate: bool | None = None


@dataclass(frozen=True)
class ScoreOptions:
    """How scores are rendered.

    Attributes:
        nested: a list for each text, also for one.
        raw: logits.
        function: "sigmoid" or "softmax" instead of the task's own; None for that.
        top_k: the best labels alone; None for all.
        characters: of all texts.
        ignored: types of entities that are left out.
        single: one text was sent, and no array.
    """

    nested: bool
    raw: bool = False
    function: str | None = None
    top_k: int | None = None
    characters: int = 0
    ignored: tuple[str, ...] = ()
    single: bool = False


def parse_predict(incoming: Incoming) -> Question[ScoreOptions]:
    """`/predict`: one text, one pair, or a batch of both.

    Raises:
        RequestRefused: not JSON, or another shape.
    """
    given = parse_body(PredictRequest, incoming.body)
    nested, texts = _predict_texts(given.inputs)
    options = ScoreOptions(nested, given.raw_scores, characters=_characters(texts))
    # The student's own way to read a long text is no cut on the left: that is refused if a text is too long.
    truncate = given.truncate is not False and given.truncation_direction != "left"
    return Question(texts, options, incoming.model, truncate)


def parse_pipeline(incoming: Incoming) -> Question[ScoreOptions]:
    """The bare address: one text, or a batch; with a model of pairs a pair, or a batch of pairs.

    Raises:
        RequestRefused: not JSON, or another shape.
    """
    given = parse_body(PipelineRequest, incoming.body)
    parameters = given.parameters or PipelineParameters()
    texts = _pipeline_texts(given.inputs, incoming.takes_pairs)
    options = ScoreOptions(
        nested=True,
        raw=given.raw_scores or parameters.function_to_apply == "none",
        function=parameters.function_to_apply,
        top_k=parameters.top_k,
        characters=_characters(texts),
        ignored=tuple(parameters.ignore_labels or ()),
        single=isinstance(given.inputs, str),
    )
    truncate = parameters.truncation if given.truncate is None else given.truncate
    return Question(texts, options, incoming.model, truncate is not False)


@dataclass(frozen=True)
class EmbedOptions:
    """How embeddings are rendered: whether each has length one, and the characters of all texts."""

    normalize: bool
    characters: int


def parse_embed(incoming: Incoming) -> Question[EmbedOptions]:
    """`/embed`: one text, or a batch.

    Raises:
        RequestRefused: not JSON, or another shape.
    """
    given = parse_body(EmbedRequest, incoming.body)
    texts = [given.inputs] if isinstance(given.inputs, str) else given.inputs
    options = EmbedOptions(given.normalize, _characters(texts))
    return Question(texts, options, incoming.model, given.truncate is not False, embedding=True)


def render_embeddings(question: Question[EmbedOptions], answer: ModelAnswer) -> RenderedReply:
    """A list of numbers a text."""
    values = answer.computed.embeddings
    if question.options.normalize:
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), TINY)
    return json_reply(values.tolist(), headers=timing_headers(answer, question.options.characters))


def _predict_texts(inputs: Any) -> tuple[bool, Sequence[Text]]:
    if isinstance(inputs, str):
        return False, [inputs]
    if not isinstance(inputs, list) or not inputs:
        raise wrong_shape("inputs", ONE_OR_PAIR, inputs)
    if isinstance(inputs[0], str):
        text = as_text(inputs)
        if text is None:
            raise RequestRefused(
                "shape",
                f"inputs is an array of {len(inputs)} that begins with a string; expected {ONE_OR_PAIR}.",
                'Send a batch as an array of arrays: [["first"], ["second"], ["third"]].',
            )
        return False, [text]
    return True, _batch(inputs, bare=False)


def _pipeline_texts(inputs: Any, takes_pairs: bool) -> Sequence[Text]:
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs, dict):
        return [_pair_object(inputs)]
    if not isinstance(inputs, list):
        raise wrong_shape("inputs", ONE_OR_PAIR, inputs)
    if takes_pairs and inputs and isinstance(inputs[0], str) and (pair := as_text(inputs)) is not None:
        return [pair]
    return _batch(inputs, bare=True)


def _batch(inputs: list[Any], *, bare: bool) -> list[Text]:
    texts = []
    for row, each in enumerate(inputs):
        if bare and isinstance(each, dict):
            texts.append(_pair_object(each))
            continue
        text = as_text(each) if bare or not isinstance(each, str) else None
        if text is None:
            raise wrong_shape(f"inputs[{row}]", "[text] or [first, second]", each)
        texts.append(text)
    return texts


def _pair_object(given: dict[str, Any]) -> Text:
    first, second = given.get("text"), given.get("text_pair")
    if not isinstance(first, str) or not (second is None or isinstance(second, str)):
        raise wrong_shape("inputs", '{"text": ..., "text_pair": ...}, ' + ONE_OR_PAIR, given)
    return first if second is None else (first, second)


def _characters(texts: Sequence[Text]) -> int:
    return sum(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts)


def render_scores(question: Question[ScoreOptions], answer: ModelAnswer) -> RenderedReply:
    """Every label with its score, best first; a list of lists for a batch."""
    options, computed = question.options, answer.computed
    values = _values(options, answer)
    order = computed.order if values is computed.probs else np.argsort(-values, axis=1, kind="stable")
    endings = _endings(answer.model.labels)
    rows = [
        _ranked_json([row[k] for k in ranked], [endings[k] for k in ranked])
        for ranked, row in zip(order[:, : options.top_k].tolist(), values.tolist(), strict=True)
    ]
    body = b"[" + b",".join(rows) + b"]" if options.nested else rows[0]
    return RenderedReply(body, headers=timing_headers(answer, options.characters))


@lru_cache(maxsize=64)
def _endings(labels: tuple[str, ...]) -> list[bytes]:
    """What stands between the score of each label and the next score, encoded once."""
    return [b',"label":' + to_json(label) + b"}," + BEFORE_SCORE for label in labels]


def _ranked_json(scores: list[float], endings: list[bytes]) -> bytes:
    """[{"score": ..., "label": ...}, ...], of 77 labels in half the time that encoding objects takes."""
    parts = [b""] * (2 * len(scores))
    parts[::2] = to_json(scores)[1:-1].split(b",")
    parts[1::2] = endings
    return b"[" + BEFORE_SCORE + b"".join(parts)[: -len(BEFORE_SCORE) - 1] + b"]"


def render_entities(question: Question[ScoreOptions], answer: EntityModelAnswer) -> RenderedReply:
    """The entities of one text, or a list of them for each of several, as a pipeline of Hugging Face gives them."""
    options = question.options
    rows = entity_groups(answer, options.ignored)
    return json_reply(rows[0] if options.single else rows, headers=timing_headers(answer, options.characters))


def render_generated(question: Question[ScoreOptions], answer: FreeTextModelAnswer) -> RenderedReply:
    """The answer to one text, or to each of several, as a pipeline of Hugging Face gives it."""
    return json_reply(generated_texts(answer), headers=timing_headers(answer, question.options.characters))


def _values(options: ScoreOptions, answer: ModelAnswer) -> Any:
    logits = answer.computed.logits
    own = "sigmoid" if answer.model.bundle.multilabel else "softmax"
    if options.raw:
        return logits
    if options.function in (None, own):
        return answer.computed.probs
    if options.function == "sigmoid":
        return 1 / (1 + np.exp(-logits.astype(float)))
    powers = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def timing_headers(answer: AnyAnswer, characters: int) -> dict[str, str]:
    """TEI's headers: milliseconds, characters and tokens of a request; `x-total-time` is added by the server."""
    computed = answer.computed
    return {
        "x-compute-type": "cpu",
        "x-compute-time": _ms(computed.tokenization_s + computed.inference_s),
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(sum(computed.tokens.tolist())),
        "x-tokenization-time": _ms(computed.tokenization_s),
        "x-queue-time": _ms(answer.queue_s),
        "x-inference-time": _ms(computed.inference_s),
    }


def _ms(seconds: float) -> str:
    return str(round(1000 * seconds))


def render_info(situation: Situation, model: AnyServedModel | None) -> RenderedReply:
    """`/info`: the model and the limits."""
    if model is None:
        raise RequestRefused("unready", "The model is being loaded.", retry_after_s=1)
    labels = {str(k): label for k, label in enumerate(model.labels)}
    classifier = {"id2label": labels, "label2id": {label: k for k, label in enumerate(model.labels)}}
    return json_reply(
        {
            "model_id": model.name,
            "model_sha": model.version,
            "model_dtype": "int8" if model.facts.precision == "int8" else "float32",
            "served_model_name": model.name,
            "model_type": {"classifier": classifier},
            "max_concurrent_requests": situation.limits.queued_texts,
            "max_input_length": model.max_tokens or situation.limits.characters,
            "max_batch_tokens": situation.limits.batch_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": situation.limits.texts,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": situation.version,
            "sha": None,
            "docker_label": None,
            "task": model.facts.task,
            "takes_pairs": model.facts.takes_pairs,
            "models": [each.name for each in situation.models],
        }
    )


def render_health(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/health`: 200 if every model is loaded and warm and the server is not being stopped."""
    if not situation.ready:
        raise RequestRefused("unready", "The server is starting or stopping.", retry_after_s=1)
    return RenderedReply(b"", media_type="text/plain; charset=utf-8")


def refuse(refusal: RequestRefused) -> RenderedReply:
    """TEI's shape of an error."""
    error_type = ERROR_TYPES.get(refusal.reason, "Validation")
    return json_reply({"error": str(refusal), "error_type": error_type}, status_of(refusal))


SCORES = [{"score": 0.98, "label": "billing"}, {"score": 0.02, "label": "delivery"}]
PREDICT = "Every label with its probability, best first; two strings in an array are a pair."
PIPELINE = "The same for InferenceClient: a list a text; an array of strings is a batch. Or entities, or an answer."


EMBED = "The embedding of each text, of encoder and static students; an array of strings is a batch."


def _operations(prefix: str) -> tuple[Operation[Any], ...]:
    return (
        Operation(f"{prefix}/predict", PREDICT, parse_predict, render_scores, PredictRequest, SCORES),
        Operation(
            prefix or "/",
            PIPELINE,
            parse_pipeline,
            render_scores,
            PipelineRequest,
            [SCORES],
            forms={"entities": render_entities, "free": render_generated},
        ),
        Operation(f"{prefix}/embed", EMBED, parse_embed, render_embeddings, EmbedRequest, [[0.1, -0.2]]),
    )


TEI = ServingProtocol(
    "Text Embeddings Inference and Hugging Face InferenceClient",
    ("/predict", "/embed", "/info"),
    (*_operations(""), *_operations("/models/{model}")),
    (
        Fact("/info", "The default model, its labels, and the limits.", render_info),
        Fact("/models/{model}/info", "A model, its labels, and the limits.", render_info),
        Fact("/health", "200 if every model is loaded and warm, else 503.", render_health, public=True),
        Fact("/ping", "The same.", render_health, public=True),
    ),
    refuse,
)
# Left out by a server that answers as MLflow does.
SAGEMAKER = tuple(
    Operation(path, PREDICT, parse_predict, render_scores, PredictRequest, SCORES)
    for path in ("/invocations", "/models/{model}/invocations")
)
