"""Pretrained subword embeddings of static students: read from a model2vec folder, or distilled from an encoder.

Reading needs numpy only. Distillation follows model2vec: every entry of the vocabulary is encoded, reduced by PCA, and
weighted down by its frequency, from Zipf's law. It needs torch, takes ten seconds for a small encoder, and is cached.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from potstill.data.task import content_key
from potstill.errors import BadInput, missing_extra
from potstill.models.downloads.fetch import cache_folder
from potstill.models.static_embeddings import StaticEmbeddings, read_model2vec
from potstill.models.weights import Weights

DISTILLATION_VERSION = 1  # raised when the same encoder would give other embeddings
SIF = 3e-5  # a subword of probability p has the weight SIF / (SIF + p), Arora et al. 2017; 1e-3 and 1e-4 were worse
BATCH_SIZE = 512  # subwords encoded at once


def load_token_embeddings(weights: Weights, dims: int = 256) -> StaticEmbeddings:
    """The embeddings of static weights, or those distilled from an encoder.

    Args:
        weights: of the kind `static` or `encoder`.
        dims: D of distilled embeddings at most; those of static weights stay as they are.

    Raises:
        BadInput: weights of another kind, or damaged files.
        MissingExtra: distillation without torch.
    """
    if weights.kind == "static":
        return read_model2vec(weights.path)
    if weights.kind != "encoder":
        raise BadInput(
            f"A static student starts from static or encoder weights, and {weights.name!r} is {weights.kind!r}.",
            "Try potion-8m or minilm.",
        )
    cached = cache_folder() / "distilled" / content_key(DISTILLATION_VERSION, dims, _digest(weights.path))
    if not (cached / "config.json").exists():
        write_model2vec(_distill(weights.path, dims), cached)
    return read_model2vec(cached)


def _distill(folder: Path, dims: int) -> StaticEmbeddings:
    try:
        import torch
    except ImportError:
        raise missing_extra("torch", "train", "Distilling an encoder into static embeddings") from None
    from tokenizers import Tokenizer

    from potstill.models.device import resolve_device
    from potstill.students.backbone import autocast, init_network

    tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
    tokenizer = Tokenizer.from_str(tokenizer_json)
    size = tokenizer.get_vocab_size()
    tokenizer.no_padding()  # some files pad every text to 128 tokens
    # Each subword is encoded alone, between the special tokens, and only its own state is used: averaging in the states
    # of the special tokens made students no better.
    special = tokenizer.encode("").ids
    middle = (len(special) + 1) // 2
    inputs = np.tile(np.array([*special[:middle], 0, *special[middle:]], dtype=np.int64), (size, 1))
    inputs[:, middle] = np.arange(size)
    device = resolve_device()
    backbone = init_network(folder, 2, "mean").backbone.to(device)
    states = []
    with torch.inference_mode(), autocast(device=device):
        for at in range(0, size, BATCH_SIZE):
            ids = torch.from_numpy(inputs[at : at + BATCH_SIZE]).to(device)
            out = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            states.append(out[:, middle].float().cpu().numpy())
    vectors = np.concatenate(states).astype(np.float64)
    vectors -= vectors.mean(axis=0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)  # ascending: the last columns have the most variance
    reduced = vectors @ axes[:, ::-1][:, :dims]
    # Vocabularies are sorted by frequency, so Zipf's law gives a subword's probability from its rank.
    zipf = 1.0 / np.arange(2, size + 2)
    weights = SIF / (SIF + zipf / zipf.sum())
    return StaticEmbeddings(tokenizer_json, (reduced * weights[:, None]).astype(np.float32))


def write_model2vec(static: StaticEmbeddings, folder: Path) -> None:
    """Write a model2vec folder, renamed into place when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        staged = Path(temporary) / "staged"
        staged.mkdir()
        size = static.embeddings.nbytes
        entry = {"dtype": "F32", "shape": static.embeddings.shape, "data_offsets": [0, size]}
        header = json.dumps({"embeddings": entry}).encode()
        body = len(header).to_bytes(8, "little") + header + static.embeddings.astype("<f4").tobytes()
        (staged / "model.safetensors").write_bytes(body)
        (staged / "tokenizer.json").write_text(static.tokenizer, encoding="utf-8")
        (staged / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
        try:
            staged.rename(folder)
        except OSError:  # a concurrent process finished first, with the same content
            if not folder.exists():
                raise


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "tokenizer.json", folder / "config.json"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
