"""A static student as an ONNX graph: gathered vectors, their mean, its length, the head. By hand, without torch.

Does not check that the graph computes the same: `export` does that for every kind of student.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.students.onnxfile import Node, Port, write_onnx
from potstill.students.tuning import EPSILON, Head


def write_graph(head: Head, n_labels: int, file: Path, *, pairs: bool) -> None:
    """Write the graph `ids, values (N, T)`, of pairs also `second (N, T)`, -> `logits (N, K)`."""
    last = "straight" if head.v.size else "logits"
    nodes = [Node("Gather", ["table", "ids"], ["half"]), Node("Cast", ["half"], ["rows"], {"to": 1})]
    constants: dict[str, NDArray[Any]] = {"table": head.table.astype(np.float16), "w": head.w, "b": head.b}
    constants |= {"one": np.array([1], dtype=np.int64), "epsilon": np.array([EPSILON], dtype=np.float32)}
    inputs = [Port("ids", "int64", ["n", "t"]), Port("values", "float32", ["n", "t"])]
    if pairs:
        inputs.append(Port("second", "float32", ["n", "t"]))
        constants["loud"] = np.array([head.loud], dtype=np.float32)
        nodes += [*_unit("values", "first_unit"), *_unit("second", "second_unit")]
        nodes += [
            Node("Sub", ["first_unit", "second_unit"], ["difference"]),
            Node("Abs", ["difference"], ["distance"]),
            Node("Mul", ["first_unit", "second_unit"], ["quiet"]),
            Node("Mul", ["quiet", "loud"], ["product"]),
            Node("Concat", ["first_unit", "second_unit", "distance", "product"], ["unit"], {"axis": 1}),
        ]
    else:
        nodes += _unit("values", "unit")
    nodes.append(Node("Gemm", ["unit", "w", "b"], [last]))
    if head.v.size:
        nodes += [
            Node("Gemm", ["unit", "u", "c"], ["wide"]),
            Node("Relu", ["wide"], ["hidden"]),
            Node("MatMul", ["hidden", "v"], ["bent"]),
            Node("Add", ["straight", "bent"], ["logits"]),
        ]
        constants |= {"u": head.u, "c": head.c, "v": head.v}
    write_onnx(file, nodes, constants, inputs, [Port("logits", "float32", ["n", n_labels])])


def _unit(values: str, name: str) -> Iterator[Node]:
    """The mean of the rows, weighted by `values`, brought to length one."""
    yield Node("Unsqueeze", [values, "one"], [f"{name}.row"])
    yield Node("MatMul", [f"{name}.row", "rows"], [f"{name}.sum"])
    yield Node("Squeeze", [f"{name}.sum", "one"], [f"{name}.mean"])
    yield Node("ReduceL2", [f"{name}.mean"], [f"{name}.length"], {"axes": [1], "keepdims": 1})
    yield Node("Max", [f"{name}.length", "epsilon"], [f"{name}.safe"])
    yield Node("Div", [f"{name}.mean", f"{name}.safe"], [name])
