"""A static student as an ONNX graph: gathered vectors, their mean, its length, the head. By hand, without torch.

Does not check that the graph computes the same: `export` does that for every kind of student.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.students.onnx_writer import OnnxNode, ValueInfo, write_onnx
from potstill.students.static_training import EPSILON, StaticClassifier


def write_static_onnx(head: StaticClassifier, n_labels: int, file: Path, *, pairs: bool) -> None:
    """Write the graph `ids, values (N, T)`, of pairs also `second (N, T)`, -> `logits (N, K)`."""
    last = "straight" if head.v.size else "logits"
    nodes = [OnnxNode("Gather", ["table", "ids"], ["half"]), OnnxNode("Cast", ["half"], ["rows"], {"to": 1})]
    constants: dict[str, NDArray[Any]] = {"table": head.embeddings.astype(np.float16), "w": head.w, "b": head.b}
    constants |= {"one": np.array([1], dtype=np.int64), "epsilon": np.array([EPSILON], dtype=np.float32)}
    inputs = [ValueInfo("ids", "int64", ["n", "t"]), ValueInfo("values", "float32", ["n", "t"])]
    if pairs:
        inputs.append(ValueInfo("second", "float32", ["n", "t"]))
        constants["loud"] = np.array([head.product_scale], dtype=np.float32)
        nodes += [*_unit("values", "first_unit"), *_unit("second", "second_unit")]
        nodes += [
            OnnxNode("Sub", ["first_unit", "second_unit"], ["difference"]),
            OnnxNode("Abs", ["difference"], ["distance"]),
            OnnxNode("Mul", ["first_unit", "second_unit"], ["quiet"]),
            OnnxNode("Mul", ["quiet", "loud"], ["product"]),
            OnnxNode("Concat", ["first_unit", "second_unit", "distance", "product"], ["unit"], {"axis": 1}),
        ]
    else:
        nodes += _unit("values", "unit")
    nodes.append(OnnxNode("Gemm", ["unit", "w", "b"], [last]))
    if head.v.size:
        nodes += [
            OnnxNode("Gemm", ["unit", "u", "c"], ["wide"]),
            OnnxNode("Relu", ["wide"], ["hidden"]),
            OnnxNode("MatMul", ["hidden", "v"], ["bent"]),
            OnnxNode("Add", ["straight", "bent"], ["logits"]),
        ]
        constants |= {"u": head.u, "c": head.c, "v": head.v}
    write_onnx(file, nodes, constants, inputs, [ValueInfo("logits", "float32", ["n", n_labels])])


def _unit(values: str, name: str) -> Iterator[OnnxNode]:
    """The mean of the rows, weighted by `values`, brought to length one."""
    yield OnnxNode("Unsqueeze", [values, "one"], [f"{name}.row"])
    yield OnnxNode("MatMul", [f"{name}.row", "rows"], [f"{name}.sum"])
    yield OnnxNode("Squeeze", [f"{name}.sum", "one"], [f"{name}.mean"])
    yield OnnxNode("ReduceL2", [f"{name}.mean"], [f"{name}.length"], {"axes": [1], "keepdims": 1})
    yield OnnxNode("Max", [f"{name}.length", "epsilon"], [f"{name}.safe"])
    yield OnnxNode("Div", [f"{name}.mean", f"{name}.safe"], [name])
