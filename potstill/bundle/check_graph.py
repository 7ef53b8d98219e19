"""Checks a graph file before it is opened: operations that may never end, and weights outside of the bundle.

An ONNX file is a protocol buffer. Reads the few fields that name operations and files, without the onnx library, which
a machine that predicts need not have. Whether the graph is sound otherwise is for onnxruntime.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection
from pathlib import Path

from potstill.bundle.protobuf import read_fields
from potstill.errors import RunNotFound

# An operation whose number of rounds is a value of the graph, perhaps without an end.
ENDLESS = frozenset({b"Loop"})
MAX_DEPTH = 32  # graphs inside of graphs
MAX_FIELDS = 5_000_000
# Field numbers of onnx.proto: message -> field -> the message it holds.
_CHILDREN = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_OPERATION, _KEY, _VALUE = 4, 1, 2


def check_graph(file: Path, files: Collection[str]) -> None:
    """Check the graph in `file`.

    Args:
        file: the graph.
        files: the names of the files in its folder that may hold its weights.

    Raises:
        RunNotFound: it has an operation of `ENDLESS`, or reads a file that is none of the bundle's, or it is no graph.
    """
    try:
        with file.open("rb") as opened:
            operations, locations = _names(memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)))
    except (ValueError, IndexError) as error:  # also an empty file
        raise _unsound(file, "it is no ONNX file") from error
    endless = sorted(name.decode() for name in ENDLESS & operations)
    if endless:
        raise _unsound(file, f"it has the operation {endless[0]}, which may never end")
    outside = sorted(locations - {name.encode() for name in files})
    if outside:
        raise _unsound(file, f"it reads the file {outside[0].decode('utf-8', 'backslashreplace')!r}")


def _unsound(file: Path, reason: str) -> RunNotFound:
    return RunNotFound(f"{file} is not a graph that onnxruntime can run: {reason}.", "Copy or export the bundle again.")


def _names(data: memoryview) -> tuple[set[bytes], set[bytes]]:
    """The names of all operations, and of all files with weights."""
    operations: set[bytes] = set()
    locations: set[bytes] = set()
    pending, n_fields = [("model", data, 0)], 0
    while pending:
        kind, message, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        entry: dict[int, bytes] = {}
        for each in read_fields(message):
            number, value = each.number, each.value
            n_fields += 1
            if n_fields > MAX_FIELDS:
                raise ValueError("too many fields")
            child = _CHILDREN.get(kind, {}).get(number)
            if value is None:
                continue
            if child is not None:
                pending.append((child, value, depth + (child == "graph")))
            elif kind == "node" and number == _OPERATION:
                operations.add(bytes(value))
            elif kind == "entry":
                entry[number] = bytes(value)
        if entry.get(_KEY) == b"location":
            locations.add(entry.get(_VALUE, b""))
    return operations, locations
