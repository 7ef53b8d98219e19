"""The names of a bundle's files: the layout that transformers, transformers.js and TEI look for.

Bundles of the formats 1 and 2 have their graphs beside the record. Needs the standard library alone.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Literal

from potstill.errors import RunNotFound

FP32, INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
# The same in format 1 and 2, and what a student writes.
OLD_FP32, OLD_INT8 = "model.onnx", "model.int8.onnx"
ENCODER, OLD_ENCODER = (
    "onnx/encoder_model.onnx",
    "encoder_model.onnx",
)  # of an encoder-decoder, beside a step of decoding
TRANSFORMERS_WEIGHTS = "model.safetensors"
# What other programs need beside graph and tokenizer, and what only transformers itself needs.
CONFIG_FILES = ("config.json", "tokenizer_config.json")
GENERATION_CONFIG = "generation_config.json"  # of students that answer in words
TRANSFORMERS_FILES = (*CONFIG_FILES, GENERATION_CONFIG, TRANSFORMERS_WEIGHTS)
MAX_PARTS = 2  # of a file's path: a folder and a name

Precision = Literal["fp32", "int8"]
GRAPHS: dict[str, tuple[str, str]] = {"fp32": (FP32, OLD_FP32), "int8": (INT8, OLD_INT8)}


def precision_of(graph: str) -> Precision:
    """Of a graph by its name: "int8" for the quantised one of any format, "fp32" for all others."""
    return "int8" if graph in GRAPHS["int8"] else "fp32"


def find_graph(wanted: str, files: Collection[str]) -> str:
    """The name of a graph in `files`.

    Args:
        wanted: "fp32", "int8", or the name of a graph in this format or an older one.
        files: the names of the bundle's files.

    Raises:
        RunNotFound: there is no such graph.
    """
    alike = [name for key, names in GRAPHS.items() if wanted in (key, *names) for name in names]
    found: str | None = next((name for name in (wanted, *alike) if name in files), None)
    if found is None or not found.endswith(".onnx"):
        raise RunNotFound(f"The bundle holds no graph {wanted!r}.", "Leave the graph out, or export the bundle again.")
    return found


def is_bundle_path(name: str) -> bool:
    """Whether a name in a record is that of a file in the bundle's folder, or in a folder within it."""
    path = PurePosixPath(name)
    plain = bool(name) and path.as_posix() == name and not path.is_absolute() and not set(name) & {"\\", "\0", ":"}
    return plain and len(path.parts) <= MAX_PARTS and not {".", ".."} & set(path.parts)
