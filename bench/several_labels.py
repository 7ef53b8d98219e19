"""A language model on this machine and several labels a text: how right its yes and no about each label are.

    nice python bench/several_labels.py [--data ../shared/data] [--model qwen-1.5b] [--texts 150] [--threads 1]

The texts are one to three GoEmotions comments joined, with the labels of all (synthetic: `tasks_data.threads`). The
teacher is asked without an example. Thresholds and scaling are chosen on 64 labelled texts, as the report's are. Beside
it, with the same 64 texts: each label's frequency alone, and a regression on frozen MiniLM vectors that learnt them,
whose thresholds are chosen on its out-of-fold scores. Scores are stored, so a second call measures nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sections import commit, table, write_section
from tasks_data import Data, Rows, threads

from potstill.data.task import Task
from potstill.evaluation.fit_thresholds import select_thresholds
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.multilabel_evaluation import compute_multilabel_metrics
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher

RESULTS = Path(__file__).parent / "results" / "several_labels.json"
N_GOLD, FOLDS = 64, 4
Array = NDArray[np.float64]


def ask(teacher: LocalTeacher, texts: list[str]) -> Array:
    """(N, K) probabilities of yes."""
    teacher.max_usage(texts[:1])
    size, rows = teacher.batch_size, []
    for at in range(0, len(texts), size):
        rows += [answer.scores for answer in teacher.answer(texts[at : at + size]).answers]
        print(f"{len(rows)}/{len(texts)}", flush=True)
    return np.asarray(np.exp(np.array(rows)))


def folds_of(n: int) -> NDArray[np.int64]:
    """(n,) the fold of each row."""
    return np.random.default_rng(0).permutation(n) % FOLDS


def judged(data: Data, gold: Rows, gold_probs: Array, test: Rows, probs: Array) -> EvaluationResult:
    """The scores on the test texts, with the thresholds that fit the gold texts."""
    known = gold.gold.astype(bool)
    thresholds, _ = select_thresholds(gold_probs, known, folds_of(len(known)), never_empty=bool(known.any(1).all()))
    return compute_multilabel_metrics(test.gold.astype(bool), probs, thresholds.apply(probs), data.labels)


def regression(data: Data, gold: Rows, texts: list[str]) -> tuple[Array, Array]:
    """(64, K) out-of-fold and (N, K) probabilities of a regression on frozen vectors."""

    def fitted(rows: Rows, asked: list[str]) -> Array:
        config = StudentConfig(data.labels, weights="minilm", kind="multi", options={"mode": "frozen"})
        student = EncoderStudent(config).fit(TrainingData(rows.texts, rows.targets(len(data.labels))))
        return np.asarray(student.predict_proba(asked), dtype=np.float64)

    fold, inner = folds_of(len(gold.texts)), np.zeros((len(gold.texts), len(data.labels)))
    for each in range(FOLDS):
        out = np.flatnonzero(fold == each)
        inner[out] = fitted(gold.take(np.flatnonzero(fold != each)), [gold.texts[row] for row in out])
    return inner, fitted(gold, texts)


def line(name: str, found: EvaluationResult, seconds: float | None) -> list[str]:
    """A row of the table."""
    assert found.micro_f1 is not None
    assert found.lrap is not None

    def cell(score: Any) -> str:
        return f"{100 * score.value:.1f} ({100 * score.low:.1f}-{100 * score.high:.1f})"

    speed = "" if seconds is None else f"{found.n / seconds:.2f}"
    return [name, cell(found.micro_f1), cell(found.macro_f1), cell(found.lrap), cell(found.accuracy), speed]


def main() -> None:
    ask_for = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask_for.add_argument("--model", default="qwen-1.5b")
    ask_for.add_argument("--texts", type=int, default=150)
    ask_for.add_argument("--threads", type=int, default=0, help="0: as many as are idle")
    given = ask_for.parse_args()
    data = threads(given.data)
    gold, test = data.train.sample(N_GOLD), data.test.sample(given.texts)
    stored: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if (stored.get("model"), stored.get("texts")) != (given.model, given.texts):
        options = {"threads": given.threads, "prompt_format": "chat"}
        teacher = open_teacher(TeacherSetup(Task(data.labels, kind="multi"), given.model, (), options))
        gold_probs = ask(teacher, gold.texts)
        started = time.perf_counter()
        probs = ask(teacher, test.texts)
        stored = {"model": given.model, "texts": given.texts, "seconds": round(time.perf_counter() - started, 1)}
        stored |= {"commit": commit(), "gold": gold_probs.round(4).tolist(), "test": probs.round(4).tolist()}
        RESULTS.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    frequency = gold.gold.mean(0, keepdims=True)
    constant = [np.repeat(frequency, len(rows.texts), 0) for rows in (gold, test)]
    asked = np.array(stored["gold"]), np.array(stored["test"])
    rows = [
        line("each label's frequency", judged(data, gold, constant[0], test, constant[1]), None),
        line("regression on frozen MiniLM", judged(data, gold, *split(regression(data, gold, test.texts), test)), None),
        line(
            f"`local:{given.model}`, raw probabilities", judged(data, gold, asked[0], test, asked[1]), stored["seconds"]
        ),
    ]
    head = ["scores", "micro F1 (95 %)", "macro F1", "ranking precision", "sets exactly right", "texts/s"]
    lines = [
        "## Several labels and a language model on this machine",
        "",
        f"`python bench/several_labels.py`, commit {stored['commit']}; {len(data.labels)} labels, {given.texts} test",
        "texts of `goemotions` threads (synthetic: comments joined),",
        f"{N_GOLD} gold texts for thresholds; no example is shown.",
        "Intervals are over texts; one thread of a machine that did other work.",
        "",
        table(head, rows),
    ]
    write_section("several-labels", "\n".join(lines))


def split(found: tuple[Array, Array], test: Rows) -> tuple[Array, Rows, Array]:
    """In the order of `judged`."""
    return found[0], test, found[1]


if __name__ == "__main__":
    main()
