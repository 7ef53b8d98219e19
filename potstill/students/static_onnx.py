"""Writes a static student as an ONNX graph, without torch: gathered embeddings, their mean, its norm, the head.

`bundle.export` checks that the graph computes the same as the student.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.students.onnx_writer import OnnxNode, ValueInfo, write_onnx
from potstill.students.static_training import EPSILON, StaticClassifier


def write_static_onnx(classifier: StaticClassifier, n_labels: int, file: Path, *, pairs: bool) -> None:
    """Write the graph `ids, values (N, T)`, and for pairs `second (N, T)`, -> `logits (N, K)`.

    Of single texts `sentence_embedding (N, D)` is a second output.
    """
    output = "linear" if classifier.v.size else "logits"
    nodes = [OnnxNode("Gather", ["embeddings", "ids"], ["half"]), OnnxNode("Cast", ["half"], ["rows"], {"to": 1})]
    constants: dict[str, NDArray[Any]] = {
        "embeddings": classifier.embeddings.astype(np.float16),
        "w": classifier.w,
        "b": classifier.b,
    }
    constants |= {"one": np.array([1], dtype=np.int64), "epsilon": np.array([EPSILON], dtype=np.float32)}
    inputs = [ValueInfo("ids", "int64", ["n", "t"]), ValueInfo("values", "float32", ["n", "t"])]
    if pairs:
        inputs.append(ValueInfo("second", "float32", ["n", "t"]))
        constants["product_scale"] = np.array([classifier.product_scale], dtype=np.float32)
        nodes += [*_unit_vector("values", "first"), *_unit_vector("second", "second_text")]
        nodes += [
            OnnxNode("Sub", ["first", "second_text"], ["difference"]),
            OnnxNode("Abs", ["difference"], ["distance"]),
            OnnxNode("Mul", ["first", "second_text"], ["unscaled_product"]),
            OnnxNode("Mul", ["unscaled_product", "product_scale"], ["product"]),
            OnnxNode("Concat", ["first", "second_text", "distance", "product"], ["sentence_embedding"], {"axis": 1}),
        ]
    else:
        nodes += _unit_vector("values", "sentence_embedding")
    nodes.append(OnnxNode("Gemm", ["sentence_embedding", "w", "b"], [output]))
    if classifier.v.size:
        nodes += [
            OnnxNode("Gemm", ["sentence_embedding", "u", "c"], ["hidden_input"]),
            OnnxNode("Relu", ["hidden_input"], ["hidden"]),
            OnnxNode("MatMul", ["hidden", "v"], ["nonlinear"]),
            OnnxNode("Add", ["linear", "nonlinear"], ["logits"]),
        ]
        constants |= {"u": classifier.u, "c": classifier.c, "v": classifier.v}
    outputs = [ValueInfo("logits", "float32", ["n", n_labels])]
    if not pairs:
        outputs.append(ValueInfo("sentence_embedding", "float32", ["n", classifier.embeddings.shape[1]]))
    write_onnx(file, nodes, constants, inputs, outputs)


def _unit_vector(values: str, name: str) -> Iterator[OnnxNode]:
    """The mean of the embeddings, weighted by `values`, scaled to length one."""
    yield OnnxNode("Unsqueeze", [values, "one"], [f"{name}.row"])
    yield OnnxNode("MatMul", [f"{name}.row", "rows"], [f"{name}.sum"])
    yield OnnxNode("Squeeze", [f"{name}.sum", "one"], [f"{name}.mean"])
    yield OnnxNode("ReduceL2", [f"{name}.mean"], [f"{name}.length"], {"axes": [1], "keepdims": 1})
    yield OnnxNode("Max", [f"{name}.length", "epsilon"], [f"{name}.safe"])
    yield OnnxNode("Div", [f"{name}.mean", f"{name}.safe"], [name])
