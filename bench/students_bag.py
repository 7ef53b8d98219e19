"""Linear and static students on BANKING77: few-shot, all rows, and distilled from a stronger teacher; table and JSON.

    python bench/students_bag.py [--data ../shared/data] [--weights minilm] [--out students_bag.json]

The teacher is a logistic regression on frozen embeddings of the encoder `minilm`, trained on few_shot_10 only; it
labels the other training texts. "texts/s" is text in, logits out, on the exported graph with ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

from potstill.models.features import load_vectorizer
from potstill.models.weights import find_weights
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.static import StaticStudent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", nargs="*", default=["potion-8m"], help="weights static students start from")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-kd", action="store_true", help="leave out the teacher, which takes a minute")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    splits = {name: read(options.data, name) for name in ("few_shot_10", "train", "validation", "test")}
    labels = tuple(sorted(set(splits["train"][1])))
    texts, gold = splits["test"]
    right = np.array([labels.index(label) for label in gold])
    few = (splits["few_shot_10"][0], one_hot(splits["few_shot_10"][1], labels))
    rest = splits["train"][0] + splits["validation"][0]
    training_sets = {"10-shot": few, "full": (rest, one_hot(splits["train"][1] + splits["validation"][1], labels))}
    if not options.no_kd:
        few_texts = set(few[0])
        pool = [text for text in rest if text not in few_texts]
        soft, logits = train_teacher(few, pool, texts)
        print(f"teacher (frozen minilm + regression, 10-shot): {100 * (logits.argmax(1) == right).mean():.1f}")
        training_sets["kd"] = (few[0] + pool, np.concatenate([few[1], soft]))
    makes: dict[str, Any] = {"linear": lambda: LinearStudent(StudentConfig(labels))}
    for name in options.weights:
        makes[f"static:{name}"] = lambda name=name: StaticStudent(StudentConfig(labels, name))
    rows = []
    print(f"{'student':20} {'trained on':10} {'accuracy':>8} {'fit s':>7} {'texts/s':>9} {'MB':>6}")
    for kind, make in makes.items():
        for training_set, (train_texts, targets) in training_sets.items():
            scores, seconds = [], []
            for seed in range(options.seeds if kind != "linear" else 1):
                began = time.perf_counter()
                student = make().fit(TrainingData(train_texts, targets, seed=seed))
                seconds.append(time.perf_counter() - began)
                scores.append(float((student.predict_logits(texts).argmax(1) == right).mean()))
            rate, size_mb = serve(student, texts)
            row = {
                "student": kind,
                "lesson": training_set,
                "rows": len(train_texts),
                "accuracy": scores,
                "fit_s": seconds,
            }
            rows.append({**row, "texts_per_s": rate, "size_mb": size_mb})
            mean = 100 * float(np.mean(scores))
            print(
                f"{kind:20} {training_set:8} {mean:8.1f} {np.mean(seconds):7.1f} {rate:9,.0f} {size_mb:6.1f}",
                flush=True,
            )
    if options.out:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        record = {"format": 1, "bench": "students_bag", "commit": commit.stdout.strip(), "rows": rows}
        options.out.write_text(json.dumps(record | {"command": sys.argv[1:]}, indent=1))


def read(data: Path, split: str) -> tuple[list[str], list[str]]:
    table = pq.read_table(data / "banking77" / f"{split}.parquet").to_pydict()
    return table["text"], table["label"]


def one_hot(names: list[str], labels: tuple[str, ...]) -> Any:
    return np.eye(len(labels), dtype=np.float32)[[labels.index(name) for name in names]]


def train_teacher(few: tuple[list[str], Any], pool: list[str], test: list[str]) -> tuple[Any, Any]:
    """The teacher's soft targets for the pool, and its logits of the test texts."""
    from tokenizers import Tokenizer

    from potstill.evaluation.calibration import softmax
    from potstill.students.backbone import init_network, predict_batches

    folder = find_weights("minilm").path
    network, tokenizer = init_network(folder, 2, "mean"), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)

    def embed(texts: list[str]) -> Any:
        ids = [np.array(encoded.ids) for encoded in tokenizer.encode_batch(texts)]
        return predict_batches(network.embed, ids, 0, low_precision=True)

    # On embeddings of length one, C = 30 is a weak enough penalty to separate ten texts per label.
    head = fit_regression(embed(few[0]), few[1], np.ones(len(few[0]), np.float32), SolverOptions(c=30.0))
    # With ten shots the regression is underconfident; a temperature of one half sharpens its answers.
    scores = [embed(texts) @ head.weights + head.bias for texts in (pool, test)]
    return softmax(scores[0], 0.5).astype(np.float32), scores[1]


def serve(student: Any, texts: list[str]) -> tuple[float, float]:
    """Texts a second through the exported graph (best of five, batches of 256 by length), and its megabytes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        vectorizer = load_vectorizer(folder, student.export(folder).preprocessor_config)
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        best = 0.0
        for _ in range(5):
            began = time.perf_counter()
            ordered = sorted(texts, key=len)
            for at in range(0, len(ordered), 256):
                features = vectorizer(ordered[at : at + 256])
                session.run(None, {"ids": features.ids, "values": features.values})
            best = max(best, len(texts) / (time.perf_counter() - began))
    return best, size_mb


if __name__ == "__main__":
    main()
