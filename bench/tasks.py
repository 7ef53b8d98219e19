"""Tasks that are no benchmark's favourites: imbalance, 30 languages, several labels, pairs, long texts, 360 classes.

    python bench/tasks.py [--data ../shared/data] [--only "sib200" ...] [--arms linear ...] [--page]

What a bundle says is judged: every student is exported, and its bundle labels the test texts (int8 where the gate took
it). One seed, one thread; all seconds are processor seconds, of learning and of the bundle at work. Rows are cut
(`tasks_data.py`) to what that allows. Results are added to bench/results/tasks.json row by row.
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
from potstill.evaluation import metrics
from potstill.evaluation import multilabel_metrics as labelsets
from potstill.students import REGISTRY
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.cloze import ClozeStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.training_data import apply_class_weights

RESULTS = Path(__file__).with_name("results") / "tasks.json"
TIMED = 200


@dataclass(frozen=True)
class Arm:
    """A student and how it learns: `kind` of the menu, its weights and options, whether labels count alike."""

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
    "minilm, frozen, head": Arm("encoder", "minilm", {"mode": "frozen", "long": "head", "max_length": 128}),
    "minilm, frozen, head+tail": Arm("encoder", "minilm", {"mode": "frozen", "max_length": 128}),
    "minilm, frozen, windows": Arm("encoder", "minilm", {"mode": "frozen", "long": "windows", "max_length": 128}),
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
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--data", type=Path, default=Path("../shared/data"))
    asked.add_argument("--only", nargs="*", default=list(GRID))
    asked.add_argument("--arms", nargs="*")
    asked.add_argument("--page", action="store_true", help="measure nothing, write the section")
    options = asked.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    for name in [] if options.page else options.only:
        data = LOAD[name](options.data)
        for arm in ["majority", *GRID[name]]:
            if options.arms and arm not in options.arms:
                continue
            row = {"data": name, "arm": arm, **measured(data, arm), "commit": commit()}
            print(row, flush=True)
            rows = [old for old in rows if (old["data"], old["arm"]) != (name, arm)] + [row]
            RESULTS.write_text(json.dumps({"format": 1, "bench": "tasks", "rows": rows}, indent=1) + "\n")
    told = page(rows)
    write_section("tasks", told)
    print(told)


def measured(data: Data, name: str) -> dict[str, Any]:
    """One arm on one data set: how good, how long, how fast."""
    facts = {"k": len(data.labels), "learnt": len(data.train.texts), "tested": len(data.test.texts)}
    if name == "majority":
        counts = data.train.targets(len(data.labels)).sum(axis=0)
        said = np.tile(np.arange(len(data.labels)) == counts.argmax(), (len(data.test.texts), 1))
        return facts | quality(data, said)
    if name == GEMMA:
        return facts | gemma(data)
    arm = ARMS[name]
    make = StudentConfig(data.labels, arm.weights, options=arm.options, kind=data.kind)
    targets = data.train.targets(len(data.labels))
    multi = data.kind == "multi"
    weights = apply_class_weights(targets, None, "balanced" if arm.balanced else None, data.labels, multi=multi)
    began = time.process_time()
    student = REGISTRY.resolve(arm.kind)(make).fit(TrainingData(data.train.texts, targets, weights))
    facts["fit_cpu_s"] = time.process_time() - began
    facts["truncated"] = getattr(student, "truncated", 0.0)
    facts["how"] = getattr(student, "fit_info", {}).get("mode", "")
    with tempfile.TemporaryDirectory() as folder:
        place, task = Path(folder) / "bundle", Task(data.labels, kind=data.kind)
        began = time.process_time()
        held_out = data.validation
        record = export(student, place, task=task, texts=held_out.texts, gold=held_out.gold, calibrate=True).record
        facts |= {"export_cpu_s": time.process_time() - began, "serve": record.graph}
        facts["int8"] = record.int8.reason if record.int8 else ""
        bundle = load(place, threads=1)
        said = bundle.label_indicator(bundle.predict_proba(data.test.texts))
        facts |= {"texts_per_cpu_s": speed(bundle.predict, data.test.texts[:TIMED]), "mb": bundle.size_mb}
    return facts | quality(data, said)


def gemma(data: Data) -> dict[str, Any]:
    """A regression on what a small model of many languages thinks where a label would be said; few texts, it is slow.

    No bundle: what is shown is whether the languages are in it, for a `cloze` to use.
    """
    learnt, tested = data.train.few(600), data.test.few(300)
    began = time.process_time()
    model = ClozeStudent(StudentConfig(data.labels, "gemma-270m", options={"dtype": "bfloat16", "max_length": 160}))
    states = model.embed(learnt.texts)
    middle, spread = states.mean(axis=0), (states.std(axis=0) + 1e-6) * states.shape[1] ** 0.5
    rows = np.ones(len(states), dtype=np.float32)
    found = fit_regression((states - middle) / spread, learnt.targets(len(data.labels)), rows, SolverOptions(c=10.0))
    facts = {"learnt": len(learnt.texts), "tested": len(tested.texts), "fit_cpu_s": time.process_time() - began}
    logits = (model.embed(tested.texts) - middle) / spread @ found.weights + found.bias
    said = logits.argmax(axis=1)[:, None] == np.arange(len(data.labels))
    return facts | quality(replace(data, test=tested), said)


def speed(predict: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Texts a second of processor time, which a busy machine does not blur."""
    predict(texts[:16])
    began, rounds = time.process_time(), 0
    while time.process_time() - began < 1.0:
        predict(texts)
        rounds += 1
    return rounds * len(texts) / (time.process_time() - began)


def quality(data: Data, said: Any) -> dict[str, Any]:
    """Accuracy (of several labels: the share of right sets), macro and micro F1; accuracy by language."""
    gold = data.test.gold
    if data.kind == "multi":
        exact = float((said == (gold == 1)).all(axis=1).mean())
        macro, micro = labelsets.multilabel_macro_f1(gold, said), labelsets.multilabel_micro_f1(gold, said)
        return {"accuracy": exact, "macro_f1": macro, "micro_f1": micro}
    column = said.argmax(axis=1)
    found: dict[str, Any] = {"accuracy": metrics.accuracy(gold, column), "macro_f1": metrics.macro_f1(gold, column)}
    if data.test.langs:
        langs = np.array(data.test.langs)
        found["by_language"] = {lang: float((column == gold)[langs == lang].mean()) for lang in sorted(set(langs))}
    return found


def page(rows: list[dict[str, Any]]) -> str:
    """The section of RESULTS.md."""
    lines = [
        "## Tasks that are nobody's favourites",
        "",
        f"`python bench/tasks.py`, {', '.join(sorted({row['commit'] for row in rows}))}. One seed: a point or two is "
        "noise. What the exported bundle says is judged, fp32 or int8 as its gate chose. Seconds are processor seconds "
        "of learning; texts/s are texts a processor second of the bundle. Of several labels a text accuracy is the "
        "share of sets that are right as a whole. `goemotions threads` is made: one to three comments joined.",
        "",
    ]
    head = ["data", "labels", "learnt", "student", "accuracy", "macro-F1", "micro-F1", "cut", "s", "texts/s", "MB"]
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
            own = sorted(row["by_language"].items(), key=lambda each: each[1])
            low = ", ".join(f"{lang} {share:.0%}" for lang, share in own[:4])
            high = ", ".join(f"{lang} {share:.0%}" for lang, share in own[-3:])
            median = float(np.median([share for _, share in own]))
            lines += [
                "",
                f"{row['data']}, {row['arm']}, by language: lowest {low}; median {median:.0%}; highest {high}.",
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
