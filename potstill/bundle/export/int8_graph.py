"""Static int8 quantisation of a graph: its linear layers and embeddings in int8, with fixed ranges.

Weights have a scale a column, embeddings one a row; an input is rounded once for all layers that read it, with its
range from `quantization_ranges`. Nothing else is changed. Standard operators and onnxruntime's `MatMulIntegerToFloat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.export.linear_ops import LinearOp, find_linear_ops, initializer_array
from potstill.bundle.export.quantization_ranges import QuantizationRange
from potstill.bundle.export.sequence_major import to_sequence_major

# Smaller embeddings stay float: dequantizing costs more than it saves.
MIN_EMBEDDING_ROWS = 4096
MICROSOFT_DOMAIN = "com.microsoft"


class Int8GraphBuilder:
    """Replaces layers of a graph by int8 ones, then builds the model."""

    def __init__(self, model: Any) -> None:
        self._model, self._graph = model, model.graph
        # By the output of an old node, which is unique: the new nodes before it, and whether it is dropped.
        self._before: dict[str, list[Any]] = {}
        self._dropped: set[str] = set()

    def quantize_linear(self, product: LinearOp, range_: QuantizationRange, rounded: str) -> None:
        """Replace a linear layer; `rounded` is the name that `quantize_input` returned for its input."""
        nodes, name = product.nodes, product.result
        weights: NDArray[Any] = initializer_array(self._graph, product.weights)
        if range_.divisors is not None:
            weights = weights * range_.divisors[:, None]
        order = [*range(len(weights)), *(copy.column for copy in range_.copies)]
        scale = _scale_without_saturation(weights[order])
        whole = np.clip(np.rint(weights / scale), -127, 127)
        bias = initializer_array(self._graph, product.bias) if product.bias else np.zeros(len(scale), dtype=np.float32)
        # An empty copy stores `rest` instead of the zero point and adds (rest - zero_point) * scale * weights.
        for copy in range_.copies:
            bias = bias - (copy.rest - range_.zero_point) * range_.scale * scale * whole[copy.column]
        whole = whole[order].astype(np.int8)
        inputs = [
            rounded,
            self._constant(f"{name}_weights", whole),
            f"{product.source}_step",
            self._constant(f"{name}_scale", scale.astype(np.float32)),
            f"{product.source}_zero",
            "",
            self._constant(f"{name}_bias", bias.astype(np.float32)),
        ]
        self._put(nodes[-1], "MatMulIntegerToFloat", inputs, name, domain=MICROSOFT_DOMAIN)
        self._dropped.update(node.output[0] for node in nodes)

    def quantize_input(self, source: str, range_: QuantizationRange, before: Any) -> str:
        """Round a layer's input to 256 steps, before a node; the name of the result."""
        step = self._constant(f"{source}_step", np.float32(range_.scale))
        zero = self._constant(f"{source}_zero", np.uint8(range_.zero_point))
        scaled = source
        if range_.divisors is not None:
            factors = self._constant(f"{source}_factors", (1 / range_.divisors).astype(np.float32))
            scaled = self._put(before, "Mul", [source, factors], f"{source}_divided")
        rounded = self._put(before, "QuantizeLinear", [scaled, step, zero], f"{source}_u8")
        if not range_.copies:
            return rounded
        columns = self._constant(f"{source}_columns", np.array([copy.column for copy in range_.copies]))
        outliers = self._put(before, "Gather", [source, columns], f"{source}_some", axis=-1)
        starts = np.array([copy.start for copy in range_.copies], dtype=np.float32)
        outliers = self._put(before, "Sub", [outliers, self._constant(f"{source}_starts", starts)], f"{source}_above")
        first = self._constant(f"{source}_first", np.uint8(0))
        copies = self._put(before, "QuantizeLinear", [outliers, step, first], f"{source}_above_u8")
        return self._put(before, "Concat", [rounded, copies], f"{source}_all_u8", axis=-1)

    def quantize_embedding(self, node: Any) -> None:
        """Replace a look-up in a large embedding."""
        rows = initializer_array(self._graph, node.input[0])
        scale = np.abs(rows).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1.0
        name, ids = node.output[0], node.input[1]
        whole = self._constant(f"{name}_rows", np.clip(np.rint(rows / scale), -127, 127).astype(np.int8))
        scales = self._constant(f"{name}_scales", scale.astype(np.float32))
        found = self._put(node, "Gather", [whole, ids], f"{name}_i8", axis=0)
        found = self._put(node, "Cast", [found], f"{name}_whole", to=1)
        row_scale = self._put(node, "Gather", [scales, ids], f"{name}_scale", axis=0)
        self._put(node, "Mul", [found, row_scale], name)
        self._dropped.add(node.output[0])

    def build(self) -> Any:
        """The model, without the constants that no node reads any more."""
        nodes = []
        for node in self._graph.node:
            nodes += self._before.get(node.output[0], [])
            if node.output[0] not in self._dropped:
                nodes.append(node)
        read = {name for node in nodes for name in node.input} | {each.name for each in self._graph.output}
        constants = [each for each in self._graph.initializer if each.name in read]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(constants)
        # Shapes that the exporter stored are not needed, and would be wrong for the rounded values.
        self._graph.ClearField("value_info")
        if MICROSOFT_DOMAIN not in {each.domain for each in self._model.opset_import}:
            self._model.opset_import.add(domain=MICROSOFT_DOMAIN, version=1)
        return self._model

    def _constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        from onnx import numpy_helper

        if all(each.name != name for each in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _put(self, before: Any, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        node = helper.make_node(operator, inputs, [output], name=f"int8_{output}", **attributes)
        self._before.setdefault(before.output[0], []).append(node)
        return output


def _scale_without_saturation(weights: NDArray[Any]) -> NDArray[Any]:
    """(K, N) weights -> N scales with which no processor saturates.

    Those with AVX2 and without VNNI add the products of two neighbours, 0 to 255 times a weight each, in 16 bits
    (VPMADDUBSW): the two weights must not add up to more than 128.
    """
    pairs = weights[: len(weights) // 2 * 2].reshape(-1, 2, weights.shape[1]).sum(axis=1)
    scale: NDArray[Any] = np.maximum(np.abs(weights).max(axis=0), np.abs(pairs).max(axis=0, initial=0)) / 127
    scale[scale == 0] = 1.0
    return scale


def write_static_int8(file: Path, target: Path, ranges: Mapping[str, QuantizationRange]) -> bool:
    """Write the int8 graph; False, and nothing is written, if no linear layer has a range."""
    import onnx

    model = onnx.load(file)
    found = [each for each in find_linear_ops(model.graph) if each.source in ranges]
    if not found:
        return False
    builder = Int8GraphBuilder(model)
    rounded: dict[str, str] = {}
    for product in found:
        range_ = ranges[product.source]
        if product.source not in rounded:
            rounded[product.source] = builder.quantize_input(product.source, range_, product.nodes[0])
        builder.quantize_linear(product, range_, rounded[product.source])
    large = {
        each.name
        for each in model.graph.initializer
        if each.data_type == 1 and len(each.dims) == 2 and each.dims[0] >= MIN_EMBEDDING_ROWS
    }
    for node in list(model.graph.node):
        by_row = all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
        if node.op_type == "Gather" and by_row and node.input[0] in large:
            builder.quantize_embedding(node)
    small = builder.build()
    to_sequence_major(small)
    onnx.save(small, target)
    return True
