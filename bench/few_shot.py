"""Few labels: SetFit, frozen embeddings + regression, plain fine-tuning, ours, and ours with a pool.

    python bench/few_shot.py [--data ../shared/data] [--setfit PYTHON] [--systems ...] [--seeds 0 1 2] [--only hwu64]

All start from the weights `minilm` unless `mpnet` is in the name, with the same labels and test texts. `--setfit` is
the Python of a virtual environment with SetFit; without it its rows are left out. Every finished row is written at
once to bench/results/few_shot.json and not measured again; `--table` only rewrites the section of bench/RESULTS.md.
Seconds are those of training alone, with OMP_NUM_THREADS threads; the table shows processor seconds, which are
comparable on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from folds import SETTINGS, Fold, fold
from sections import commit, table, write_section

OUT = Path(__file__).parent / "results" / "few_shot.json"
WEIGHTS = "minilm"
# SetFit's default, every pair, is 36,575 steps on BANKING77 10/class. Its documentation's examples take
# num_iterations = 20; where that would be a quarter of an hour and more a fold on one core, it gets fewer.
ITERATIONS = {"ag_news 8/class": 20, "hwu64 5/class": 10, "banking77 5/class": 5, "banking77 10/class": 2}
ITERATIONS["sst2 16/class"] = 20
DOCUMENTED = 20
STEPS = 200
HEAD_OF_SECTION = """## Few labels

`python bench/few_shot.py --setfit PYTHON` on {commits}: the weights `minilm` unless said, the same labels and the
same test texts for all. Seed 0 is the published few-shot file (one fixed draw), the others draw as many a class from
train, 5 nested in 10; AG News and SST-2 have no such file. Tested on the whole test part, AG News on a fixed 2,000 of
it. Intervals are t-intervals over the seeds; of the difference, over the same folds. One processor core. What is not
in the table was not run; the command goes on with it.

- *setfit*: SetFit 1.2.0, one epoch, batches of 16 pairs, num_iterations 20 (AG News, SST-2), 10 (HWU64), 5 and 2
  (BANKING77 at 5 and 10 a class). *setfit, 20*: the 20 of its documentation, which is a quarter of an hour and more a
  fold here.
- *frozen*: logistic regression on frozen embeddings. *plain*: fine-tuning from a head of zeros, {steps} steps.
- *ours*: an encoder student with default options; *ours, frozen*: the same without fine-tuning.
- *ours, 3 runs*: the option `n_averaged = 3`, the mean of three fine-tunings.
- *ours + pool*: the procedure `selftrain` with 4,000 texts of the rest of train (AG News, SST-2: 2,000) as unlabelled
  texts; its seconds include the first student's. *ours + pool, mpnet*: with `--teacher trained:mpnet`; its seconds
  include mpnet's. *frozen*: mpnet is not fine-tuned. *static*: the student is
  `static:potion-8m`, with `--peer encoder:minilm`. In brackets the bundle that is served, in int8 where
  that passes.
- *mpnet*: as *ours*, with the 109 million parameters of `mpnet`; *setfit, mpnet* likewise.

"""
# Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Outcome:
    """(M,) predicted columns, seconds of training by the wall and by the processor, and facts worth keeping."""

    predicted: Any
    seconds: float
    cpu_seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--setfit", help="the python of a virtual environment with SetFit")
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", default="", help="only settings whose name contains this")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="measure nothing, rewrite the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {(row["setting"], row["seed"], row["system"]) for row in rows}
    for setting in () if options.table else SETTINGS:
        for seed in options.seeds:
            for system in options.systems:
                python = options.setfit if system.startswith("setfit") else "no other"
                if options.only in setting.name and python and (setting.name, seed, system) not in done:
                    row = measure(system, fold(options.data, setting, seed), python)
                    rows.append(row)
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    options.out.write_text(json.dumps({"format": 1, "rows": rows}, indent=1) + "\n")
                    print(f"{setting.name:20} seed {seed} {system:10} {row['accuracy']:6.2f} {row['seconds']:7.1f} s")
                    sys.stdout.flush()
    if options.out == OUT:
        write_section("few-shot", section(rows))
    print(section(rows))


def measure(system: str, given: Fold, python: str) -> dict[str, Any]:
    """One row of the results."""
    found = SYSTEMS[system](given, python)
    accuracy = 100 * float((np.asarray(found.predicted) == given.test_gold).mean())
    facts = {"n": len(given.texts), "tested": len(given.test_gold), "threads": threads(), **found.facts}
    row = {"setting": given.setting.name, "seed": given.seed, "system": system, "accuracy": round(accuracy, 3)}
    return {
        **row,
        "seconds": round(found.seconds, 1),
        "cpu_seconds": round(found.cpu_seconds, 1),
        "commit": commit(),
        **facts,
    }


def run_rival(given: Fold, python: str, script: str, iterations: int = 0, weights: str = WEIGHTS) -> Outcome:
    """SetFit in its own environment."""
    from potstill.models.weights import find_weights

    request = {
        "weights": str(find_weights(weights, kind="encoder").folder),
        "texts": given.texts,
        "labels": given.gold.tolist(),
        "test": given.test_texts,
        "iterations": iterations,
        "seed": given.seed,
        "threads": threads(),
    }
    path = Path(__file__).parent / "rivals" / f"{script}_fold.py"
    done = subprocess.run([python, str(path)], input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=True)
    reply = json.loads(done.stdout)
    facts = {"iterations": iterations, "steps": reply["steps"], "versions": reply["versions"]}
    return Outcome(reply["predictions"], reply["seconds"], reply["cpu_seconds"], facts)


def run_encoder(given: Fold, weights: str = WEIGHTS, **options: Any) -> Outcome:
    """An encoder student with these options."""
    from potstill.students.base import StudentConfig, TrainingData
    from potstill.students.encoder import EncoderStudent

    began, worked = time.perf_counter(), time.process_time()
    student = EncoderStudent(StudentConfig(given.labels, weights, options=options))
    student.fit(TrainingData(given.texts, given.targets, seed=given.seed))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    return Outcome(
        student.predict_logits(given.test_texts).argmax(1), seconds, cpu_seconds, {"learnt": student.fit_info.to_json()}
    )


def run_plain(given: Fold) -> Outcome:
    """As a training script does it: a head of zeros on the encoder, all weights, as many steps as ours."""
    from potstill.models.tokens.tokenizer import TextTokenizer
    from potstill.models.weights import find_weights
    from potstill.students.backbone import init_network, predict_batches
    from potstill.students.encoder_training import EncodedBatch, FineTuningConfig, fine_tune

    began, worked = time.perf_counter(), time.process_time()
    found = find_weights(WEIGHTS, kind="encoder")
    network = init_network(found.folder, len(given.labels), found.pooling)
    tokens = TextTokenizer(found.folder / "tokenizer.json", 256)
    n = len(given.texts)
    rows = EncodedBatch(tokens.encode(given.texts).ids, given.targets, np.ones(n, np.float32), np.zeros(n, np.bool_))
    done = fine_tune(network, rows, FineTuningConfig(epochs=STEPS * 32 / n), pad_id=tokens.pad_id, seed=given.seed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    logits = predict_batches(network, tokens.encode(given.test_texts).ids, tokens.pad_id)
    return Outcome(logits.argmax(1), seconds, cpu_seconds, {"steps": done.steps})


def run_pool(
    given: Fold, student_name: str = f"encoder:{WEIGHTS}", teacher: str | None = None, **options: Any
) -> Outcome:
    """The procedure `selftrain`: the rest of the train part is its pool, without labels."""
    from potstill.bundle.export.export import export
    from potstill.data.pool import Pool
    from potstill.data.task import Task
    from potstill.procedures.selftrain import selftrain
    from potstill.run.run import Run
    from potstill.run.spec import Spec

    n, m = len(given.texts), len(given.pool)
    pool = Pool(
        labels=given.labels,
        texts=(*given.texts, *given.pool),
        gold=np.concatenate([given.gold, np.full(m, -1)]),
        split=np.array(["train"] * n + ["pool"] * m),
        ids=tuple(str(row) for row in range(n + m)),
        hidden_labels=np.full(n + m, -1),
    )
    record = {"budget": 1, "seed": given.seed, "student": student_name, "procedure": {"name": "selftrain", **options}}
    kind, _, mode = (teacher or "").partition(", ")
    named = {"teacher": {"name": kind, **({"mode": mode} if mode else {})}} if kind else {}
    spec, task = Spec.from_dict({**record, **named}), Task(given.labels, name="few-shot")
    began, worked = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        with Run.open(Path(folder) / "run", spec, task, pool) as run:
            student = selftrain(run)
            usd = run.ledger.totals().charged / 1e6
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
        bundle = export(student, Path(folder) / "bundle", task=task, texts=given.pool[:1000])
        served = float((bundle.predict_logits(given.test_texts).argmax(1) == given.test_gold).mean())
        facts = {"pool": m, "usd": usd, "served": round(100 * served, 3), "graph": bundle.record.graph}
        return Outcome(student.predict_logits(given.test_texts).argmax(1), seconds, cpu_seconds, facts)


SYSTEMS: dict[str, Callable[[Fold, str], Outcome]] = {
    "setfit": lambda given, python: run_rival(given, python, "setfit", ITERATIONS[given.setting.name]),
    "setfit, 20": lambda given, python: run_rival(given, python, "setfit", DOCUMENTED),
    "setfit, mpnet": lambda given, python: run_rival(given, python, "setfit", ITERATIONS[given.setting.name], "mpnet"),
    "frozen": lambda given, _: run_encoder(given, mode="frozen", label_names=False),
    "plain": lambda given, _: run_plain(given),
    "ours, frozen": lambda given, _: run_encoder(given, mode="frozen"),
    "ours": lambda given, _: run_encoder(given),
    "ours, 3 runs": lambda given, _: run_encoder(given, n_averaged=3),
    "mpnet": lambda given, _: run_encoder(given, "mpnet"),
    "ours + pool": lambda given, _: run_pool(given),
    "ours + pool, mpnet": lambda given, _: run_pool(given, teacher="trained:mpnet"),
    "ours + pool, mpnet frozen": lambda given, _: run_pool(given, teacher="trained:mpnet, frozen"),
    "static + pool, mpnet": lambda given, _: run_pool(
        given, "static:potion-8m", "trained:mpnet", peer=f"encoder:{WEIGHTS}"
    ),
    "static + pool, mpnet frozen": lambda given, _: run_pool(
        given, "static:potion-8m", "trained:mpnet, frozen", peer=f"encoder:{WEIGHTS}"
    ),
}


def threads() -> int:
    """How many threads training may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def section(rows: list[dict[str, Any]]) -> str:
    """The Markdown section: a line for each setting and system, over the measured seeds."""
    lines = []
    for setting in SETTINGS:
        rival = {row["seed"]: row for row in rows if row["setting"] == setting.name and row["system"] == "setfit"}
        for system in SYSTEMS:
            own = [row for row in rows if row["setting"] == setting.name and row["system"] == system]
            if own:
                gaps = [row["accuracy"] - rival[row["seed"]]["accuracy"] for row in own if row["seed"] in rival]
                timed = [row["cpu_seconds"] for row in own if "cpu_seconds" in row]
                walls = f"{np.mean([row['seconds'] for row in own]):,.0f} (wall, busy core)"
                seeds = ", ".join(shown_accuracy(row) for row in sorted(own, key=lambda row: row["seed"]))
                against = interval(gaps) if system != "setfit" else ""
                lines.append([f"{setting.name}, {system}", interval([row["accuracy"] for row in own]), seeds, against])
                lines[-1].append(f"{np.mean(timed):,.0f}" if timed else walls)
    head = ["fold, system", "accuracy % (mean, 95 %)", "each seed", "less SetFit's", "training, processor s"]
    commits = ", ".join(sorted({row["commit"] for row in rows if row["commit"]}))
    return HEAD_OF_SECTION.format(commits=commits, steps=STEPS) + table(head, lines)


def shown_accuracy(row: dict[str, Any]) -> str:
    """The accuracy of a row, and that of its bundle if one was measured."""
    return f"{row['accuracy']:.1f}" + (f" ({row['served']:.1f})" if "served" in row else "")


def interval(values: list[float]) -> str:
    """The mean, and how far a 95 % t-interval over the seeds reaches to either side of it."""
    if not values:
        return ""
    mean = float(np.mean(values))
    if len(values) == 1:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {T95[len(values) - 2] * float(np.std(values, ddof=1)) / len(values) ** 0.5:.1f}"


if __name__ == "__main__":
    main()
