"""How fast an encoder's bundle answers, beside the same network in PyTorch and in a plain ONNX Runtime session.

    python bench/runtime.py [--data ../shared/data] [--weights minilm] [--threads 2] [--out bench/results/runtime.json]

Trains the head on BANKING77's few_shot_10, exports, then measures every runner in turn, several rounds, so that a busy
moment hits all of them: texts a second on the test set, p50 and p99 of one text alone, and accuracy. Prints a table
and writes JSON with the commit. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle import Bundle, load
from potstill.export import FP32, INT8, export
from potstill.students.base import Lesson, Make
from potstill.students.encoder import Encoder
from potstill.task import Task
from potstill.tokens import TokenIds, padded

Runner = Callable[[Sequence[str]], NDArray[np.float32]]
ROUNDS, SINGLES = 3, 100
PLAIN_BATCH = 32


def read(file: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a Parquet file."""
    from pyarrow import parquet

    table = parquet.read_table(file)
    return table["text"].to_pylist(), table["label"].to_pylist()


def plain_session(bundle: Bundle, graph: str, threads: int) -> Runner:
    """What one writes first: texts in the order they came, 32 a batch, padded, several threads a batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(bundle.folder / graph), options, providers=["CPUExecutionProvider"])
    tokens = TokenIds(bundle.folder / "tokenizer.json", bundle.about["settings"]["max_length"])

    def run(texts: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for start in range(0, len(texts), PLAIN_BATCH):
            ids, mask = padded(tokens.encode(texts[start : start + PLAIN_BATCH]).ids, tokens.pad_id)
            found.append(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
        return np.concatenate(found)

    return run


def torch_low_precision(student: Encoder) -> Runner:
    """The student's own network under bfloat16 autocast."""
    from potstill.students.backbone import run_network

    tokens, network = student._ready()
    return lambda texts: run_network(network, tokens.encode(texts).ids, tokens.pad_id, low_precision=True)


def measure(runners: dict[str, Runner], texts: Sequence[str], gold: NDArray[np.intp]) -> list[dict[str, Any]]:
    """A row for each runner: median texts/s, p50 and p99 in ms, accuracy; rounds interleaved."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    singles: dict[str, list[float]] = {name: [] for name in runners}
    right = {}
    for round_ in range(ROUNDS):
        for name, run in runners.items():
            run(texts[:64])
            began = time.perf_counter()
            scores = run(texts)
            rates[name].append(len(texts) / (time.perf_counter() - began))
            right[name] = float((scores.argmax(axis=1) == gold).mean())
            for text in texts[round_ * SINGLES : (round_ + 1) * SINGLES]:
                began = time.perf_counter()
                run([text])
                singles[name].append(1000 * (time.perf_counter() - began))
    return [
        {
            "runner": name,
            "texts_per_s": round(median(rates[name]), 1),
            "p50_ms": round(median(singles[name]), 2),
            "p99_ms": round(float(np.percentile(singles[name], 99)), 2),
            "accuracy": round(100 * right[name], 2),
        }
        for name in runners
    ]


def cold_load(folder: Path) -> float:
    """Seconds from the first import to the first answer, in a new process."""
    import sys

    code = f"import time; t = time.perf_counter(); import potstill; potstill.load({str(folder)!r}).predict(['a text'])"
    code += "; print(time.perf_counter() - t)"
    found = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return median(found)


def main() -> None:
    """Train, export, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", default="minilm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench/results/runtime.json"))
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    folder = given.data / "banking77"
    (learn, learn_labels), (check, check_labels), (test, test_labels) = (
        read(folder / f"{part}.parquet") for part in ("few_shot_10", "validation", "test")
    )
    labels = tuple(sorted(set(learn_labels)))
    column = {label: i for i, label in enumerate(labels)}
    targets = np.eye(len(labels), dtype=np.float32)[[column[label] for label in learn_labels]]
    student = Encoder(Make(labels, weights=given.weights, options={"mode": "frozen"})).fit(Lesson(learn, targets))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "bundle"
        judged = np.array([column[label] for label in check_labels])
        done = export(student, place, task=Task(labels, name="banking77"), texts=check, gold=judged)
        bundle = load(place)
        runners: dict[str, Runner] = {}
        for graph in (INT8, FP32):
            if (place / graph).exists():
                runners[f"potstill, {graph}"] = load(place, graph=graph, threads=given.threads).predict_logits
                runners[f"plain ONNX Runtime, {graph}"] = plain_session(bundle, graph, given.threads)
        runners["PyTorch eager, fp32"] = student.predict_logits
        runners["PyTorch eager, bf16 autocast"] = torch_low_precision(student)
        rows = measure(runners, test, np.array([column[label] for label in test_labels]))
        record = {
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
            ).stdout.strip(),
            "when": datetime.now().astimezone().isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "threads": given.threads,
            "weights": given.weights,
            "texts": len(test),
            "cold_load_s": round(cold_load(place), 3),
            "size_mb": round(bundle.size_mb, 1),
            "int8": done.int8.why if done.int8 else "not tried",
            "rows": rows,
        }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{'runner':<42}{'texts/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'accuracy':>10}")
    for row in rows:
        print(
            f"{row['runner']:<42}{row['texts_per_s']:>9,.0f}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}"
            f"{row['accuracy']:>10.2f}"
        )
    print(f"cold load to first answer: {record['cold_load_s']} s; {record['size_mb']} MB; {record['int8']}")


if __name__ == "__main__":
    main()
