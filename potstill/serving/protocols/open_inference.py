"""The Open Inference Protocol v2 with the binary tensor extension, as KServe, Triton and their clients speak it.

Inputs: `text`, BYTES of shape [N] or [N, 1]; for pairs also `text_pair`, or `text` of shape [N, 2]. An only input may
have any name. A request that names no outputs gets `label`, `probability` and `probabilities`, and of a task with
several labels a text `label_indicator`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from pydantic_core import to_json

from potstill.bundle.bundle import Text
from potstill.errors import RequestRefused
from potstill.serving.model import ModelAnswer
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
from potstill.serving.served import AnyServedModel

HEADER_LENGTH = "inference-header-content-length"
DATATYPES = {"f": "FP32", "b": "BOOL", "O": "BYTES"}  # kinds of numpy
UNSUPPORTED = ("shared_memory_region", "classification")
COVERAGE = 0.9  # of label_set, unless the request's parameter `coverage` says otherwise


class InferInput(BaseModel):
    """An input tensor; without `data` its bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """The body of `/infer`, or its part before the binary tensors."""

    id: str | None = None
    inputs: list[InferInput]
    outputs: list[InferOutput] | None = None
    parameters: dict[str, Any] = {}


@dataclass(frozen=True)
class InferOptions:
    """How an answer is rendered.

    Attributes:
        id: of the request.
        outputs: name -> whether it is sent in binary; empty for the usual ones.
        binary: whether outputs that are not named are sent in binary.
        coverage: of `label_set`.
    """

    id: str | None
    outputs: Mapping[str, bool]
    binary: bool
    coverage: float


def parse_infer(incoming: Incoming) -> Question[InferOptions]:
    """The texts of the input tensors.

    Raises:
        RequestRefused: not JSON, or tensors that do not fit their sizes, shapes or types.
    """
    length = incoming.headers.get(HEADER_LENGTH)
    if length is not None and not (length.isdecimal() and int(length) <= len(incoming.body)):
        raise _wrong(f"The header {HEADER_LENGTH} is no length within the body.")
    end = len(incoming.body) if length is None else int(length)
    given = parse_body(InferRequest, incoming.body[:end])
    tensors = _read_tensors(given.inputs, incoming.body[end:])
    coverage = given.parameters.get("coverage", COVERAGE)
    if not isinstance(coverage, int | float) or not 0 < coverage < 1:
        raise _wrong("The parameter coverage is not between 0 and 1.")
    binary = bool(given.parameters.get("binary_data_output", False))
    outputs = {each.name: bool(each.parameters.get("binary_data", binary)) for each in given.outputs or ()}
    for each in (*given.inputs, *(given.outputs or ())):
        unsupported = next((name for name in UNSUPPORTED if each.parameters.get(name)), None)
        if unsupported is not None:
            raise _wrong(f"{each.name} has the parameter {unsupported}, which is not supported.")
    return Question(_texts(tensors), InferOptions(given.id, outputs, binary, float(coverage)), incoming.model)


@dataclass(frozen=True)
class TextTensor:
    """A tensor of texts: its name, its shape, and its texts in row-major order."""

    name: str
    shape: tuple[int, ...]
    texts: Sequence[str]


def _read_tensors(inputs: Sequence[InferInput], binary: bytes) -> list[TextTensor]:
    tensors, at = [], 0
    for each in inputs:
        if each.datatype != "BYTES":
            raise _wrong(f"The input {each.name} is {each.datatype[:20]}; texts are BYTES.")
        if any(size < 0 for size in each.shape):
            raise _wrong(f"The shape of the input {each.name} has a negative size.")
        size = each.parameters.get("binary_data_size")
        if size is None:
            texts = _flat(each.name, each.data)
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
                raise _wrong(f"The binary_data_size of the input {each.name} is not within the body.")
            texts = read_byte_strings(each.name, binary[at : at + size])
            at += size
        if len(texts) != prod(each.shape):
            raise _wrong(f"The input {each.name} has {len(texts)} texts and the shape {each.shape}.")
        tensors.append(TextTensor(each.name, tuple(each.shape), texts))
    if at != len(binary):
        raise _wrong(f"{len(binary) - at} bytes after the tensors belong to none.")
    return tensors


def read_byte_strings(name: str, data: bytes) -> list[str]:
    """Strings in the binary form of BYTES: each after its length, four bytes, little-endian.

    Raises:
        RequestRefused: the lengths do not fit the data, or a string is not UTF-8.
    """
    texts, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise _wrong(f"The input {name} ends within a length.")
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size > len(data) - at:
            raise _wrong(f"The input {name} ends within a text.")
        try:
            texts.append(data[at : at + size].decode("utf-8"))
        except UnicodeDecodeError:
            raise _wrong(f"Text {len(texts) + 1} of the input {name} is not UTF-8.") from None
        at += size
    return texts


def write_byte_strings(texts: Sequence[str]) -> bytes:
    """The binary form of BYTES, as `read_byte_strings` reads it."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in encoded)


def _flat(name: str, data: list[Any] | None) -> list[str]:
    if data is None:
        raise _wrong(f"The input {name} has neither data nor a binary_data_size.")
    cells = list(chain.from_iterable(each if isinstance(each, list) else [each] for each in data))
    if not all(isinstance(cell, str) for cell in cells):
        raise _wrong(f"The data of the input {name} are not strings.")
    return cells


def _texts(tensors: Sequence[TextTensor]) -> list[Text]:
    by_name = {tensor.name: tensor for tensor in tensors}
    if set(by_name) == {"text", "text_pair"} and len(tensors) == 2:
        first, second = by_name["text"], by_name["text_pair"]
        if len(first.texts) != len(second.texts):
            raise _wrong(f"text has {len(first.texts)} texts, and text_pair {len(second.texts)}.")
        return list(zip(first.texts, second.texts, strict=True))
    if len(tensors) != 1:
        raise _wrong(f"There are {len(tensors)} inputs; expected text, or text and text_pair.")
    (tensor,) = tensors
    if len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1):
        return list(tensor.texts)
    if len(tensor.shape) == 2 and tensor.shape[1] == 2:
        return list(zip(tensor.texts[::2], tensor.texts[1::2], strict=True))
    raise _wrong(f"The input {tensor.name} has the shape {list(tensor.shape)}; expected [N], [N, 1] or [N, 2].")


def _wrong(message: str) -> RequestRefused:
    return RequestRefused("shape", message)


# --- answers --------------------------------------------------------------------------------------------------


def _labels(answer: ModelAnswer, _: InferOptions) -> NDArray[Any]:
    best = answer.computed.probs.argmax(axis=1)
    return np.array([answer.model.labels[k] for k in best], dtype=object)


def _confident(answer: ModelAnswer, _: InferOptions) -> NDArray[Any]:
    threshold = answer.model.bundle.threshold
    if threshold is None:
        raise RequestRefused("task", f"{answer.model.name} has no threshold, so no label is known to be confident.")
    return np.asarray(answer.computed.probs.max(axis=1) >= threshold)


def _typicality(answer: ModelAnswer, _: InferOptions) -> NDArray[Any]:
    guarantees = answer.model.bundle.guarantees
    if guarantees is None:
        raise RequestRefused("task", f"{answer.model.name} was not calibrated on held-out texts; it knows no scope.")
    return guarantees.typicality(answer.computed.logits).astype(np.float32)


def _in_scope(answer: ModelAnswer, options: InferOptions) -> NDArray[Any]:
    _typicality(answer, options)
    return np.array([each.in_scope for each in answer.predictions()], dtype=np.bool_)


def _label_set(answer: ModelAnswer, options: InferOptions) -> NDArray[Any]:
    sets = answer.label_sets(options.coverage)
    return np.array([[label in given for label in answer.model.labels] for given in sets], dtype=np.bool_)


# name -> the tensor, and its shape without the number of texts: K for the labels.
OUTPUTS: Mapping[str, tuple[Callable[[ModelAnswer, InferOptions], NDArray[Any]], str, bool]] = {
    "label": (_labels, "BYTES", False),
    "probability": (lambda answer, _: answer.computed.probs.max(axis=1), "FP32", False),
    "probabilities": (lambda answer, _: answer.computed.probs, "FP32", True),
    "logits": (lambda answer, _: answer.computed.logits, "FP32", True),
    "label_indicator": (lambda answer, _: answer.model.bundle.label_indicator(answer.computed.probs), "BOOL", True),
    "confident": (_confident, "BOOL", False),
    "in_scope": (_in_scope, "BOOL", False),
    "typicality": (_typicality, "FP32", False),
    "label_set": (_label_set, "BOOL", True),
}


def render_infer(question: Question[InferOptions], answer: ModelAnswer) -> RenderedReply:
    """The output tensors, in JSON or after it.

    Raises:
        RequestRefused: an output does not exist, or the bundle does not have it.
    """
    options = question.options
    usual = ["label", "probability", "probabilities", *(["label_indicator"] * answer.model.bundle.multilabel)]
    asked = options.outputs or dict.fromkeys(usual, options.binary)
    outputs, parts = [], []
    for name, binary in asked.items():
        if name not in OUTPUTS:
            raise _wrong(f"There is no output called {name[:40]!r}; there are {', '.join(OUTPUTS)}.")
        tensor = OUTPUTS[name][0](answer, options)
        described: dict[str, Any] = {
            "name": name,
            "shape": list(tensor.shape),
            "datatype": DATATYPES[tensor.dtype.kind],
        }
        if binary:
            parts.append(_as_bytes(tensor))
            described["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            described["data"] = tensor.ravel().tolist()
        outputs.append(described)
    head = {"model_name": answer.model.name, "model_version": answer.model.version, "outputs": outputs}
    body = to_json(head if options.id is None else {**head, "id": options.id})
    if not parts:
        return RenderedReply(body)
    headers = {HEADER_LENGTH: str(len(body))}
    return RenderedReply(body + b"".join(parts), media_type="application/octet-stream", headers=headers)


def _as_bytes(tensor: NDArray[Any]) -> bytes:
    if tensor.dtype.kind == "O":
        return write_byte_strings(tensor.ravel().tolist())
    return np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<")).tobytes()


def render_server(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/v2`: the server's name, version and extensions."""
    return json_reply({"name": "potstill", "version": situation.version, "extensions": ["binary_tensor_data"]})


def render_live(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/v2/health/live`: the process answers."""
    return json_reply({"live": True})


def render_ready(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/v2/health/ready`; the specification says `live`, KServe's client reads `ready`."""
    return json_reply({"live": situation.ready, "ready": situation.ready}, 200 if situation.ready else 503)


def render_model_ready(situation: Situation, model: AnyServedModel | None) -> RenderedReply:
    """`/v2/models/NAME/ready`."""
    return json_reply({"name": model.name if model else situation.default, "ready": model is not None})


def render_metadata(_: Situation, model: AnyServedModel | None) -> RenderedReply:
    """`/v2/models/NAME`: its inputs and outputs."""
    if model is None:
        raise RequestRefused("unready", "The model is being loaded.", retry_after_s=1)
    names = ["text", "text_pair"] if model.facts.takes_pairs else ["text"]
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, len(model.labels)] if by_label else [-1]}
        for name, (_make, datatype, by_label) in OUTPUTS.items()
        if model.form is None  # the protocol has no place for entities and answers
    ]
    return json_reply(
        {
            "name": model.name,
            "versions": [model.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names],
            "outputs": outputs,
            "parameters": {"labels": list(model.labels)},
        }
    )


def refuse(refusal: RequestRefused) -> RenderedReply:
    """The shape of an error in the protocol."""
    return json_reply({"error": str(refusal)}, status_of(refusal))


EXAMPLE = {
    "model_name": "tickets",
    "outputs": [{"name": "label", "shape": [1], "datatype": "BYTES", "data": ["billing"]}],
}
MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"
SUMMARY = "Labels and probabilities as tensors, in JSON or binary."
OPEN_INFERENCE = ServingProtocol(
    "Open Inference Protocol v2",
    ("/v2",),
    tuple(
        Operation(f"{path}/infer", SUMMARY, parse_infer, render_infer, InferRequest, EXAMPLE, accepts=())
        for path in (MODEL, VERSION)
    ),
    (
        Fact("/v2", "The server.", render_server),
        Fact("/v2/health/live", "Whether the process answers.", render_live, public=True),
        Fact("/v2/health/ready", "Whether every model is loaded and warm.", render_ready, public=True),
        *(
            fact
            for path in (MODEL, VERSION)
            for fact in (
                Fact(path, "A model, its inputs and outputs.", render_metadata),
                Fact(f"{path}/ready", "Whether a model is loaded.", render_model_ready),
            )
        ),
    ),
    refuse,
)
