"""The share of the machine's matrix rate that fine-tuning reaches, and the effect of each of its optimisations.

    python bench/training_speed.py [--data ../shared/data] [--steps 12]

The rate is measured in the same run: products of the shapes a layer has (512 tokens; 384 x 1536), float32 and bfloat16.
A step's operations are counted, not guessed: 6 for each weight of the layers and each token that is not padding
(forward once, backward twice), without attention's own products. Fine-tuning is that of `fine_tune`, on the weights
`minilm`, with one thread, in processor seconds, which are comparable on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from folds import SETTINGS, fold
from sections import commit, table, write_section

from potstill.models.tokens.tokenizer import TextTokenizer
from potstill.models.weights import find_weights
from potstill.students import encoder_training as training
from potstill.students.backbone import init_network
from potstill.students.encoder_training import EncodedBatch, FineTuningConfig, Regularization, fine_tune

OUT = Path(__file__).parent / "results" / "training_speed.json"
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = {"float32": product_rate(torch.float32), "bfloat16": product_rate(torch.bfloat16)}
    rows = []
    for setting in (SETTINGS[0], SETTINGS[-1]):
        given = fold(options.data, setting, 1)
        texts = [*given.texts, *given.pool][: BATCH * options.steps]
        targets = np.eye(len(given.labels), dtype=np.float32)[np.arange(len(texts)) % len(given.labels)]
        for name, change in CHANGES.items():
            with change():
                rows.append({"data": setting.data, "what": name, **speed(texts, targets)})
            rows[-1]["share"] = rows[-1]["tflops"] / rates["bfloat16" if name != "in float32" else "float32"]
            print(rows[-1], flush=True)
    record = {"format": 1, "commit": commit(), "threads": 1, "tflops": rates, "rows": rows}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    write_section("training-speed", section(record))


def product_rate(kind: torch.dtype) -> float:
    """TFLOP/s of matrix products of a layer's size; the best of five rounds."""
    a, b = torch.randn(512, 384).to(kind), torch.randn(384, 1536).to(kind)
    best = 0.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(100):
            a @ b
        best = max(best, 100 * 2 * 512 * 384 * 1536 / (time.process_time() - began) / 1e12)
    return best


def speed(texts: list[str], targets: Any) -> dict[str, float]:
    """One epoch of `fine_tune`: seconds per step, texts per second, and TFLOP/s of the necessary operations."""
    found = find_weights("minilm", kind="encoder")
    network = init_network(found.folder, targets.shape[1], found.pooling)
    ids = TextTokenizer(found.folder / "tokenizer.json", 256).encode(texts).ids
    n = len(ids)
    rows = EncodedBatch(ids, targets, np.ones(n, np.float32), np.zeros(n, np.bool_))
    fine_tune(network, rows.take(np.arange(BATCH)), FineTuningConfig(epochs=1), pad_id=0)  # warm-up
    began = time.process_time()
    done = fine_tune(
        network, rows, FineTuningConfig(epochs=1, regularization=Regularization(freeze_embeddings=True)), pad_id=0
    )
    seconds = time.process_time() - began
    weights = sum(part.numel() for name, part in network.backbone.named_parameters() if "encoder.layer" in name)
    work = 6 * weights * sum(len(own) for own in ids)
    return {"step_s": seconds / done.steps, "texts_per_s": n / seconds, "tflops": work / seconds / 1e12}


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _padded_batches() -> Iterator[None]:
    with patch.object(training, "PADDING_BLOCK", BATCH):
        yield


@contextmanager
def _fused_attention() -> Iterator[None]:
    with patch.object(training, "eager_attention", lambda network: _as_it_is()):
        yield


@contextmanager
def _float32() -> Iterator[None]:
    with patch.object(training, "autocast", lambda **_: torch.autocast("cpu", enabled=False)):
        yield


CHANGES: dict[str, Callable[[], Any]] = {
    "as it is": _as_it_is,
    "batches padded whole": _padded_batches,
    "the library's fused attention": _fused_attention,
    "in float32": _float32,
}


def section(record: dict[str, Any]) -> str:
    """The Markdown section."""
    rates = record["tflops"]
    lines = [
        [
            f"{row['data']}, {row['what']}",
            f"{row['step_s'] * 1000:,.0f}",
            f"{row['texts_per_s']:,.0f}",
            f"{row['tflops']:.3f}",
            f"{row['share']:.0%}",
        ]
        for row in record["rows"]
    ]
    head = ["fine-tuning MiniLM-L6, batches of 32", "ms a step", "texts/s", "TFLOP/s that count", "of the matrix rate"]
    return (
        f"## Training speed\n\n`python bench/training_speed.py` on {record['commit']}, one thread, processor seconds. "
        f"Matrix products of a layer's size run at {rates['float32']:.2f} TFLOP/s in float32 and "
        f"{rates['bfloat16']:.2f} in bfloat16 in the same run. Padding and attention's own products do not count.\n\n"
        + table(head, lines)
    )


if __name__ == "__main__":
    main()
