"""No label at all: label names, descriptions, and unlabelled texts, read by one and by several encoders.

    python bench/zero_label.py [--data ../shared/data] [--cache FOLDER] [--sets banking77 ...] [--seeds 0 1 2] [--table]

Encoders are frozen and their embeddings are cached (`zero_label_data.py`); the student is a regression on MiniLM's. A
cell is a set, a draw of the pool and an arm; finished cells are written at once and not measured again. The arms'
settings were chosen on BANKING77's pool and validation labels (`--judged-on validation` prints those and writes
nothing); test labels are looked at once. No language model is asked here.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from few_shot import interval
from sections import commit, table, write_section
from zero_label_data import DESCRIPTIONS, SETS, STUDENT, DataSet, Embedder, draw, load

from potstill.evaluation.calibration import log_softmax
from potstill.evaluation.label_free_accuracy import accuracy_from_agreement
from potstill.procedures.name_opinions import refine_names, standardize
from potstill.procedures.opinions import Opinion, combine_opinions, refit_heads
from potstill.students.label_head import ZERO_SHOT_SCALE, label_weights
from potstill.students.logistic_regression import SolverOptions, fit_regression

OUT = Path(__file__).parent / "results" / "zero_label.json"
NEIGHBORS, STUDENT_C, CONFIDENT_SHARE = 10, 3.0, 0.5
HEAD_OF_SECTION = """## No label

`python bench/zero_label.py` on {commits}. What a user has: the names of the labels (and a description of each, where
the arm says so, written once in `bench/zero_label_data.py`) and unlabelled texts: 80 % of 2,500 (BANKING77), 2,000
(HWU64) or 1,000 texts of train, three overlapping draws, so that intervals are too narrow. *pool*: share of the pool's
labels that are right. *student*: a regression on frozen MiniLM embeddings that learnt them, on 1,000 test texts
(TREC-6: 500). Settings were chosen on BANKING77 alone (labels of the first draw and of validation texts). Encoders are
frozen, no language model was asked, and `mpnet` was not run. What is not in the table was not run.

- *names*: the nearest label name; *described*: the mean of name and description. *both*: MiniLM and bge-small, their
  scores averaged. *balanced*: each label's scores moved half way to equal frequency.
- *before*: label propagation over ten neighbours, as `selftrain` did it. *spread*: balanced before that.
- *refined*: one centre a label, fitted by EM beside the names ({rounds} rounds), then spread.
- *heads*: spread, then a regression on each encoder's vectors, fitted on the result, and spread again (`head_rounds`).
- *confident*: refined, and the student learns the surer half of each label's texts alone.

"""


@dataclass(frozen=True)
class Pool:
    """A draw: the opinions of each encoder by (weights, described), the gold, and the texts that are tested on."""

    opinions: dict[tuple[str, bool], Opinion]
    gold: Any
    judged: Any
    judged_gold: Any


@dataclass(frozen=True)
class Found:
    """(N, K) probabilities of the pool's texts, and the (N,) rows the student learns."""

    probs: Any
    rows: Any


@dataclass(frozen=True)
class Arm:
    """Which encoders read the labels, and what is done with their scores."""

    encoders: tuple[str, ...]
    method: str
    described: bool = False
    rounds: int = 0
    spread: bool = False
    head_rounds: int = 0
    confident: bool = False

    @property
    def name(self) -> str:
        """As in the table."""
        read = "described" if self.described else "names"
        return f"{read}, {'both' if len(self.encoders) > 1 else self.encoders[0]}, {self.method}"


ROUNDS = 3
BOTH = (STUDENT, "bge-small")
PLAIN = tuple(
    Arm(encoders, "nearest", described=described)
    for described in (False, True)
    for encoders in ((STUDENT,), ("bge-small",), BOTH)
)
BEFORE = Arm((STUDENT,), "before", spread=True)
METHODS = (
    Arm(BOTH, "balanced"),
    Arm(BOTH, "spread", spread=True),
    Arm(BOTH, "refined", rounds=ROUNDS, spread=True),
    Arm(BOTH, "heads", spread=True, head_rounds=1),
    Arm(BOTH, "confident", rounds=ROUNDS, spread=True, confident=True),
)
ARMS = (
    *PLAIN,
    *(replace(BEFORE, described=described) for described in (False, True)),
    *(replace(arm, described=described) for described in (False, True) for arm in METHODS),
    *(replace(arm, encoders=(STUDENT,), described=described) for described in (False, True) for arm in METHODS[1:3]),
)


def find_labels(arm: Arm, pool: Pool) -> Found:
    """What an arm makes of the pool; reads no gold."""
    opinions = [pool.opinions[encoder, arm.described] for encoder in arm.encoders]
    weights = [1 / len(opinions)] * len(opinions)
    none = np.zeros((0, opinions[0].scores.shape[1]), dtype=np.float32)
    if arm.method == "before":
        return Found(combine_opinions(opinions, weights, none, 0.5, NEIGHBORS), np.arange(len(opinions[0].scores)))
    if arm.method == "nearest":
        scores = [log_softmax(standardize(opinion.scores)) for opinion in opinions]
    else:
        scores = refine_names(
            [each.scores for each in opinions], [each.vectors for each in opinions], weights, arm.rounds
        )
    opinions = [Opinion(np.float32(each), opinion.vectors) for each, opinion in zip(scores, opinions, strict=True)]
    probs = combine_opinions(opinions, weights, none, 1.0, NEIGHBORS if arm.spread else 0)
    for _ in range(arm.head_rounds):
        opinions = refit_heads(opinions, probs, none)
        probs = combine_opinions(opinions, weights, none, 1.0, NEIGHBORS)
    return Found(probs, surest(probs) if arm.confident else np.arange(len(probs)))


def surest(probs: Any) -> Any:
    """(M,) the surer share of the texts of each label."""
    labels, rows = probs.argmax(axis=1), []
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        rows.append(of_label[np.argsort(-probs[of_label, label])[: max(1, round(CONFIDENT_SHARE * len(of_label)))]])
    return np.sort(np.concatenate(rows))


def measure(arm: Arm, pool: Pool) -> dict[str, Any]:
    """Accuracy in the pool and of the student in %, and what is known of it without gold."""
    began = time.process_time()
    found = find_labels(arm, pool)
    vectors = pool.opinions[STUDENT, False].vectors
    solver = SolverOptions(c=STUDENT_C, tolerance=1e-4)
    ones = np.ones(len(found.rows), dtype=np.float32)
    head = fit_regression(vectors[found.rows], found.probs[found.rows], ones, solver)
    predicted = (pool.judged @ head.weights + head.bias).argmax(axis=1)
    labels = found.probs.argmax(axis=1)
    return {
        "pool_accuracy": percent(labels == pool.gold),
        "accuracy": percent(predicted == pool.judged_gold),
        "cpu_seconds": round(time.process_time() - began, 2),
        **criteria(found, pool, arm),
    }


def criteria(found: Found, pool: Pool, arm: Arm) -> dict[str, float]:
    """What a user could choose an arm by, in %.

    `estimate`: the accuracy by the agreement of both encoders, each with the arm's method on its own. `names_agree`: of
    the arm's labels with the names as both encoders read them. `confidence`: its mean. `fit`: how often the nearest
    class mean of bge-small's vectors, of half of the texts, gives the label of the other half.
    """
    alone = [find_labels(replace(arm, encoders=(encoder,)), pool).probs.argmax(axis=1) for encoder in BOTH]
    labels = found.probs.argmax(axis=1)
    names = [pool.opinions[encoder, arm.described].scores for encoder in BOTH]
    nearest = sum(standardize(scores) for scores in names)
    return {
        "estimate": round(100 * accuracy_from_agreement(*alone, found.probs.shape[1]), 2),
        "agreement": percent(alone[0] == alone[1]),
        "names_agree": percent(labels == np.asarray(nearest).argmax(axis=1)),
        "confidence": round(100 * float(found.probs.max(axis=1).mean()), 2),
        "fit": held_out_fit(found.probs, pool.opinions["bge-small", False].vectors),
    }


def held_out_fit(probs: Any, vectors: Any) -> float:
    """How often nearest class means of one half of the texts give the label of the other half, in %."""
    labels, half = probs.argmax(axis=1), np.arange(len(probs)) % 2 == 0
    right = []
    for fitted in (half, ~half):
        centres = np.eye(probs.shape[1], dtype=np.float32)[labels[fitted]].T @ vectors[fitted]
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
        right.append((vectors[~fitted] @ centres.T).argmax(axis=1) == labels[~fitted])
    return percent(np.concatenate(right))


def percent(right: Any) -> float:
    """The share of true entries, in %."""
    return round(100 * float(np.mean(right)), 3)


def draw_pool(data: DataSet, embedders: Sequence[Embedder], seed: int, judged_on: str) -> Pool:
    """Draw a pool and score its texts by the label names, and by names and descriptions."""
    rows, opinions = draw(seed, len(data.pool.texts)), {}
    for described in (False, True) if data.name in DESCRIPTIONS else (False,):
        texts, columns = data.label_texts(described)
        targets = np.eye(len(data.labels), dtype=np.float32)[columns]
        for embedder in embedders:
            vectors = embedder.embed(f"{data.name}-pool", data.pool.texts)[rows]
            names = embedder.embed(f"{data.name}-{'described' if described else 'names'}", texts)
            scores = vectors @ label_weights(names, targets, ZERO_SHOT_SCALE)
            opinions[embedder.weights, described] = Opinion(scores, vectors)
    part = getattr(data, judged_on)
    student = next(each for each in embedders if each.weights == STUDENT)
    return Pool(opinions, data.pool.gold[rows], student.embed(f"{data.name}-{judged_on}", part.texts), part.gold)


def main() -> None:
    """Measure what is not measured yet, and write the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path(".zero-label"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--judged-on", choices=["test", "validation"], default="test")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="measure nothing, rewrite the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    kept = options.judged_on == "test"
    done = {(row["set"], row["seed"], row["arm"]) for row in rows} if kept else set()
    embedders = [Embedder(weights, options.cache) for weights in BOTH]
    for name in () if options.table else options.sets:
        data = load(options.data, name)
        for seed in options.seeds:
            wanted = [arm for arm in ARMS if name in DESCRIPTIONS or not arm.described]
            wanted = [arm for arm in wanted if (name, seed, arm.name) not in done]
            pool = draw_pool(data, embedders, seed, options.judged_on) if wanted else None
            for arm in wanted:
                assert pool is not None
                row = {"set": name, "seed": seed, "arm": arm.name, **measure(arm, pool), "commit": commit()}
                rows.append(row)
                print({key: row[key] for key in ("set", "seed", "arm", "pool_accuracy", "accuracy", "estimate")})
                if kept:
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    options.out.write_text(json.dumps({"format": 1, "rows": rows}, indent=1) + "\n")
    if kept and options.out == OUT:
        write_section("zero-label", section(rows))
    print(section(rows))


def section(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown section: a table of the arms, and one of what can be known without gold."""
    lines = []
    for name in SETS:
        for arm in ARMS:
            own = [row for row in rows if row["set"] == name and row["arm"] == arm.name]
            if own:
                columns = ("pool_accuracy", "accuracy", "agreement", "estimate")
                lines.append([f"{name}, {arm.name}", *(interval([row[column] for row in own]) for column in columns)])
    head = ["set, arm", "pool %", "student, test %", "encoders agree %", "accuracy by agreement %"]
    commits = ", ".join(sorted({row["commit"] for row in rows if row["commit"]}))
    parts = [HEAD_OF_SECTION.format(commits=commits, rounds=ROUNDS) + table(head, lines), criteria_text(rows)]
    return "\n\n".join(part for part in parts if part)


def criteria_text(rows: Sequence[dict[str, Any]]) -> str:
    """How well each criterion chooses an arm, and by how much the accuracy by agreement is wrong."""
    chosen: dict[str, Callable[[dict[str, Any]], float]] = {
        "accuracy by agreement": lambda row: float(row["estimate"]),
        "agreement with the names": lambda row: float(row["names_agree"]),
        "mean confidence": lambda row: float(row["confidence"]),
        "held-out fit": lambda row: float(row["fit"]),
    }
    lines, measured = [], [name for name in SETS if any(row["set"] == name for row in rows)]
    for title, criterion in chosen.items():
        line = [title]
        for name in measured:
            own = [row for row in rows if row["set"] == name]
            gaps = []
            for seed in sorted({row["seed"] for row in own}):
                cells = [row for row in own if row["seed"] == seed]
                best = max(row["accuracy"] for row in cells)
                gaps.append(best - max(cells, key=criterion)["accuracy"])
            line.append(f"{np.mean(gaps):.1f}")
        lines.append(line)
    text = (
        "The arm chosen by each criterion, without gold: how many points its student is behind the best arm's\n"
        "(mean over the draws). *Accuracy by agreement*: of MiniLM and bge-small, each with the arm's method\n"
        "alone, if they erred independently. *Held-out fit*: how often the nearest class mean of half of the\n"
        "texts gives the label of the other half, in bge-small's space.\n\n" + table(["criterion", *measured], lines)
    )
    return text if rows else ""


if __name__ == "__main__":
    main()
