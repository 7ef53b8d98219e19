"""PGKD with a real writer and a fine-tuned student: the loop, its ablations, and the same effort spent otherwise.

    python bench/papers/pgkd_real.py --sets banking77 [--arms ...] [--seeds 0 1 2] [--out FOLDER] [--max-hours H]

No simulation: a language model on this machine writes every text, or labels real ones. 1,000 gold texts, 800 to learn
and 200 to validate, as in the paper; errors are those of cross-validation students, since a fine-tuned student hardly
errs on what it learnt; with `--quick-folds` they learn a head on frozen weights, in seconds. An arbiter trained on all
labels of the data set says how often the written labels are right. Every cell (set, arm, seed) is a run of its own and
is stored when it ends: the same command goes on where it stopped, inside a cell too. A cell that fails is stored with
its reason and run again next time. Does not cover other teachers than local ones: their time would not be comparable.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from pgkd import labelled, pool_of
from pgkd_cells import DOCS, RESULTS, CellRow, LabelAccuracy, page, read_rows, store, summary, verdicts
from sections import commit, write_section

from potstill.data.pool import Pool
from potstill.data.task import GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadData, PotstillError
from potstill.evaluation.calibration import one_hot, softmax
from potstill.evaluation.metrics import EvaluationResult
from potstill.procedures.kinds import recipe_kind
from potstill.run.notes import RoundFacts, RoundsFinished
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.base import RowTrust, Student
from potstill.teachers.base import Teacher

SETS = ("banking77", "huffpost41")
GOLD, VALIDATION, POOL = 1000, 200, 2000
SPARSE_SHARE = 1 / 3  # of the labels that have no gold in the sparse arms
CHUNK = 16  # texts labelled between two looks at the clock
BLIND = {"validation_report": False, "hard_negatives": False, "predictions": False}
ARMS: dict[str, dict[str, Any]] = {
    "base": {"name": "finetune"},
    "pgkd": {"name": "pgkd"},
    "more gold": {"name": "finetune"},
    "labelling": {"name": "labelling"},
    "blind": {"name": "pgkd", **BLIND},
    "no report": {"name": "pgkd", "validation_report": False},
    "no hard negatives": {"name": "pgkd", "hard_negatives": False},
    "like EvoKD": {"name": "pgkd", "validation_report": False, "hard_negatives": False},
    "top up": {"name": "pgkd", "top_up": 2},
    "agree teacher": {"name": "pgkd", "agree": "teacher"},
    "noisy labels": {"name": "pgkd", "noisy_labels": True},
    "soft labels": {"name": "pgkd", "soft_labels": True},
    "error-reduction allocation": {"name": "pgkd", "label_allocation": "error_reduction"},
    "sparse base": {"name": "finetune"},
    "sparse pgkd": {"name": "pgkd"},
}


class WatchedRun(Run):
    """A run that keeps what the teacher wrote, and the texts of the last training."""

    @classmethod
    def start(cls, folder: Path, spec: Spec, task: Task, pool: Pool) -> Self:
        """Open it with nothing written yet."""
        run = cls.open(folder, spec, task, pool)
        run.written: list[LabelledText] = []  # type: ignore[misc]
        run.learnt: list[LabelledText] = []  # type: ignore[misc]
        return run

    def generate(self, teacher: Teacher, request: GenerationRequest) -> tuple[LabelledText, ...]:
        """See `Run.generate`."""
        texts = super().generate(teacher, request)
        self.written += texts
        return texts

    def learn(self, texts: Sequence[str], targets: Any, **options: Any) -> Student:
        """See `Run.learn`."""
        labels = [self.task.labels[k] for k in np.asarray(targets).argmax(axis=1)]
        if len(texts) >= len(self.learnt):  # students of the folds learn fewer texts than the others
            self.learnt = [LabelledText(text, label) for text, label in zip(texts, labels, strict=True)]
        return super().learn(texts, targets, **options)


@dataclass(frozen=True)
class SeedData:
    """The texts of one set and seed: (text, label) gold to learn, to validate, to measure, and the rest."""

    labels: tuple[str, ...]
    train: tuple[tuple[str, str], ...]
    validation: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    rest: tuple[tuple[str, str], ...]

    @classmethod
    def draw(cls, folder: Path, seed: int, n_test: int) -> Self:
        """One gold text of each label for certain, the others at random."""
        draw = np.random.default_rng(seed)
        train, test = (labelled(folder / f"{split}.parquet") for split in ("train", "test"))
        held_out = {text for text, _ in test}
        order = [train[i] for i in draw.permutation(len(train)) if train[i][0] not in held_out]
        firsts = list({label: (text, label) for text, label in reversed(order)}.values())
        others = [row for row in order if row not in set(firsts)]
        gold, rest = (firsts + others)[:GOLD], others[GOLD - len(firsts) :]
        measured = [test[i] for i in draw.permutation(len(test))[:n_test]]
        n = GOLD - VALIDATION
        labels = tuple(sorted({label for _, label in train}))
        return cls(labels, tuple(gold[:n]), tuple(gold[n:]), tuple(measured), tuple(rest))

    def sparse(self, seed: int) -> SeedData:
        """Without the gold of a third of the labels."""
        n = round(SPARSE_SHARE * len(self.labels))
        without = set(np.random.default_rng(seed).permutation(list(self.labels))[:n].tolist())
        kept = [tuple(row for row in part if row[1] not in without) for part in (self.train, self.validation)]
        return replace(self, train=kept[0], validation=kept[1])

    def pool(self, n_more: int = 0, n_unlabelled: int = 0) -> Pool:
        """The gold with so many more texts of the rest, labelled or not."""
        more = [(*row, "train") for row in self.rest[:n_more]]
        unlabelled = [(*row, "pool") for row in self.rest[:n_unlabelled]]
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return pool_of(
            [*((*row, split) for split, rows in parts.items() for row in rows), *more, *unlabelled], self.labels
        )


def main() -> None:
    options = parse_options()
    run_cells(options)
    if not options.no_write:
        rows = read_rows(options.results)
        write_section("pgkd-real", page(rows))
        write_section("pgkd-verdicts", verdicts(rows, SETS), DOCS)


def run_cells(options: argparse.Namespace) -> None:
    """Run the cells that are not done, until the time is up."""
    ends = time.monotonic() + 3600 * options.max_hours
    for name in options.sets:
        for seed in options.seeds:
            for arm in options.arms:
                rows = read_rows(options.results)
                key = CellRow(name, arm, seed, "", asked=asked_of(options, arm)).key
                if any(row.key == key and row.state == "done" for row in rows):
                    continue
                if time.monotonic() > ends:
                    print("The time is up; the same command goes on.")
                    return
                began = time.monotonic()
                row = cell(name, arm, seed, options, rows)
                store(options.results, row)
                print(f"{name} seed {seed} {arm}: {summary(row)}, {time.monotonic() - began:.0f} s", flush=True)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), help="folders of --data")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--teacher", default="local:qwen-1.5b")
    parser.add_argument("--teacher-option", nargs="*", default=[], help="as name=value")
    parser.add_argument("--student", default="encoder:minilm")
    parser.add_argument("--arbiter", default="encoder:minilm", help="trained on all labels of the set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=32, help="asked for in each round")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--quick-folds", action="store_true", help="students of the folds are not fine-tuned")
    parser.add_argument("--test", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-pgkd-real"), help="the folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--max-hours", type=float, default=1000.0, help="no cell is begun later")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md as it is")
    return parser.parse_args()


def asked_of(options: argparse.Namespace, arm: str) -> dict[str, str]:
    """The options that decide a cell's result: one without a teacher does not depend on it."""
    asked = {"student": options.student, "test": str(options.test)}
    if ARMS[arm]["name"] != "finetune":
        asked |= {"teacher": " ".join([options.teacher, *options.teacher_option])}
    if arm not in ("base", "sparse base"):
        asked |= {"rounds": str(options.rounds), "texts": str(options.texts)}
    folds = f"{options.folds}{', quick' * options.quick_folds}"
    return asked | ({"folds": folds} if ARMS[arm]["name"] == "pgkd" else {})


def cell(name: str, arm: str, seed: int, options: argparse.Namespace, rows: Sequence[CellRow]) -> CellRow:
    """Run one cell; what goes wrong is its reason."""
    empty = CellRow(name, arm, seed, "failed", asked=asked_of(options, arm), commit=commit())
    try:
        data = SeedData.draw(options.data / name, seed, options.test)
        if arm != "labelling":
            return measure(empty, data, options)
        spent = seconds_of_pgkd(empty, options, rows)
        return measure(empty, data, options, spent)
    except PotstillError as error:
        return replace(empty, reason=str(error))
    except Exception as error:  # a cell without memory, or of a broken file, must not stop the others
        return replace(empty, reason=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def seconds_of_pgkd(row: CellRow, options: argparse.Namespace, rows: Sequence[CellRow]) -> float:
    """What the teacher of `pgkd` took on the same set and seed."""
    key = replace(row, arm="pgkd", asked=asked_of(options, "pgkd")).key
    found = [each.teacher_s for each in rows if each.key == key and each.state == "done"]
    if not found:
        raise BadData("Labelling gets the seconds of the teacher in `pgkd`, which is not measured.", "Run it.")
    return found[0]


def measure(row: CellRow, data: SeedData, options: argparse.Namespace, seconds: float = 0.0) -> CellRow:
    """Train the student of the cell, evaluate it on the test texts, and have the arbiter check what was written."""
    pool = pool_for(row.arm, data, row.seed, options)
    spec, task = spec_for(row.arm, row.seed, options), Task(data.labels, name=row.data)
    stem = "-".join(filter(None, (row.arm.replace(" ", "-"), spec_digest(row))))
    with WatchedRun.start(options.out / f"{row.data}-{row.seed}" / stem, spec, task, pool) as run:
        student = label_for(run, seconds) if row.arm == "labelling" else recipe_kind(spec.procedure.kind)(run)
        result = run.evaluate(student, pool.subset("test"), "test")
        notes = [note.record for note in run.notes()]
        end = next((each for each in reversed(notes) if isinstance(each, RoundsFinished)), None)
        rounds = {each.round: each.accuracy for each in notes if isinstance(each, RoundFacts)}
        learnt = [] if ARMS[row.arm]["name"] == "finetune" else run.learnt[len(pool.subset("train")) :]
        teacher_s, train_s = (seconds_spent(run, modes) for modes in ({"generate", "answer"}, {"train"}))
        written = list(run.written)
    right = Arbiter(row.data, options)
    return replace(
        row,
        state="done",
        accuracy=result.accuracy.value,
        macro_f1=result.macro_f1.value,
        validation=tuple(round(rounds[i], 4) for i in sorted(rounds)),
        best_round=end.best_round if end else None,
        rejected=dict(end.rejected_by_reason) if end else {},
        written=right(written),
        accepted=right(learnt),
        teacher_s=round(teacher_s, 1),
        train_s=round(train_s, 1),
    )


def spec_digest(row: CellRow) -> str:
    """A short word for the options of a cell, so that other options have another folder."""
    return content_key(dict(row.asked))[:8]


def pool_for(arm: str, data: SeedData, seed: int, options: argparse.Namespace) -> Pool:
    if arm.startswith("sparse"):
        return data.sparse(seed).pool()
    return data.pool(
        n_more=options.rounds * options.texts if arm == "more gold" else 0,
        n_unlabelled=POOL if arm == "labelling" else 0,
    )


def spec_for(arm: str, seed: int, options: argparse.Namespace) -> Spec:
    procedure = dict(ARMS[arm])
    if procedure["name"] == "pgkd":
        rounds = {"rounds": options.rounds, "texts_per_round": options.texts, "cv_folds": options.folds}
        rounds |= {"cv_quick": True} if options.quick_folds else {}
        procedure = {**rounds, **procedure}
    if procedure["name"] == "labelling":
        procedure = {"name": "kd"}
    teacher: dict[str, Any] = {"name": options.teacher}
    for each in options.teacher_option:
        name, _, value = each.partition("=")
        teacher[name] = json.loads(value) if value[:1] in "0123456789tf[{" else value
    record = {"budget": 1000, "seed": seed, "student": options.student, "procedure": procedure}
    return Spec.from_dict({**record, **({} if procedure["name"] == "finetune" else {"teacher": teacher})})


def label_for(run: Run, seconds: float) -> Student:
    """The student of the gold and of what the teacher says of the pool in so many seconds."""
    gold, teacher = run.pool.subset("train"), run.teacher()
    texts, scores = [], []
    pool = run.pool.subset("pool").texts
    for start in range(0, len(pool), CHUNK):
        if seconds_spent(run, {"answer"}) >= seconds:
            break
        answers = run.ask(teacher, pool[start : start + CHUNK])
        texts += [text for text, there in zip(answers.texts, answers.answered, strict=True) if there]
        scores.append(answers.scores[answers.answered])
    soft = softmax(np.concatenate(scores)) if texts else np.empty((0, run.task.n_labels))
    targets = np.concatenate([one_hot(gold.gold, run.task.n_labels), soft])
    return run.learn([*gold.texts, *texts], targets, trust=RowTrust(noisy=np.arange(len(targets)) >= len(gold)))


def seconds_spent(run: Run, modes: set[str]) -> float:
    """This machine's seconds for finished calls of these modes; a text that is in the store twice counts once."""
    calls = [call for call in run.store.calls() if call.state == "settled"]
    return float(sum(call.usage.seconds for call in calls if mode_of(call.mode) in modes))


def mode_of(mode: str) -> str:
    return mode if mode in ("generate", "train") else "answer"


class Arbiter:
    """An encoder trained on all labels of a data set, which says how many labels of texts are right."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        train, test = (labelled(options.data / name / f"{split}.parquet") for split in ("train", "test"))
        measured = test[:: max(1, len(test) // 500)]
        texts = {text for text, _ in measured}
        rows = [(*row, "train") for row in train if row[0] not in texts] + [(*row, "test") for row in measured]
        self._pool = pool_of(rows)
        spec = Spec.from_dict({"budget": 1000, "student": options.arbiter, "procedure": {"name": "finetune"}})
        self._open = (options.out / f"{name}-arbiter", spec, Task(self._pool.labels, name=name))

    def __call__(self, texts: Sequence[LabelledText]) -> LabelAccuracy | None:
        """None without texts."""
        if not texts:
            return None
        with Run.open(*self._open, self._pool) as run:
            student = recipe_kind("finetune")(run)
            run.evaluate(student, self._pool.subset("test"), "test")
            said = student.predict_logits([each.text for each in texts]).argmax(axis=1)
        right = [self._pool.labels[k] == each.label for k, each in zip(said, texts, strict=True)]
        return LabelAccuracy(len(texts), round(float(np.mean(right)), 4))

    def accuracy(self) -> EvaluationResult:
        """On test texts that it was not trained on."""
        with Run.open(*self._open, self._pool) as run:
            return run.evaluate(recipe_kind("finetune")(run), self._pool.subset("test"), "test")


if __name__ == "__main__":
    main()
