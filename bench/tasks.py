"""Difficult tasks: imbalance, 30 languages, several labels a text, pairs, long texts, 360 classes.

    python bench/tasks.py [--data ../shared/data] [--only "sib200" ...] [--arms linear ...] [--page]

Every student is exported, and its bundle is evaluated on the test texts (int8 if the export accepted it). One seed, one
thread; all seconds are processor seconds, of training and of the bundle. The number of rows is limited
(`tasks_data.py`). Results are added to bench/results/tasks.json row by row.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sections import commit, table, write_section
from tasks_data import LOAD, Data

from potstill.bundle.bundle import load
from potstill.bundle.export.export import export
from potstill.data.task import Task
from potstill.evaluation import metrics, multilabel_metrics
from potstill.students import REGISTRY
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.cloze import ClozeStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.training_data import apply_class_weights

RESULTS = Path(__file__).with_name("results") / "tasks.json"
TIMED = 200


@dataclass(frozen=True)
class Arm:
    """A student and its training: registry name, weights, options, and whether class weights are balanced."""

    kind: str
    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    balanced: bool = False


ARMS = {
    "linear": Arm("linear"),
    "linear, class weights": Arm("linear", balanced=True),
    "static potion-8m": Arm("static", "potion-8m"),
    "static potion-8m, class weights": Arm("static", "potion-8m", balanced=True),
    "minilm, frozen": Arm("encoder", "minilm", {"mode": "frozen"}),
    "minilm, frozen, class weights": Arm("encoder", "minilm", {"mode": "frozen"}, balanced=True),
    "minilm, frozen, head": Arm("encoder", "minilm", {"mode": "frozen", "long_texts": "head", "max_length": 128}),
    "minilm, frozen, head+tail": Arm("encoder", "minilm", {"mode": "frozen", "max_length": 128}),
    "minilm, frozen, windows": Arm("encoder", "minilm", {"mode": "frozen", "long_texts": "windows", "max_length": 128}),
    "minilm, fine-tuned": Arm("encoder", "minilm", {"mode": "full"}),
}
GEMMA = "gemma-270m, head on frozen states"
SIMPLE = ("linear", "static potion-8m")
GRID = {
    "reuters_r52": [name for name in ARMS if name.startswith(SIMPLE) or name.endswith(("frozen", "weights"))],
    "sib200": [*SIMPLE, "minilm, frozen", GEMMA],
    "goemotions threads": [*SIMPLE, "minilm, frozen", "minilm, fine-tuned"],
    "snli": [*SIMPLE, "minilm, frozen", "minilm, fine-tuned"],
    "cfpb_complaints": [*SIMPLE, *[name for name in ARMS if name.endswith(("head", "head+tail", "windows"))]],
    "dbpedia219": [*SIMPLE, "minilm, frozen"],
    "360 classes": [*SIMPLE, "minilm, frozen", "minilm, fine-tuned"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=list(GRID))
    parser.add_argument("--arms", nargs="*")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    for name in [] if options.page else options.only:
        data = LOAD[name](options.data)
        for arm in ["majority", *GRID[name]]:
            if options.arms and arm not in options.arms:
                continue
            row = {"data": name, "arm": arm, **evaluate_arm(data, arm), "commit": commit()}
            print(row, flush=True)
            rows = [old for old in rows if (old["data"], old["arm"]) != (name, arm)] + [row]
            RESULTS.write_text(json.dumps({"format": 1, "bench": "tasks", "rows": rows}, indent=1) + "\n")
    section = format_section(rows)
    write_section("tasks", section)
    print(section)


def evaluate_arm(data: Data, name: str) -> dict[str, Any]:
    """One arm on one data set: metrics, training time, speed."""
    row = {"k": len(data.labels), "learnt": len(data.train.texts), "tested": len(data.test.texts)}
    if name == "majority":
        counts = data.train.targets(len(data.labels)).sum(axis=0)
        predicted = np.tile(np.arange(len(data.labels)) == counts.argmax(), (len(data.test.texts), 1))
        return row | quality(data, predicted)
    if name == GEMMA:
        return row | gemma(data)
    arm = ARMS[name]
    config = StudentConfig(data.labels, arm.weights, options=arm.options, kind=data.kind)
    targets = data.train.targets(len(data.labels))
    multi = data.kind == "multi"
    weights = apply_class_weights(targets, None, "balanced" if arm.balanced else None, data.labels, multi=multi)
    start = time.process_time()
    student = REGISTRY.resolve(arm.kind)(config).fit(TrainingData(data.train.texts, targets, weights))
    row["fit_cpu_s"] = time.process_time() - start
    row["truncated"] = getattr(student, "truncated", 0.0)
    row["how"] = fit_info.mode if (fit_info := getattr(student, "fit_info", None)) else ""
    with tempfile.TemporaryDirectory() as folder:
        path, task = Path(folder) / "bundle", Task(data.labels, kind=data.kind)
        start = time.process_time()
        held_out = data.validation
        record = export(student, path, task=task, texts=held_out.texts, gold=held_out.gold, calibrate=True).record
        row |= {"export_cpu_s": time.process_time() - start, "serve": record.graph}
        row["int8"] = record.int8.reason if record.int8 else ""
        bundle = load(path, threads=1)
        predicted = bundle.label_indicator(bundle.predict_proba(data.test.texts))
        row |= {"texts_per_cpu_s": texts_per_second(bundle.predict, data.test.texts[:TIMED]), "mb": bundle.size_mb}
    return row | quality(data, predicted)


def gemma(data: Data) -> dict[str, Any]:
    """A regression on the states of a small multilingual language model at the label's position; on few texts.

    Without a bundle: it shows whether the model covers the languages, for the student `cloze`.
    """
    train, test = data.train.sample(600), data.test.sample(300)
    start = time.process_time()
    model = ClozeStudent(StudentConfig(data.labels, "gemma-270m", options={"dtype": "bfloat16", "max_length": 160}))
    states = model.embed(train.texts)
    mean, scale = states.mean(axis=0), (states.std(axis=0) + 1e-6) * states.shape[1] ** 0.5
    rows = np.ones(len(states), dtype=np.float32)
    head = fit_regression((states - mean) / scale, train.targets(len(data.labels)), rows, SolverOptions(c=10.0))
    row = {"learnt": len(train.texts), "tested": len(test.texts), "fit_cpu_s": time.process_time() - start}
    logits = (model.embed(test.texts) - mean) / scale @ head.weights + head.bias
    predicted = logits.argmax(axis=1)[:, None] == np.arange(len(data.labels))
    return row | quality(replace(data, test=test), predicted)


def texts_per_second(predict: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Texts a second of processor time, which other load on the machine does not change."""
    predict(texts[:16])
    start, rounds = time.process_time(), 0
    while time.process_time() - start < 1.0:
        predict(texts)
        rounds += 1
    return rounds * len(texts) / (time.process_time() - start)


def quality(data: Data, predicted: Any) -> dict[str, Any]:
    """Accuracy (of several labels: the share of right sets), macro and micro F1; accuracy by language."""
    gold = data.test.gold
    if data.kind == "multi":
        exact = float((predicted == (gold == 1)).all(axis=1).mean())
        macro, micro = (
            multilabel_metrics.multilabel_macro_f1(gold, predicted),
            multilabel_metrics.multilabel_micro_f1(gold, predicted),
        )
        return {"accuracy": exact, "macro_f1": macro, "micro_f1": micro}
    column = predicted.argmax(axis=1)
    scores: dict[str, Any] = {"accuracy": metrics.accuracy(gold, column), "macro_f1": metrics.macro_f1(gold, column)}
    if data.test.langs:
        langs = np.array(data.test.langs)
        scores["by_language"] = {lang: float((column == gold)[langs == lang].mean()) for lang in sorted(set(langs))}
    return scores


def format_section(rows: list[dict[str, Any]]) -> str:
    """The section of RESULTS.md."""
    lines = [
        "## Difficult tasks",
        "",
        f"`python bench/tasks.py`, {', '.join(sorted({row['commit'] for row in rows}))}. One seed: a point or two is "
        "noise. The exported bundle is evaluated, fp32 or int8 as the export selected. Seconds are processor seconds "
        "of training; texts/s are texts a processor second of the bundle. In multi-label tasks accuracy is the share "
        "of texts whose set is exactly right. `goemotions threads` is synthetic: one to three comments joined.",
        "",
    ]
    head = ["data", "labels", "rows", "student", "accuracy", "macro-F1", "micro-F1", "truncated", "s", "texts/s", "MB"]
    cells = []
    for name, arms in GRID.items():
        for arm in ["majority", *arms]:
            row = next((row for row in rows if (row["data"], row["arm"]) == (name, arm)), None)
            if row is None:
                continue
            served = " (int8)" if "int8" in row.get("serve", "") else ""
            micro = f"{row['micro_f1']:.1%}" if "micro_f1" in row else ""
            cells.append([name, str(row["k"]), f"{row['learnt']:,}", arm + served, f"{row['accuracy']:.1%}"])
            cells[-1] += [f"{row['macro_f1']:.1%}" if "macro_f1" in row else "", micro]
            cells[-1] += [f"{row['truncated']:.0%}" if row.get("truncated") else ""]
            cells[-1] += [f"{row[key]:,.0f}" if key in row else "" for key in ("fit_cpu_s", "texts_per_cpu_s", "mb")]
    lines.append(table(head, cells))
    for row in rows:
        if "by_language" in row and row["arm"] != "majority":
            by_language = sorted(row["by_language"].items(), key=lambda each: each[1])
            low = ", ".join(f"{lang} {share:.0%}" for lang, share in by_language[:4])
            high = ", ".join(f"{lang} {share:.0%}" for lang, share in by_language[-3:])
            median = float(np.median([share for _, share in by_language]))
            lines += [
                "",
                f"{row['data']}, {row['arm']}, by language: lowest {low}; median {median:.0%}; highest {high}.",
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
