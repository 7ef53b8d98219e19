"""Few labels, none set aside: what out-of-fold scores promise, and what then holds on the test texts.

    python bench/out_of_fold.py [--students linear encoder:minilm] [--mode frozen] [--seeds 0 1 2]

`finetune` learns all labels and is calibrated on the scores of five students that did not learn the text. Shown beside
the promise: coverage and size of the label sets, precision above the threshold, calibration error before and after, and
how many test texts look out of scope. Writes a section of bench/RESULTS.md; finished rows are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from folds import SETTINGS, Fold, fold
from sections import commit, table, write_section

from potstill.data.pool import Pool
from potstill.data.task import Task
from potstill.evaluation import metrics
from potstill.evaluation.fit_guarantees import fit_guarantees
from potstill.evaluation.reliability import measure_reliability
from potstill.procedures.finetune import RECIPE
from potstill.procedures.out_of_fold import out_of_fold_scores
from potstill.run.run import Run
from potstill.run.spec import Spec

OUT = Path(__file__).parent / "results" / "out_of_fold.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--students", nargs="*", default=["linear", "encoder:minilm"])
    parser.add_argument("--mode", default="frozen", help="of an encoder: frozen, or auto for fine-tuning")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", default="", help="only settings whose name contains this")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    done = {(row["setting"], row["seed"], row["student"]) for row in rows}
    # Below 50 labels nothing is calibrated.
    for setting in (each for each in SETTINGS if each.data in ("banking77", "hwu64")):
        for seed in options.seeds if options.only in setting.name else ():
            for name in options.students:
                student = {"name": name, **({"mode": options.mode} if name.startswith("encoder") else {})}
                shown = ", ".join(student.values())
                if (setting.name, seed, shown) not in done:
                    row = measure(fold(options.data, setting, seed), student)
                    rows.append({"setting": setting.name, "seed": seed, "student": shown, "commit": commit(), **row})
                    OUT.write_text(json.dumps({"format": 1, "rows": rows}, indent=1) + "\n")
                    print(rows[-1], flush=True)
    write_section("out-of-fold", section(rows))


def measure(given: Fold, student: dict[str, str]) -> dict[str, Any]:
    """The promise of the out-of-fold scores of one fold, and what holds on its test texts."""
    n = len(given.texts)
    pool = Pool(
        labels=given.labels,
        texts=tuple(given.texts),
        gold=given.gold,
        split=np.array(["train"] * n),
        ids=tuple(map(str, range(n))),
        hidden_labels=np.full(n, -1),
    )
    spec = Spec.from_dict({"budget": 1, "seed": given.seed, "student": student, "procedure": "finetune"})
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.open(Path(folder) / "run", spec, Task(given.labels, name="few"), pool) as run,
    ):
        trained, scores = RECIPE(run), out_of_fold_scores(run, RECIPE)
    assert scores is not None
    guarantees, logits = fit_guarantees(scores.logits, scores.gold), trained.predict_logits(given.test_texts)
    probs = guarantees.scaling.apply(logits).astype(np.float32)
    found = measure_reliability(given.test_gold, logits, probs, guarantees)
    plain = trained.predict_proba(given.test_texts)
    sets = {level: guarantees.prediction_sets(logits, level) for level in (0.8, 0.9, 0.95)}
    rows = np.arange(len(given.test_gold))
    return {
        "labels": n,
        "accuracy": float((probs.argmax(1) == given.test_gold).mean()),
        "out_of_fold_accuracy": float((scores.logits.argmax(1) == scores.gold).mean()),
        "coverage": {level: float(given_set[rows, given.test_gold].mean()) for level, given_set in sets.items()},
        "set_size": float(sets[0.9].sum(1).mean()),
        "ece_before": metrics.ece(given.test_gold, plain),
        "ece_after": found.ece.value,
        "method": found.method,
        "threshold": found.threshold,
        "confident_share": found.confident_share,
        "precision": found.confident_accuracy and found.confident_accuracy.value,
        "out_of_scope": found.out_of_scope,
    }


def section(rows: list[dict[str, Any]]) -> str:
    """The Markdown section: means over the seeds, in percent."""
    lines = []
    for key in dict.fromkeys((row["setting"], row["student"]) for row in rows):
        own = [row for row in rows if (row["setting"], row["student"]) == key]

        def mean(pick: Any, own: list[dict[str, Any]] = own) -> str:
            values = [pick(row) for row in own if pick(row) is not None]
            return f"{100 * np.mean(values):.1f}" if values else "-"

        covered = " / ".join(mean(lambda row, i=i: list(row["coverage"].values())[i]) for i in range(3))
        sizes = f"{np.mean([row['set_size'] for row in own]):.2f}"
        errors = f"{mean(lambda row: row['ece_before'])} → {mean(lambda row: row['ece_after'])}"
        sure = f"{mean(lambda row: row['precision'])} of {mean(lambda row: row['confident_share'])}"
        shares = f"{mean(lambda row: row['accuracy'])} ({mean(lambda row: row['out_of_fold_accuracy'])})"
        lines.append([", ".join(key), shares, covered, sizes, errors, sure, mean(lambda row: row["out_of_scope"])])
    head = ["fold, student", "accuracy % (out of fold)", "coverage % of 80 / 90 / 95", "labels in a set of 90 %"]
    head += ["ECE %, before → after", "right % of confident %, promised 95", "out of scope %, expected 5"]
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    words = (
        f"## Out-of-fold calibration\n\n`python bench/out_of_fold.py` on {commits}: "
        "`finetune` on all labels, calibrated on five folds of them, measured on the test texts. Means over the seeds "
        f"({', '.join(map(str, sorted({row['seed'] for row in rows})))}).\n\n"
    )
    return words + table(head, lines)


if __name__ == "__main__":
    main()
