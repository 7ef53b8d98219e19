"""The zero-shot encoder: a text gets the label whose name (and description) lies nearest to it. No gold at all.

Vectors as the student of that backbone sees them before it learns; cosine. Does not learn, and does not calibrate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.features import Tokens
from potstill.spec import Named
from potstill.students.vectors import token_vectors
from potstill.task import Task
from potstill.tokens import TokenIds
from potstill.weights import find

LONGEST = 256


def nearest_label(named: Named, task: Task, texts: Sequence[str]) -> NDArray[np.int64]:
    """(N,) columns of the labels nearest to N texts, by an encoder or by static vectors as they come."""
    names = [f"{label.replace('_', ' ')}. {task.descriptions.get(label, '')}".strip() for label in task.labels]
    read = _static if named.kind == "static" else _encoder
    vectors = read(named.model, [*names, *texts])
    labels, rows = vectors[: len(names)], vectors[len(names) :]
    return np.asarray((rows @ labels.T).argmax(axis=1), dtype=np.int64)


def _encoder(weights: str, texts: Sequence[str]) -> NDArray[np.float32]:
    from potstill.students.backbone import read_network, run_network

    found = find(weights or "minilm", kind="encoder")
    network = read_network(found.folder, 2, found.pooling)
    tokens = TokenIds(found.folder / "tokenizer.json", min(LONGEST, network.longest))
    return run_network(network.embed, tokens.encode(texts).ids, tokens.pad_id, low_precision=True)


def _static(weights: str, texts: Sequence[str]) -> NDArray[np.float32]:
    from potstill.students.regress import sparse

    start = token_vectors(find(weights or "potion-8m"))
    entries = Tokens(start.tokenizer, LONGEST).ragged(texts)
    means = np.asarray(sparse(entries, len(start.table)) @ start.table, dtype=np.float32)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-6)))
