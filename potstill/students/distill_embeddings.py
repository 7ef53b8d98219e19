"""One vector a subword, to start a static student from: read from a model2vec folder, or distilled from an encoder.

Reading needs numpy only. Distilling (after model2vec: every entry of the vocabulary through the encoder, PCA, a weight
that falls with frequency by Zipf's law) needs torch, takes ten seconds for a small encoder, and is cached by content.
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

DISTILLATION_VERSION = 1  # raised when distilling would give something else
SIF = 3e-5  # a subword of probability p weighs SIF / (SIF + p), Arora et al. 2017; 1e-3 and 1e-4 did worse


def load_token_embeddings(found: Weights, dims: int = 256) -> StaticEmbeddings:
    """The vectors of static weights, or those distilled from an encoder (from the cache if it was done before).

    Args:
        found: weights of the kind `static` or `encoder`.
        dims: D of distilled vectors at most; those of static weights stay as they are.

    Raises:
        BadInput: weights of another kind, or files that do not fit together.
        MissingExtra: distilling without torch.
    """
    if found.kind == "static":
        return read_model2vec(found.path)
    if found.kind != "encoder":
        raise BadInput(
            f"A static student starts from static vectors or an encoder; {found.name!r} is of the kind {found.kind!r}.",
            "Try potion-8m or minilm.",
        )
    kept = cache_folder() / "distilled" / content_key(DISTILLATION_VERSION, dims, _digest(found.path))
    if not (kept / "config.json").exists():
        _keep(_distil(found.path, dims), kept)
    return read_model2vec(kept)


def _distil(folder: Path, dims: int) -> StaticEmbeddings:
    try:
        import torch
    except ImportError:
        raise missing_extra("torch", "train", "Distilling an encoder into static vectors") from None
    from tokenizers import Tokenizer

    from potstill.models.device import resolve_device
    from potstill.students.backbone import autocast, init_network

    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    tokenizer = Tokenizer.from_str(text)
    size = tokenizer.get_vocab_size()
    tokenizer.no_padding()  # some files ask to fill every text up to 128 tokens
    # The special ids that go around a text, found by encoding nothing; each subword is put in their middle by its id,
    # and only its own state is taken: with those of its neighbours averaged in, students were no better.
    around = tokenizer.encode("").ids
    middle = (len(around) + 1) // 2
    framed = np.tile(np.array([*around[:middle], 0, *around[middle:]], dtype=np.int64), (size, 1))
    framed[:, middle] = np.arange(size)
    device = resolve_device()
    backbone = init_network(folder, 2, "mean").backbone.to(device)
    states = []
    with torch.inference_mode(), autocast(device=device):
        for at in range(0, size, 512):
            ids = torch.from_numpy(framed[at : at + 512]).to(device)
            out = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            states.append(out[:, middle].float().cpu().numpy())
    vectors = np.concatenate(states).astype(np.float64)
    vectors -= vectors.mean(axis=0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)  # ascending: the last columns carry the most variance
    reduced = vectors @ axes[:, ::-1][:, :dims]
    # Vocabularies are sorted by frequency, so that the rank gives a subword's probability by Zipf's law.
    zipf = 1.0 / np.arange(2, size + 2)
    weights = SIF / (SIF + zipf / zipf.sum())
    return StaticEmbeddings(text, (reduced * weights[:, None]).astype(np.float32))


def _keep(vectors: StaticEmbeddings, folder: Path) -> None:
    """Write a model2vec folder in one step, so that nobody reads half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        staged = Path(temporary) / "made"
        staged.mkdir()
        size = vectors.embeddings.nbytes
        entry = {"dtype": "F32", "shape": vectors.embeddings.shape, "data_offsets": [0, size]}
        header = json.dumps({"embeddings": entry}).encode()
        body = len(header).to_bytes(8, "little") + header + vectors.embeddings.astype("<f4").tobytes()
        (staged / "model.safetensors").write_bytes(body)
        (staged / "tokenizer.json").write_text(vectors.tokenizer, encoding="utf-8")
        (staged / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
        try:
            staged.rename(folder)
        except OSError:  # somebody else finished first, with the same content
            if not folder.exists():
                raise


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "tokenizer.json", folder / "config.json"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
