"""A transformer's graph turned so that its values are (length, batch, width) inside, instead of (batch, length, width).

Then the heads of queries, keys and values lie as onnxruntime's products read them, and need not be copied: of five
copies a layer one is left. What is before the first layer norm and after the last layer stays as it was. Does not touch
numbers: what is computed is the same.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

# Operators that treat every token by itself, if all that they read besides is a constant of a row at most.
ROWWISE = {
    *("Add", "Sub", "Mul", "Div", "Gelu", "Relu", "Erf", "Tanh", "Sigmoid", "QuantizeLinear", "MatMul", "Identity"),
    *("MatMulIntegerToFloat", "LayerNormalization", "Clip", "Cast"),
}
# The same where they work along the last axis.
AXIS_OPS = {"Concat", "Gather", "Split", "Softmax"}
# Heads apart, by what comes next: (batch, heads, length, width) and, of keys, (batch, heads, width, length).
SPLIT_HEADS = {(0, 2, 1, 3): (1, 2, 0, 3), (0, 2, 3, 1): (1, 2, 3, 0)}
MERGE_HEADS = (0, 2, 1, 3), (2, 0, 1, 3)
# More than these places where values must be turned back mean that the graph is of another form.
MAX_OUTPUT_TRANSPOSES = 2


def to_sequence_major(model: Any) -> bool:
    """Turn the onnx model in place; False, and nothing is changed, if it is not of the form that this gains from."""
    plan = _Plan(model.graph)
    if not plan.found():
        return False
    plan.carry_out()
    return True


class _Plan:
    """What is to be changed. A node is known by what it puts out first."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.rank = {each.name: len(each.dims) for each in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.turned: set[str] = set()  # values that will be (length, batch, width)
        self.heads: set[str] = set()  # of them those that will be (length, batch, heads, width)
        self.perms: dict[str, tuple[int, ...]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.entry = ""

    def found(self) -> bool:
        """Look where the turned values go, from the first layer norm on."""
        first = next((node for node in self.graph.node if node.op_type == "LayerNormalization"), None)
        if first is None:
            return False
        self.entry = first.output[0]
        self.turned.add(self.entry)
        for node in self.graph.node:
            if node is not first and node.output[0] != self.entry:
                self._follow(node)
        # What is turned must be read as such by all that reads it, or be turned back.
        back = [name for name in self.turned if any(not self._fits(node) for node in self.readers[name])]
        return len(back) <= MAX_OUTPUT_TRANSPOSES and not self.heads & set(back) and len(self.perms) > 0

    def _follow(self, node: Any) -> None:
        out = node.output[0]
        if node.op_type == "Transpose":
            perm = tuple(node.attribute[0].ints)
            if node.input[0] in self.heads and perm in SPLIT_HEADS:
                self.perms[out] = SPLIT_HEADS[perm]
            elif perm == MERGE_HEADS[0] and node.input[0] not in self.turned and self._joined(node):
                self.perms[out] = MERGE_HEADS[1]
                joined = self.readers[out][0].output[0]
                self.shapes[joined] = (0, 0, -1)
                self.turned.add(joined)
        elif node.op_type == "Reshape" and node.input[0] in self.turned - self.heads:
            tail = self._tail(node, 4)
            reads = self.readers[out]
            if tail and reads and all(_perm(each) in SPLIT_HEADS for each in reads):
                self.shapes[out] = (0, 0, *tail)
                self.turned.add(out)
                self.heads.add(out)
        elif self._rowwise(node):
            self.turned.update(node.output)

    def _rowwise(self, node: Any) -> bool:
        """It reads turned values, and nothing else that would have to be."""
        read = [name for name in node.input if name]
        if not any(name in self.turned for name in read) or any(name in self.heads for name in read):
            return False
        if node.op_type in AXIS_OPS and not any(each.name == "axis" and each.i == -1 for each in node.attribute):
            return False
        if node.op_type not in ROWWISE | AXIS_OPS or (node.op_type == "Gather" and read[0] not in self.turned):
            return False
        most = 2 if node.op_type.startswith("MatMul") else 1
        return all(name in self.turned or self.rank.get(name, 9) <= most for name in read)

    def _joined(self, transpose: Any) -> bool:
        """Heads go side by side again, and only into a product or its rounding."""
        reads = self.readers[transpose.output[0]]
        if len(reads) != 1 or reads[0].op_type != "Reshape" or not self._tail(reads[0], 3):
            return False
        after = self.readers[reads[0].output[0]]
        return all(node.op_type in ("QuantizeLinear", "MatMul", "Mul", "Gather") for node in after)

    def _tail(self, reshape: Any, rank: int) -> tuple[int, ...]:
        """The constants of a shape that is put together as batch, length, ...; () if it is something else."""
        from onnx import numpy_helper

        maker = self.maker.get(reshape.input[1])
        if maker is None or maker.op_type != "Concat" or len(maker.input) != rank:
            return ()
        held = {each.name: each for each in self.graph.initializer if each.name in maker.input}
        if any(name in held for name in maker.input[:2]) or any(name not in held for name in maker.input[2:]):
            return ()
        return tuple(int(numpy_helper.to_array(held[name]).reshape(-1)[0]) for name in maker.input[2:])

    def _fits(self, node: Any) -> bool:
        return node.output[0] in self.turned or node.output[0] in self.perms

    def carry_out(self) -> None:
        """Write the changes into the graph."""
        from onnx import helper, numpy_helper

        nodes: list[Any] = []
        for node in self.graph.node:
            out = node.output[0]
            if not self._fits(node) or out == self.entry:
                for i, name in enumerate(node.input):
                    if name in self.turned:
                        node.input[i] = f"{name}_back"
            elif node.op_type == "Transpose":
                node = helper.make_node("Transpose", node.input, node.output, name=node.name, perm=self.perms[out])
            elif node.op_type == "Reshape":
                shape = numpy_helper.from_array(_whole(self.shapes[out]), f"{out}_shape")
                self.graph.initializer.append(shape)
                node = helper.make_node("Reshape", [node.input[0], shape.name], node.output, name=node.name)
            nodes.append(node)
            if out == self.entry:
                node.output[0] = f"{out}_as_given"
                nodes.append(
                    helper.make_node("Transpose", [node.output[0]], [out], name=f"{out}_turned", perm=[1, 0, 2])
                )
            for name in (self.entry, out) if out == self.entry else tuple(nodes[-1].output):
                if name in self.turned and any(not self._fits(each) for each in self.readers[name]):
                    back = [f"{name}_back"]
                    nodes.append(helper.make_node("Transpose", [name], back, name=back[0], perm=[1, 0, 2]))
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _perm(node: Any) -> tuple[int, ...]:
    return tuple(node.attribute[0].ints) if node.op_type == "Transpose" else ()


def _whole(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.array(shape, dtype=np.int64)
