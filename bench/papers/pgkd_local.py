"""PGKD with a real, very small teacher: SmolLM2-135M writes AG News texts for a student that few labels began.

    python bench/papers/pgkd_local.py [--data ../shared/data] [--gold 40] [--rounds 4] [--seeds 2] [--out FILE]

No simulation: every text is generated here. Base, the loop, and the loop with what the teacher itself would label
otherwise left out, beside the teacher's own accuracy as a classifier, with samples. The texts that neither learn nor
measure are the pool of the arm in which the teacher also labels. Not covered: what a large model would write.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frozen
import numpy as np
from pgkd import Row, labelled, pool_of, table, write_part

from potstill.data.pool import Pool
from potstill.data.task import Task
from potstill.evaluation.calibration import Calibration, match_prior
from potstill.evaluation.metrics import compute_metrics
from potstill.procedures.kinds import recipe_kind
from potstill.run.notes import RoundSamples, RoundsFinished
from potstill.run.run import Run
from potstill.run.spec import Spec

ARMS: dict[str, dict[str, Any]] = {
    "base": {"name": "finetune"},
    "pgkd": {"name": "pgkd"},
    "agree teacher": {"name": "pgkd", "agree": "teacher"},
    "vary style": {"name": "pgkd", "agree": "teacher", "vary_style": True},
    "soft labels": {"name": "pgkd", "soft_labels": True},
    "pool margin": {"name": "pgkd", "query_strategy": "margin"},
}
NAME = "ag_news"
VALIDATION, POOL = 100, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--teacher", default="local:smollm2")
    parser.add_argument("--gold", type=int, default=40)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--asked", type=int, default=300, help="test texts the teacher itself is asked about")
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    vectors = frozen.use("minilm", options.vectors / f"{NAME}.npz" if options.vectors else None)
    rows: list[Row] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.seeds):
            pool = pool_for(options, seed)
            for arm in options.arms:
                row = run_arm(arm, seed, options, pool, Path(scratch) / f"{seed}" / arm, samples)
                rows.append(row)
                print(f"seed {seed} {arm:<14} {row.accuracy:.3f} {row.seconds:.0f} s", row.rejected, flush=True)
                if options.out:
                    write_part(options.out, options, rows, simulation=False, samples=samples)
            rows += asked_itself(options, pool, seed, Path(scratch) / f"{seed}" / "itself")
            vectors.save()
    if options.out:
        write_part(options.out, options, rows, simulation=False, samples=samples)
    print("\n".join([*table(rows, simulation=False), *(f"{arm}: {each}" for arm, each in samples.items())]))


def pool_for(options: argparse.Namespace, seed: int) -> Pool:
    """Few labelled texts, as many of each label, validation, test and unlabelled texts."""
    draw = np.random.default_rng(seed)
    train, test = (labelled(options.data / NAME / f"{split}.parquet") for split in ("train", "test"))
    order = [train[i] for i in draw.permutation(len(train))]
    labels = sorted({label for _, label in train})
    chosen = [row for label in labels for row in [each for each in order if each[1] == label][: options.gold // 4]]
    rest = [row for row in order if row not in set(chosen)]
    measured = [test[i] for i in draw.permutation(len(test))[: options.test]]
    parts = {"train": chosen, "validation": rest[:VALIDATION], "pool": rest[VALIDATION:][:POOL], "test": measured}
    return pool_of([(text, label, split) for split, rows in parts.items() for text, label in rows])


def spec_of(arm: str, seed: int, options: argparse.Namespace) -> Spec:
    procedure = dict(ARMS.get(arm, ARMS["base"]))
    if procedure["name"] == "pgkd":
        procedure |= {"rounds": options.rounds, "texts_per_round": options.texts}
    record = {"budget": 5, "seed": seed, "student": "frozen", "teacher": options.teacher, "procedure": procedure}
    return Spec.from_dict({**record, "cache": False})


def run_arm(arm: str, seed: int, options: argparse.Namespace, pool: Pool, folder: Path, samples: dict[str, Any]) -> Row:
    spec = spec_of(arm, seed, options)
    began = time.perf_counter()
    with Run.open(folder, spec, Task(pool.labels, name=NAME), pool) as run:
        student = recipe_kind(spec.procedure.kind)(run)
        evaluation = run.evaluate(student, pool.subset("test"), "test")
        notes = [note.record for note in run.notes()]
        usd = run.ledger.totals().by_purpose.get("teach", 0) / 1e6
    end = next((note for note in notes if isinstance(note, RoundsFinished)), None)
    if seed == 0 and end:
        shown = [note for note in notes if isinstance(note, RoundSamples)]
        samples[arm] = {
            "accepted": [f"{one.label}: {one.text}" for each in shown for one in each.accepted[:2]],
            "rejected": [f"{one.reason}: {one.text}" for each in shown for one in each.rejected[:2]],
        }
    return Row(
        data=NAME,
        arm=arm,
        seed=seed,
        accuracy=evaluation.accuracy.value,
        macro_f1=evaluation.macro_f1.value,
        llm_usd=usd,
        seconds=time.perf_counter() - began,
        best_round=end.best_round if end else None,
        accepted=end.n_accepted if end else None,
        rejected=dict(end.rejected_by_reason) if end else None,
    )


def asked_itself(options: argparse.Namespace, pool: Pool, seed: int, folder: Path) -> Iterator[Row]:
    """The teacher as a classifier, with one example of each label, its label bias taken out."""
    if not options.asked:
        return
    spec = spec_of("base", seed, options)
    test, began = pool.subset("test"), time.perf_counter()
    with Run.open(folder, spec, Task(pool.labels, name=NAME), pool) as run:
        from potstill.run.few_shot import select_examples

        teacher = run.teacher(select_examples(pool.subset("train"), spec, run.task))
        answers = run.ask(teacher, test.texts[: options.asked])
        k = len(pool.labels)
        reading = Calibration(tuple(match_prior(answers.scores, np.full(k, 1 / k)).tolist()), 1.0)
        evaluation = compute_metrics(test.gold[: options.asked], reading.apply(answers.scores), pool.labels)
        usd = run.ledger.totals().by_purpose.get("teach", 0) / 1e6
    yield Row(
        NAME,
        "teacher itself",
        seed,
        evaluation.accuracy.value,
        evaluation.macro_f1.value,
        usd,
        time.perf_counter() - began,
    )


if __name__ == "__main__":
    main()
