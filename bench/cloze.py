"""P with one small language model, compared with a head on its frozen states and with fine-tuned and frozen MiniLM.

    python bench/cloze.py [--data ../shared/data] [--only sst2] [--per-class 4 16] [--seeds 1 2 3] [--choose | --page]

SmolLM2-135M in bfloat16, on SST-2 and TREC-6 with few gold texts per class, 400 test texts. P by LoRA in its top half
and in its top third, by a soft prompt alone, and zero-shot; each with a pattern and label words of the task, zero-shot
also with the default pattern and plain names. All seconds are processor seconds of one thread. `--choose` compares
options of P on 200 validation texts, two draws; defaults may be chosen there and nowhere else. Results are added to
bench/results/cloze.json row by row. The larger grid is `papers/compare.py`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from folds import Fold, Setting, fold
from sections import commit, table, write_section

from potstill.evaluation.metrics import accuracy
from potstill.students.base import Student, StudentConfig, TrainingData
from potstill.students.cloze import ClozeStudent
from potstill.students.encoder import EncoderStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression

RESULTS = Path(__file__).with_name("results") / "cloze.json"
MODEL = "smollm2"
NAMES = {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "human", "LOC": "location"}
PROMPTS: dict[str, dict[str, Any]] = {
    "sst2": {"pattern": "{text} It was {label}", "label_words": {"positive": "great", "negative": "terrible"}},
    "trec6": {"pattern": "{text}\nAnswer type: {label}", "label_words": {**NAMES, "NUM": "number"}},
}
MEGABYTES = {MODEL: 540, "minilm": 91}  # of the float32 weights; the bundle of P holds all of them
TESTED, VALIDATED = 400, 200
# What --choose compares. The default is now 15 of the 30 layers, learning rate 5e-4, 20 epochs on few rows.
CHOICES: dict[str, dict[str, Any]] = {
    "10 layers": {"trainable_layers": 10},
    "10 layers, lr 2e-4": {"trainable_layers": 10, "lr": 2e-4},
    "10 layers, lr 1e-3": {"trainable_layers": 10, "lr": 1e-3},
    "10 layers, 40 epochs": {"trainable_layers": 10, "epochs": 40},
    "15 layers": {"trainable_layers": 15},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=list(PROMPTS))
    parser.add_argument("--per-class", type=int, nargs="*", default=[4, 16])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="*")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    part, tested = ("validation", VALIDATED) if options.choose else ("test", TESTED)
    for n in [] if options.page else options.per_class:
        for data in options.only:
            for seed in options.seeds:
                given = fold(options.data, Setting(data, n, tested=tested, pooled=0), seed, part)
                arms = {name: _variant(data, own) for name, own in CHOICES.items()} if options.choose else ARMS
                for arm, measure in arms.items():
                    if (options.arms and arm not in options.arms) or (arm in ONCE and (seed, n) not in ONCE[arm]):
                        continue
                    row = {"part": part, "data": data, "n": n, "seed": seed, "arm": arm}
                    row |= {**measure(given), "commit": commit()}
                    print(row, flush=True)
                    rows = [old for old in rows if key_of(old) != key_of(row)] + [row]
                    RESULTS.write_text(json.dumps({"format": 1, "bench": "cloze", "rows": rows}, indent=1) + "\n")
    section = page(rows)
    write_section("cloze", section)
    print(section)


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row measures."""
    return tuple(row[key] for key in ("part", "data", "n", "seed", "arm"))


def prompted(given: Fold, own: Mapping[str, Any], named: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """P with these options."""
    named = PROMPTS[given.setting.data] if named is None else named
    return _timed(
        given, ClozeStudent(StudentConfig(given.labels, MODEL, options={"dtype": "bfloat16", **named, **own}))
    )


def zero_shot(given: Fold) -> dict[str, Any]:
    """P, untrained."""
    return prompted(given, {"mode": "zero-shot"})


def zero_shot_plain(given: Fold) -> dict[str, Any]:
    """P, untrained, with the default pattern and the label names."""
    return prompted(given, {"mode": "zero-shot"}, {})


def low_rank(given: Fold) -> dict[str, Any]:
    """P with default options."""
    return prompted(given, {})


def low_rank_third(given: Fold) -> dict[str, Any]:
    """P with fewer trained layers."""
    return prompted(given, {"trainable_layers": 10})


def soft(given: Fold) -> dict[str, Any]:
    """P that trains eight vectors before the text and the label bias only."""
    return prompted(given, {"mode": "frozen", "soft_prompt_tokens": 8, "lr": 1e-2})


def head(given: Fold) -> dict[str, Any]:
    """A regression on the frozen states at the label's position, with no label in the pattern."""
    began = time.process_time()
    model = ClozeStudent(
        StudentConfig(given.labels, MODEL, options={"dtype": "bfloat16", **PROMPTS[given.setting.data]})
    )
    states = model.embed(given.texts)
    middle, spread = states.mean(axis=0), (states.std(axis=0) + 1e-6) * states.shape[1] ** 0.5
    found = fit_regression(
        (states - middle) / spread, given.targets, np.ones(len(states), np.float32), SolverOptions(c=10.0)
    )
    fitted = time.process_time()
    logits = (model.embed(given.test_texts) - middle) / spread @ found.weights + found.bias
    return _facts(given, logits, fitted - began, time.process_time() - fitted)


def frozen(given: Fold) -> dict[str, Any]:
    """A regression on MiniLM's frozen embeddings."""
    return _timed(given, EncoderStudent(StudentConfig(given.labels, "minilm", options={"mode": "frozen"})))


def tuned(given: Fold) -> dict[str, Any]:
    """MiniLM, all weights fine-tuned."""
    return _timed(given, EncoderStudent(StudentConfig(given.labels, "minilm", options={"mode": "full"})))


ARMS: dict[str, Callable[[Fold], dict[str, Any]]] = {
    "P, zero-shot, default pattern": zero_shot_plain,
    "P, zero-shot": zero_shot,
    "P, LoRA": low_rank,
    "P, LoRA, top third": low_rank_third,
    "P, soft prompt": soft,
    "head on the same model, frozen": head,
    "MiniLM, frozen": frozen,
    "MiniLM, fine-tuned": tuned,
}
# Arms that run for these (seed, texts per class) only: untrained, or too slow.
ONCE = {
    "P, zero-shot, default pattern": {(1, 4)},
    "P, zero-shot": {(1, 4)},
    "P, soft prompt": {(1, 4)},
}


def _variant(data: str, own: Mapping[str, Any]) -> Callable[[Fold], dict[str, Any]]:
    named = {**PROMPTS[data], **own}
    return lambda given: prompted(given, {}, named)


def _timed(given: Fold, student: Student) -> dict[str, Any]:
    began = time.process_time()
    student.fit(TrainingData(given.texts, given.targets, seed=given.seed))
    fitted = time.process_time()
    logits = student.predict_logits(given.test_texts)
    return _facts(given, logits, fitted - began, time.process_time() - fitted)


def _facts(given: Fold, logits: Any, fit_s: float, predict_s: float) -> dict[str, Any]:
    right = accuracy(given.test_gold, logits.argmax(axis=1))
    return {"accuracy": right, "fit_cpu_s": fit_s, "texts_per_s": len(given.test_texts) / predict_s}


def page(rows: list[dict[str, Any]]) -> str:
    """The section of RESULTS.md."""
    tested = [row for row in rows if row["part"] == "test"]
    lines = [
        "## P beside fine-tuning, with few labels",
        "",
        f"`python bench/cloze.py`, {', '.join(sorted({row['commit'] for row in rows}))}. Accuracy on {TESTED} test "
        "texts, mean over the draws ± their standard deviation. Seconds are processor seconds of loading and training; "
        "texts/s are texts a processor second in PyTorch (P in bfloat16). MB are the weights a prediction needs.",
        "",
    ]
    cells = []
    for data, n in dict.fromkeys((row["data"], row["n"]) for row in tested):
        for arm in ARMS:
            own = [row for row in tested if (row["data"], row["n"], row["arm"]) == (data, n, arm)]
            if own:
                large = MEGABYTES["minilm" if arm.startswith("MiniLM") else MODEL]
                cells.append([data, str(n), arm, str(len(own)), *_summary(own), str(large)])
    heads = ["data", "a class", "student", "draws", "accuracy", "s", "texts/s", "MB"]
    lines.append(table(heads, cells))
    chosen = [row for row in rows if row["part"] == "validation"]
    if chosen:
        lines += ["", f"Options of P by LoRA on {VALIDATED} validation texts, where defaults may be chosen:", ""]
        cells = []
        for arm in dict.fromkeys(row["arm"] for row in chosen):
            own = [row for row in chosen if row["arm"] == arm]
            each = [_mean(own, data) for data in PROMPTS]
            cells.append([arm, str(len(own)), *each, f"{np.mean([row['accuracy'] for row in own]):.1%}"])
            cells[-1].append(f"{np.mean([row['fit_cpu_s'] for row in own]):.0f}")
        lines.append(table(["option", "runs", *PROMPTS, "mean", "s"], cells))
    return "\n".join(lines)


def _mean(rows: list[dict[str, Any]], data: str) -> str:
    own = [row["accuracy"] for row in rows if row["data"] == data]
    return f"{np.mean(own):.1%}" if own else ""


def _summary(rows: list[dict[str, Any]]) -> list[str]:
    right = [100 * row["accuracy"] for row in rows]
    spread = f" ± {np.std(right, ddof=1):.1f}" if len(right) > 1 else ""
    speed = np.median([row["texts_per_s"] for row in rows])
    return [f"{np.mean(right):.1f}{spread}", f"{np.mean([row['fit_cpu_s'] for row in rows]):.0f}", f"{speed:,.0f}"]


if __name__ == "__main__":
    main()
