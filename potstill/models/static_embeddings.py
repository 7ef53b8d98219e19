"""Static token embeddings (model2vec) and safetensors files, read with numpy alone.

Does not cover distilling embeddings (see `students.distill_embeddings`).
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
    """A tokenizer and an embedding for each of its V subwords.

    Attributes:
        tokenizer: the content of a `tokenizer.json`.
        embeddings: (V, D) float32; a text's embedding is the mean over its subwords.
    """

    tokenizer: str
    embeddings: Floats


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a safetensors file by name; bfloat16 is converted to float32.

    Raises:
        BadInput: the file is damaged, or a tensor has an unsupported type.
    """
    raw = path.read_bytes()
    try:
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            data = raw[8 + size + start : 8 + size + end]
            if entry["dtype"] == "BF16":
                wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
                tensors[name] = wide.view(np.float32).reshape(entry["shape"])
            else:
                tensors[name] = np.frombuffer(data, SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError) as broken:
        raise BadInput(f"{path} is not a safetensors file that can be read: {broken}.", "Fetch it again.") from None
    return tensors


def read_model2vec(folder: Path) -> StaticEmbeddings:
    """Read a model2vec folder: `embeddings`, and `mapping` and `weights` if it is quantized.

    Raises:
        BadInput: a file is missing or damaged, or holds no static embeddings.
    """
    if not (folder / "model.safetensors").exists() or not (folder / "tokenizer.json").exists():
        raise BadInput(f"{folder} lacks model.safetensors or tokenizer.json.", "Name a folder that model2vec saved.")
    tensors = read_safetensors(folder / "model.safetensors")
    if "embeddings" not in tensors:
        raise BadInput(
            f"{folder} holds no static embeddings, but {', '.join(sorted(tensors)[:3])} ...", "Try potion-8m."
        )
    embeddings = tensors["embeddings"].astype(np.float32)
    if "mapping" in tensors:
        embeddings = embeddings[tensors["mapping"]]
    if "weights" in tensors:
        embeddings = embeddings * tensors["weights"].astype(np.float32)[:, None]
    return StaticEmbeddings((folder / "tokenizer.json").read_text(encoding="utf-8"), np.ascontiguousarray(embeddings))
