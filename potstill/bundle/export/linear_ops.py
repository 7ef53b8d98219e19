"""The linear layers in a graph: their input, weights and bias.

Covers `MatMul` and the `Add` of a bias. Does not cover products of two computed values (attention's), nor `Gemm`, which
is a head on one vector a text. Changes nothing in the graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearOp:
    """`source @ weights + bias`.

    Attributes:
        source: the name of the input.
        weights: the name of the (K, N) weights.
        bias: the name of the (N,) bias; "" for none.
        result: the name of the output, with the bias added.
        nodes: the one or two nodes of the graph; the objects, as names need not be unique.
    """

    source: str
    weights: str
    bias: str
    result: str
    nodes: tuple[Any, ...]


def find_linear_ops(graph: Any) -> list[LinearOp]:
    """All linear layers of an onnx `GraphProto`, in its order."""
    constants = {each.name: tuple(each.dims) for each in graph.initializer if each.data_type == 1}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(each.name for each in graph.output)
    reader_of = {name: node for node in graph.node for name in node.input}
    found = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.domain or node.input[0] in constants:
            continue
        shape = constants.get(node.input[1], ())
        if len(shape) != 2:
            continue
        result, bias = node.output[0], ""
        nodes: tuple[Any, ...] = (node,)
        after = reader_of.get(result)
        if after is not None and after.op_type == "Add" and readers[result] == 1:
            other = next((name for name in after.input if name != result), "")
            if constants.get(other) == shape[1:]:
                result, bias, nodes = after.output[0], other, (node, after)
        found.append(LinearOp(node.input[0], node.input[1], bias, result, nodes))
    return found


def initializer_array(graph: Any, name: str) -> Floats:
    """The values of a constant of the graph."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(next(each for each in graph.initializer if each.name == name)))
