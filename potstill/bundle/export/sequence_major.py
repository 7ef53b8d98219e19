"""Transposes a transformer's graph to (length, batch, width) inside, instead of (batch, length, width).

Then the heads of queries, keys and values lie in memory as onnxruntime's matrix products read them: of five copies a
layer one is left. The graph before the first layer norm and after the last layer stays as it was. The results are the
same.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

# Operators on each token alone, if their other inputs are constants of at most one row.
ROWWISE = {
    *("Add", "Sub", "Mul", "Div", "Gelu", "Relu", "Erf", "Tanh", "Sigmoid", "QuantizeLinear", "MatMul", "Identity"),
    *("MatMulIntegerToFloat", "LayerNormalization", "Clip", "Cast"),
}
# The same if they work along the last axis.
AXIS_OPS = {"Concat", "Gather", "Split", "Softmax"}
# Transposes that split heads: to (batch, heads, length, width) and, of keys, (batch, heads, width, length).
SPLIT_HEADS = {(0, 2, 1, 3): (1, 2, 0, 3), (0, 2, 3, 1): (1, 2, 3, 0)}
MERGE_HEADS = (0, 2, 1, 3), (2, 0, 1, 3)
# A graph that needs more transposes back than this is of another form.
MAX_OUTPUT_TRANSPOSES = 2


def to_sequence_major(model: Any) -> bool:
    """Change the onnx model in place; False, and nothing is changed, if its form would not gain from it."""
    plan = _Plan(model.graph)
    if not plan.find():
        return False
    plan.apply()
    return True


class _Plan:
    """The changes to make. A node is identified by its first output."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.rank = {each.name: len(each.dims) for each in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.transposed: set[str] = set()  # values that become (length, batch, width)
        self.heads: set[str] = set()  # those of them that become (length, batch, heads, width)
        self.perms: dict[str, tuple[int, ...]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.entry = ""

    def find(self) -> bool:
        """Follow the transposed values from the first layer norm on; whether that pays."""
        first = next((node for node in self.graph.node if node.op_type == "LayerNormalization"), None)
        if first is None:
            return False
        self.entry = first.output[0]
        self.transposed.add(self.entry)
        results = {each.name for each in self.graph.output}  # these stay (batch, length, width)
        for node in self.graph.node:
            if node is not first and not results & set(node.output):
                self._follow(node)
        # A reader that cannot take a transposed value gets it transposed back.
        back = [name for name in self.transposed if any(not self._fits(node) for node in self.readers[name])]
        return len(back) <= MAX_OUTPUT_TRANSPOSES and not self.heads & set(back) and len(self.perms) > 0

    def _follow(self, node: Any) -> None:
        out = node.output[0]
        if node.op_type == "Transpose":
            perm = tuple(node.attribute[0].ints)
            if node.input[0] in self.heads and perm in SPLIT_HEADS:
                self.perms[out] = SPLIT_HEADS[perm]
            elif perm == MERGE_HEADS[0] and node.input[0] not in self.transposed and self._merges_heads(node):
                self.perms[out] = MERGE_HEADS[1]
                merged = self.readers[out][0].output[0]
                self.shapes[merged] = (0, 0, -1)
                self.transposed.add(merged)
        elif node.op_type == "Reshape" and node.input[0] in self.transposed - self.heads:
            tail = self._tail(node, 4)
            reads = self.readers[out]
            if tail and reads and all(_perm(each) in SPLIT_HEADS for each in reads):
                self.shapes[out] = (0, 0, *tail)
                self.transposed.add(out)
                self.heads.add(out)
        elif self._rowwise(node):
            self.transposed.update(node.output)

    def _rowwise(self, node: Any) -> bool:
        """Whether the node works on each token alone and reads only transposed values and small constants."""
        read = [name for name in node.input if name]
        if not any(name in self.transposed for name in read) or any(name in self.heads for name in read):
            return False
        if node.op_type in AXIS_OPS and not any(each.name == "axis" and each.i == -1 for each in node.attribute):
            return False
        if node.op_type not in ROWWISE | AXIS_OPS or (node.op_type == "Gather" and read[0] not in self.transposed):
            return False
        most = 2 if node.op_type.startswith("MatMul") else 1
        return all(name in self.transposed or self.rank.get(name, 9) <= most for name in read)

    def _merges_heads(self, transpose: Any) -> bool:
        """Whether heads are merged again, and only into a linear layer or its rounding."""
        reads = self.readers[transpose.output[0]]
        if len(reads) != 1 or reads[0].op_type != "Reshape" or not self._tail(reads[0], 3):
            return False
        after = self.readers[reads[0].output[0]]
        return all(node.op_type in ("QuantizeLinear", "MatMul", "Mul", "Gather") for node in after)

    def _tail(self, reshape: Any, rank: int) -> tuple[int, ...]:
        """The constants of a shape that is concatenated as batch, length, ...; () for any other shape."""
        from onnx import numpy_helper

        maker = self.maker.get(reshape.input[1])
        if maker is None or maker.op_type != "Concat" or len(maker.input) != rank:
            return ()
        constants = {each.name: each for each in self.graph.initializer if each.name in maker.input}
        if any(name in constants for name in maker.input[:2]) or any(name not in constants for name in maker.input[2:]):
            return ()
        return tuple(int(numpy_helper.to_array(constants[name]).reshape(-1)[0]) for name in maker.input[2:])

    def _fits(self, node: Any) -> bool:
        return node.output[0] in self.transposed or node.output[0] in self.perms

    def apply(self) -> None:
        """Write the changes into the graph."""
        from onnx import helper, numpy_helper

        nodes: list[Any] = []
        for node in self.graph.node:
            out = node.output[0]
            if not self._fits(node) or out == self.entry:
                for i, name in enumerate(node.input):
                    if name in self.transposed:
                        node.input[i] = f"{name}_back"
            elif node.op_type == "Transpose":
                node = helper.make_node("Transpose", node.input, node.output, name=node.name, perm=self.perms[out])
            elif node.op_type == "Reshape":
                shape = numpy_helper.from_array(_int64(self.shapes[out]), f"{out}_shape")
                self.graph.initializer.append(shape)
                node = helper.make_node("Reshape", [node.input[0], shape.name], node.output, name=node.name)
            nodes.append(node)
            if out == self.entry:
                node.output[0] = f"{out}_batch_first"
                nodes.append(
                    helper.make_node("Transpose", [node.output[0]], [out], name=f"{out}_sequence_major", perm=[1, 0, 2])
                )
            for name in (self.entry, out) if out == self.entry else tuple(nodes[-1].output):
                if name in self.transposed and any(not self._fits(each) for each in self.readers[name]):
                    back = [f"{name}_back"]
                    nodes.append(helper.make_node("Transpose", [name], back, name=back[0], perm=[1, 0, 2]))
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _perm(node: Any) -> tuple[int, ...]:
    return tuple(node.attribute[0].ints) if node.op_type == "Transpose" else ()


def _int64(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.array(shape, dtype=np.int64)
