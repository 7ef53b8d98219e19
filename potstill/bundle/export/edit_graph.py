"""Edits an exported graph: the calibration becomes its last step, and what the exporter noted of this machine goes.

Works on the bytes of the ONNX file, whose fields are read and written without the onnx library: a linear student is
exported without it. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from potstill.bundle.protobuf import ProtoField, read_fields
from potstill.data.atomic import atomic_file
from potstill.students.onnx_writer import OnnxNode, encode_message, encode_node, encode_tensor, encode_text

OUTPUT, UNSCALED = "logits", "uncalibrated_logits"
SCALE, SHIFT, SCALED = "calibration_scale", "calibration_shift", "scaled_logits"
# Fields of a model, a graph and a node.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_NODE, _GRAPH_CONSTANT, _GRAPH_DOC, _GRAPH_VALUE_INFO, _GRAPH_METADATA = 1, 5, 10, 13, 16
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_DOC, _NODE_METADATA = 1, 2, 3, 6, 9
_VALUE_INFO_NAME, _VALUE_INFO_DOC, _VALUE_INFO_METADATA = 1, 3, 4
# Field of a graph -> fields of its message that only hold notes.
_NOTES = {
    _GRAPH_NODE: (_NODE_DOC, _NODE_METADATA),
    _GRAPH_VALUE_INFO: (_VALUE_INFO_DOC, _VALUE_INFO_METADATA),
}


def add_calibration(file: Path, scale: Sequence[float], shift: Sequence[float]) -> None:
    """Make the output of a graph `logits * scale + shift`.

    Args:
        file: the graph, whose output is named "logits" and has the shape (N, K).
        scale: one value, or K.
        shift: one value, or K.
    """

    def calibrated(graph: memoryview) -> bytes:
        kept = [_renamed(each) for each in read_fields(graph) if not _is_shape_of_output(each)]
        constants = {SCALE: scale, SHIFT: shift}
        added = [
            encode_message(_GRAPH_CONSTANT, encode_tensor(name, np.asarray(values, dtype=np.float32).reshape(1, -1)))
            for name, values in constants.items()
        ]
        nodes = (OnnxNode("Mul", [UNSCALED, SCALE], [SCALED]), OnnxNode("Add", [SCALED, SHIFT], [OUTPUT]))
        added += [encode_message(_GRAPH_NODE, encode_node(node)) for node in nodes]
        return b"".join((*kept, *added))

    _edit(file, calibrated)


def remove_metadata(file: Path) -> None:
    """Remove what an exporter noted in a graph: the paths and lines of its source on this machine."""

    def bare(graph: memoryview) -> bytes:
        parts: list[bytes | memoryview] = []
        for each in read_fields(graph):
            noted = _NOTES.get(each.number)
            if noted and each.value is not None:
                kept = [one.encoded for one in read_fields(each.value) if one.number not in noted]
                parts.append(encode_message(each.number, b"".join(kept)))
            elif each.number not in (_GRAPH_DOC, _GRAPH_METADATA):
                parts.append(each.encoded)
        return b"".join(parts)

    _edit(file, bare)


def _edit(file: Path, change: Callable[[memoryview], bytes]) -> None:
    parts: list[bytes | memoryview] = []
    for each in read_fields(memoryview(file.read_bytes())):
        if each.number == _MODEL_GRAPH and each.value is not None:
            parts.append(encode_message(_MODEL_GRAPH, change(each.value)))
        elif each.number != _MODEL_METADATA:
            parts.append(each.encoded)
    with atomic_file(file) as path, path.open("wb") as opened:
        opened.writelines(parts)


def _renamed(field: ProtoField) -> bytes | memoryview:
    """A field of a graph, in which no node reads, writes or has the output's name."""
    if field.number != _GRAPH_NODE or field.value is None:
        return field.encoded
    fields = list(read_fields(field.value))
    named = [each.number in (_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME) and _is_output(each) for each in fields]
    if not any(named):
        return field.encoded
    node = [
        encode_text(each.number, UNSCALED) if rename else each.encoded
        for each, rename in zip(fields, named, strict=True)
    ]
    return encode_message(_GRAPH_NODE, b"".join(node))


def _is_shape_of_output(field: ProtoField) -> bool:
    """Whether it states the shape of the value that has the output's name before the edit."""
    if field.number != _GRAPH_VALUE_INFO or field.value is None:
        return False
    return any(each.number == _VALUE_INFO_NAME and _is_output(each) for each in read_fields(field.value))


def _is_output(field: ProtoField) -> bool:
    """Whether a field is the output's name."""
    return field.value is not None and bytes(field.value) == OUTPUT.encode()
