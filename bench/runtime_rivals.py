"""The rivals of `runtime.py` that are no dependencies of potstill, in their own process and virtual environment.

Started by `runtime.py --rivals PYTHON`; reads one JSON line per request, writes one per reply:

    {"open": NAME}                       -> {"ready": true} or {"error": "..."}
    {"run": NAME, "texts": [...]}        -> {"labels": [...], "seconds": s, "cpu_seconds": c}

Does not import potstill. A rival that leaves the order of texts to its caller gets them sorted by length, its fastest
order.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Runner = Callable[[list[str]], list[str]]
BATCH = 32


def openvino(setup: dict[str, Any], precision: str) -> Runner:
    """The exported fp32 graph, compiled for throughput, in batches of 32 of similar length."""
    import numpy as np
    from openvino import Core
    from tokenizers import Tokenizer

    folder = Path(setup["bundle"])
    hints = {"INFERENCE_NUM_THREADS": setup["threads"], "INFERENCE_PRECISION_HINT": precision}
    model = Core().compile_model(str(folder / "onnx" / "model.onnx"), "CPU", hints)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(setup["max_length"])
    request = model.create_infer_request()

    def run(texts: list[str]) -> list[str]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        found = [""] * len(texts)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            filled = np.zeros((len(rows), len(ids[rows[0]])), dtype=np.int64)
            mask = np.zeros_like(filled)
            for at, row in enumerate(rows):
                filled[at, : len(ids[row])], mask[at, : len(ids[row])] = ids[row], 1
            logits = request.infer({"input_ids": filled, "attention_mask": mask})[model.output(0)]
            for row, column in zip(rows, logits.argmax(axis=1), strict=True):
                found[row] = setup["labels"][column]
        return found

    return run


def adaptive(setup: dict[str, Any]) -> Runner:
    """adaptive-classifier on the same weights and the same labelled texts."""
    import torch
    from adaptive_classifier import AdaptiveClassifier

    torch.set_num_threads(setup["threads"])
    model = AdaptiveClassifier(setup["weights"], device="cpu")
    model.add_examples(setup["texts"], setup["gold"])
    return lambda texts: [ranked[0][0] for ranked in model.predict_batch(texts, k=1)]


def model2vec(setup: dict[str, Any]) -> Runner:
    """model2vec's embeddings, distilled once from the same weights, under scikit-learn's logistic regression."""
    from model2vec import StaticModel
    from model2vec.distill import distill
    from sklearn.linear_model import LogisticRegression

    cached = Path(setup["bundle"]).with_name("model2vec")
    if not cached.exists():
        distill(setup["weights"], device="cpu").save_pretrained(cached)
    vectors = StaticModel.from_pretrained(cached)
    head = LogisticRegression(C=100.0, max_iter=500).fit(vectors.encode(setup["texts"]), setup["gold"])
    return lambda texts: list(head.predict(vectors.encode(texts, use_multiprocessing=False)))


RIVALS: dict[str, Callable[[dict[str, Any]], Runner]] = {
    "OpenVINO, bf16": lambda setup: openvino(setup, "bf16"),
    "OpenVINO, fp32": lambda setup: openvino(setup, "f32"),
    "adaptive-classifier": adaptive,
    "model2vec + regression": model2vec,
}


def main() -> None:
    """Answer requests until the input ends; what libraries print goes to standard error."""
    replies, sys.stdout = sys.stdout, sys.stderr
    if "--help" in sys.argv:
        print(__doc__, file=replies)
        return
    setup = json.loads(sys.stdin.readline())
    opened: dict[str, Runner] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "open" in request:
                opened[request["open"]] = RIVALS[request["open"]](setup)
                reply: dict[str, Any] = {"ready": True}
            else:
                began, used = time.perf_counter(), time.process_time()
                labels = opened[request["run"]](request["texts"])
                timing = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
                reply = timing | {"labels": [str(label) for label in labels]}
        except Exception as error:  # a failed rival is a row with its error
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
