"""Static token vectors (model2vec) and safetensors files, read with numpy alone: a text is the mean of its subwords.

Does not cover making such vectors (a student does that), nor the weights of networks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadInput

Floats = NDArray[np.float32]
SAFETENSORS_DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class StaticEmbeddings:
    """A vocabulary and its vectors.

    Attributes:
        tokenizer: the text of a `tokenizer.json`.
        table: (V, D) float32; a text's vector is the mean of its subwords' rows.
    """

    tokenizer: str
    embeddings: Floats


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a safetensors file by name; bfloat16 comes as float32.

    Raises:
        BadInput: the file is cut short or of a type that is not handled.
    """
    raw = path.read_bytes()
    try:
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            data = raw[8 + size + begin : 8 + size + end]
            if entry["dtype"] == "BF16":
                wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
                tensors[name] = wide.view(np.float32).reshape(entry["shape"])
            else:
                tensors[name] = np.frombuffer(data, SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError) as broken:
        raise BadInput(f"{path} is not a safetensors file that can be read: {broken}.", "Fetch it again.") from None
    return tensors


def read_model2vec(folder: Path) -> StaticEmbeddings:
    """A model2vec folder: `embeddings`, and where it was quantised, `mapping` and `weights` too.

    Raises:
        BadInput: a file is missing, damaged or something else.
    """
    if not (folder / "model.safetensors").exists() or not (folder / "tokenizer.json").exists():
        raise BadInput(f"{folder} lacks model.safetensors or tokenizer.json.", "Name a folder that model2vec saved.")
    tensors = read_safetensors(folder / "model.safetensors")
    if "embeddings" not in tensors:
        raise BadInput(f"{folder} holds no static vectors, but {', '.join(sorted(tensors)[:3])} ...", "Try potion-8m.")
    table = tensors["embeddings"].astype(np.float32)
    if "mapping" in tensors:
        table = table[tensors["mapping"]]
    if "weights" in tensors:
        table = table * tensors["weights"].astype(np.float32)[:, None]
    return StaticEmbeddings((folder / "tokenizer.json").read_text(encoding="utf-8"), np.ascontiguousarray(table))
