"""Writes small ONNX files without the onnx package: the protobuf messages that linear and static students need.

So students can be trained and exported without torch and onnx. Checks types only (the tests run onnx.checker on the
files). Field numbers are those of onnx.proto3, IR version 8, opset 17.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IR_VERSION, OPSET = 8, 17
ONNX_TYPES = {"float32": 1, "int64": 7, "float16": 10}


@dataclass(frozen=True)
class OnnxNode:
    """One operator: names of inputs and outputs, and attributes of the types int, float and list of int."""

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, int | float | Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ValueInfo:
    """An input or output: name, numpy dtype name, and shape; a string is a dynamic size."""

    name: str
    dtype: str
    shape: Sequence[int | str]


def write_onnx(
    path: Path,
    nodes: Sequence[OnnxNode],
    initializers: Mapping[str, NDArray[np.generic]],
    inputs: Sequence[ValueInfo],
    outputs: Sequence[ValueInfo],
) -> None:
    """Write the graph as an ONNX model.

    Args:
        path: the file.
        nodes: in the order they run.
        initializers: constants by name.
        inputs: of the graph.
        outputs: of the graph.
    """
    graph = b"".join(encode_message(1, encode_node(node)) for node in nodes) + encode_text(2, "potstill")
    graph += b"".join(encode_message(5, encode_tensor(name, value)) for name, value in initializers.items())
    graph += b"".join(encode_message(11, _value_info(info)) for info in inputs)
    graph += b"".join(encode_message(12, _value_info(info)) for info in outputs)
    opset = encode_message(8, encode_text(1, "") + _number(2, OPSET))
    path.write_bytes(_number(1, IR_VERSION) + encode_text(2, "potstill") + encode_message(7, graph) + opset)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is its 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def encode_message(number: int, body: bytes) -> bytes:
    """A field that holds a message or a string."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def encode_text(number: int, value: str) -> bytes:
    """A field that holds a string."""
    return encode_message(number, value.encode())


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    head = encode_text(1, name)
    if isinstance(value, float):
        return head + _varint(2 << 3 | 5) + np.float32(value).tobytes() + _number(20, 1)
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, 2)
    return head + b"".join(_number(8, item) for item in value) + _number(20, 7)


def encode_node(node: OnnxNode) -> bytes:
    """The message of a node."""
    body = b"".join(encode_text(1, name) for name in node.inputs) + b"".join(
        encode_text(2, name) for name in node.outputs
    )
    body += encode_text(3, node.outputs[0]) + encode_text(4, node.op)
    return body + b"".join(encode_message(5, _attribute(name, value)) for name, value in node.attributes.items())


def encode_tensor(name: str, value: NDArray[np.generic]) -> bytes:
    """The message of a constant."""
    dims = b"".join(_number(1, size) for size in value.shape)
    little_endian = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
    return dims + _number(2, ONNX_TYPES[value.dtype.name]) + encode_text(8, name) + encode_message(9, little_endian)


def _value_info(info: ValueInfo) -> bytes:
    dims = b"".join(encode_message(1, _number(1, d) if isinstance(d, int) else encode_text(2, d)) for d in info.shape)
    tensor = _number(1, ONNX_TYPES[info.dtype]) + encode_message(2, dims)
    return encode_text(1, info.name) + encode_message(2, encode_message(1, tensor))
