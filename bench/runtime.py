"""Speed of the bundles of an encoder and a static student, and of what one would use instead, in the same run.

    python bench/runtime.py [--data ../shared/data] [--threads 2] [--rounds 5] [--rivals PYTHON] [--made FOLDER]

Trains on BANKING77's few_shot_10 (head on frozen embeddings) and exports, into `--made` if that is given and empty.
Then every runner predicts the test set once, for its accuracy, and in interleaved rounds, so that other load hits all
of them: texts per second, processor time per text, p50 and p99 of single texts. `--rivals` is the interpreter of an
environment with openvino, adaptive-classifier and model2vec (`runtime_rivals.py`). Writes JSON with the commit and a
section of RESULTS.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from limits import Limits, measure_limits
from numpy.typing import NDArray
from runners import Rivals, Runner, local_runner
from sections import RESULTS, circumstances, table, write_section

from potstill.bundle.bundle import load
from potstill.bundle.export.export import export
from potstill.bundle.export.quantize import write_dynamic_int8, write_int8
from potstill.bundle.layout import FP32, INT8
from potstill.bundle.record import list_files, write_record
from potstill.data.task import Task
from potstill.models.tokens.tokenizer import TextTokenizer, pad_batch
from potstill.models.weights import find_weights
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.static import StaticStudent

SINGLES = 60
PLAIN_BATCH = 32
SLOW_STRIDE = 3  # slow runners predict every third text
FAST = {"potstill, static", "model2vec + regression"}  # they predict the test set five times


def read(file: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a Parquet file."""
    from pyarrow import parquet

    rows = parquet.read_table(file)
    return rows["text"].to_pylist(), rows["label"].to_pylist()


def in_order(
    tokens: TextTokenizer, labels: Sequence[str], run: Callable[[Any, Any], Any], *, by_length: bool
) -> Runner:
    """The simplest script: padded batches of 32 texts, in the given order or sorted by length."""

    def predict(texts: Sequence[str]) -> list[str]:
        ids = tokens.encode(texts).ids
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i])) if by_length else range(len(ids))
        found = [""] * len(ids)
        for start in range(0, len(order), PLAIN_BATCH):
            rows = order[start : start + PLAIN_BATCH]
            for row, column in zip(rows, run(*pad_batch([ids[row] for row in rows], tokens.pad_id)), strict=True):
                found[row] = labels[column]
        return found

    return local_runner(predict)


def plain_session(file: Path, threads: int) -> Callable[[Any, Any], Any]:
    """An onnxruntime session with defaults, all threads on one batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0].argmax(axis=1)


def eager(student: EncoderStudent, *, low_precision: bool = False) -> Callable[[Any, Any], Any]:
    """The student's own network in PyTorch."""
    import torch

    from potstill.students.backbone import autocast

    network = student._loaded()[1].eval()

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Any:
        with torch.inference_mode(), autocast(low_precision):
            return network(torch.from_numpy(ids), torch.from_numpy(mask)).argmax(dim=1).tolist()

    return run


def time_all(
    runners: dict[str, Runner], texts: Sequence[str], gold: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """One row per runner; rounds are interleaved."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    cpu: dict[str, list[float]] = {name: [] for name in runners}
    singles: dict[str, list[float]] = {name: [] for name in runners}
    right, sample = {}, {}
    for name, run in runners.items():
        run(texts[:64])
        slow = run(texts[:128]).seconds > 128 / 700
        tested = texts[::SLOW_STRIDE] if slow else texts
        sample[name] = list(texts) * 5 if name in FAST else list(tested)
        predicted = run(tested).labels
        right[name] = float(
            np.mean([a == b for a, b in zip(predicted, gold[::SLOW_STRIDE] if slow else gold, strict=True)])
        )
    for round_ in range(rounds):
        for name, run in runners.items():
            timing = run(sample[name])
            rates[name].append(len(sample[name]) / timing.seconds)
            cpu[name].append(1e6 * timing.cpu_s / len(sample[name]))
            for text in texts[round_ * SINGLES // rounds : (round_ + 1) * SINGLES // rounds]:
                singles[name].append(1000 * run([text]).seconds)
    return [
        {
            "runner": name,
            "texts_per_s": round(median(rates[name]), 1),
            "best_texts_per_s": round(max(rates[name]), 1),
            "cpu_us_per_text": round(min(cpu[name]), 1),
            "p50_ms": round(median(singles[name]), 2),
            "p99_ms": round(float(np.percentile(singles[name], 99)), 2),
            "accuracy": round(100 * right[name], 2),
            "texts": len(sample[name]),
        }
        for name in runners
    ]


def cold_load(folder: Path, graph: str) -> dict[str, float]:
    """Median seconds in new processes: the import, `load`, and the first answer."""
    code = f"""
import time
t = [time.perf_counter()]
import potstill
t.append(time.perf_counter())
bundle = potstill.load({str(folder)!r}, graph={graph!r})
t.append(time.perf_counter())
bundle.predict(["a text"])
t.append(time.perf_counter())
print(*(b - a for a, b in zip(t, t[1:])))
"""
    found = [
        [
            float(part)
            for part in subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.split()
        ]
        for _ in range(5)
    ]
    return {
        name: round(median(part), 3)
        for name, part in zip(("import_s", "load_s", "first_s"), zip(*found, strict=True), strict=True)
    }


def make(given: argparse.Namespace, place: Path) -> str:
    """Train both students and export them into `place`; the reason for or against int8."""
    folder = given.data / "banking77"
    (texts, names), (check, check_names) = (read(folder / f"{part}.parquet") for part in ("few_shot_10", "validation"))
    labels = tuple(sorted(set(names)))
    column = {label: i for i, label in enumerate(labels)}
    data = TrainingData(texts, np.eye(len(labels), dtype=np.float32)[[column[label] for label in names]])
    student = EncoderStudent(StudentConfig(labels, weights=given.weights, options={"mode": "frozen"})).fit(data)
    (place / "encoder").mkdir(parents=True, exist_ok=True)
    student.save(place / "encoder")
    task, gold = Task(labels, name="banking77"), np.array([column[label] for label in check_names])
    bundle = export(student, place / "bundle", task=task, texts=check, gold=gold)
    if not (place / "bundle" / INT8).exists():  # rejected by the accuracy check; its speed can be measured all the same
        shutil.copytree(place / "bundle", place / "int8")
        write_int8(bundle, place / "int8" / INT8, check)
        write_record(place / "int8", replace(bundle.record, files=list_files(place / "int8")))
    static = StaticStudent(StudentConfig(labels, weights=given.weights)).fit(data)
    export(static, place / "static", task=task, texts=check, gold=gold)
    return bundle.record.int8.reason if bundle.record.int8 else "not tried"


def _int8_folder(place: Path) -> Path:
    return place / "int8" if (place / "int8").exists() else place / "bundle"


def runners_of(place: Path, threads: int, rivals: Rivals | None) -> dict[str, Runner]:
    """All runners, by name."""
    student = EncoderStudent.load(place / "encoder")
    tokens, labels = student._loaded()[0], student.labels
    found: dict[str, Runner] = {}
    dynamic = place / "dynamic.onnx"  # what onnxruntime's own tool makes of the graph
    if not dynamic.exists():
        write_dynamic_int8(place / "bundle" / FP32, dynamic)
    for graph, name in ((INT8, "int8"), (FP32, "fp32")):
        folder = _int8_folder(place) if graph == INT8 else place / "bundle"
        found[f"potstill, {name}"] = local_runner(load(folder, graph=graph, threads=threads).predict)
        plain = plain_session(dynamic if graph == INT8 else folder / graph, threads)
        found[f"ONNX Runtime, {name}, by length"] = in_order(tokens, labels, plain, by_length=True)
        found[f"ONNX Runtime, {name}, as they come"] = in_order(tokens, labels, plain, by_length=False)
    found["PyTorch eager, fp32, by length"] = in_order(tokens, labels, eager(student), by_length=True)
    found["PyTorch eager, fp32, as they come"] = in_order(tokens, labels, eager(student), by_length=False)
    found["PyTorch eager, bf16, by length"] = in_order(
        tokens, labels, eager(student, low_precision=True), by_length=True
    )
    found["potstill, static"] = local_runner(load(place / "static", threads=threads).predict)
    for name in Rivals.names if rivals is not None else ():
        assert rivals is not None
        opened = rivals.open(name)
        if opened is not None:
            found[name] = opened
    return found


def section_of(record: dict[str, Any], limits: Limits) -> str:
    """The section of RESULTS.md."""
    rows = {row["runner"]: row for row in record["rows"]}
    lines = [
        [
            row["runner"],
            *(f"{row[key]:,.0f}" for key in ("texts_per_s", "best_texts_per_s", "cpu_us_per_text")),
            *(f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms")),
            f"{row['accuracy']:.1f}",
            f"{row['texts']:,}",
        ]
        for row in record["rows"]
    ]
    head = ["runner", "texts/s", "best round", "processor µs/text", "p50 ms", "p99 ms", "accuracy %", "texts"]
    cold, ours = record["cold"], rows.get("potstill, int8")
    paragraphs = [
        "## Serving\n",
        f"BANKING77's test set, `{record['weights']}` with a head trained on ten texts per class; commit "
        f"`{record['commit']}`, {record['when'][:10]}, {record['machine']} (load average {record['busy']}), "
        f"{record['threads']} thread(s), "
        f"`python bench/runtime.py`. Median of {record['rounds']} interleaved rounds; {SINGLES} texts alone. Slow ones "
        "predict every third text; of few texts, accuracy says little.\n",
        table(head, lines),
        "",
        f"- Limits here: {limits.int8_gops:,.0f} GOP/s int8 and {limits.fp32_gops:,.0f} GFLOP/s fp32 in ONNX Runtime; "
        f"{limits.tokens_per_text:.1f} tokens and {limits.gflop_per_text:.2f} GFLOP a text allow "
        f"{limits.int8_texts_per_s:,.0f} texts/s int8, {limits.fp32_texts_per_s:,.0f} fp32; tokenizing "
        f"alone, of words seen before, does {limits.tokenizer_texts_per_s:,.0f}.",
    ]
    if ours is not None:
        share, best = (ours[key] / limits.int8_texts_per_s for key in ("texts_per_s", "best_texts_per_s"))
        by_length = ours["texts_per_s"] / rows["PyTorch eager, fp32, by length"]["texts_per_s"]
        as_they_come = ours["texts_per_s"] / rows["PyTorch eager, fp32, as they come"]["texts_per_s"]
        paragraphs.append(
            f"- potstill int8 reaches {share:.0%} of its limit ({best:.0%} in its best round), and {by_length:.1f} "
            f"times PyTorch eager on texts sorted by length, {as_they_come:.1f} times on texts as they come."
        )
    if record["busy"] > record["threads"] + 0.5 or record["every"] > 1:
        asked = f"one text in {record['every']}"
        paragraphs.append(
            f"- A quick look ({asked}) or a busy machine: compare rows, and processor time rather than texts/s."
        )
    paragraphs += [
        f"- Cold, int8: import {cold['import_s']} s, load {cold['load_s']} s, first answer {cold['first_s']} s; "
        f"{record['size_mb']} MB.",
        f"- Check of int8 on the validation texts: {record['int8']}",
    ]
    return "\n".join(paragraphs)


def main() -> None:
    """Train, export, measure, write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", default="minilm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="of the test texts only every n-th: a quick look")
    parser.add_argument("--rivals", type=Path)
    parser.add_argument("--made", type=Path)
    parser.add_argument("--make-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "runtime.json")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        place = given.made or Path(scratch) / "made"
        if not (place / "why.txt").exists():
            why = make(given, place)
            (place / "why.txt").write_text(why, encoding="utf-8")
        if given.make_only:
            return
        measure(given, place, Path(scratch))


def measure(given: argparse.Namespace, place: Path, scratch: Path) -> None:
    """Measure the exported bundles, and write the results."""
    test, test_labels = (part[:: given.every] for part in read(given.data / "banking77" / "test.parquet"))
    texts, gold = read(given.data / "banking77" / "few_shot_10.parquet")
    bundle = load(place / "bundle")
    setup = {
        "bundle": str(place / "bundle"),
        "labels": bundle.labels,
        "threads": given.threads,
        "max_length": bundle.record.preprocessor.config["max_length"],
        "weights": str(find_weights(given.weights, kind="encoder").folder),
        "texts": texts,
        "gold": gold,
    }
    rivals = Rivals(given.rivals, setup) if given.rivals else None
    tokens, network = EncoderStudent.load(place / "encoder")._loaded()
    linear = sum(
        w.numel() for name, w in network.backbone.named_parameters() if w.ndim == 2 and "embedding" not in name
    )
    runners = runners_of(place, given.threads, rivals)
    limits = measure_limits(tokens, test, linear, given.threads, scratch)
    record = {
        **circumstances(),
        "threads": given.threads,
        "weights": given.weights,
        "cold": cold_load(_int8_folder(place), INT8),
        "size_mb": round(load(_int8_folder(place), graph=INT8).size_mb, 1),
        "int8": (place / "why.txt").read_text(encoding="utf-8"),
        "limits": asdict(limits),
        "rounds": given.rounds,
        "every": given.every,
        "rows": time_all(runners, test, test_labels, given.rounds),
    }
    if rivals is not None:
        rivals.close()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    section = section_of(record, limits)
    if given.out.parent == RESULTS.with_name("results"):
        write_section("runtime", section)
    print(section)


if __name__ == "__main__":
    main()
