"""The accuracy of a student by that of its teacher: the curve that the planner uses, on real texts.

    python bench/imitation.py [--data ../shared/data] [--seeds 3] [--vectors FOLDER]

Two sorts of teachers: `replay` ones of a stated accuracy (a simulation: known labels with believable errors), and
regressions on frozen gte-small vectors trained on few or many labels (real ones). The student is a regression on frozen
MiniLM vectors, trained on the teacher's probabilities of some texts, without gold. The prediction of
`allocate.imitation` for each (from the student's own learning curve) is compared with the measured accuracy, with the
guess that a student is as good as its teacher, and with the curve after one student was measured. Its two constants
were chosen on the first two sets; the others are the check.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent / "papers"))
sys.path.insert(0, str(Path(__file__).parent))

from curves import read
from frozen import Vectors
from sections import commit, table, write_section

from potstill.data.task import Task
from potstill.evaluation.calibration import one_hot, softmax
from potstill.procedures.allocate.imitation import ImitationCurve, ImitationPoint
from potstill.procedures.allocate.learning_curves import N_DRAWS, CurvePoint, LearningCurve, fit_learning_curve
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.teachers.base import TeacherSetup
from potstill.teachers.replay import ReplayOptions, ReplayTeacher

ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TEXTS = (250, 1000, 4000)
GOLD = (60, 125, 250, 500, 1000, 2000, 4000)  # sizes of the student's own curve
TEACHER_LABELS = (50, 100, 300, 1000)
POOL, TEST = 6200, 1500
CHOSEN_ON, CHECKED_ON = ("banking77", "multipit_id_doa"), ("fever_doa", "ag_news")
CLASSES = {"banking77": 77, "multipit_id_doa": 2, "fever_doa": 2, "ag_news": 4}
HABIT = {"replay": 0.0, "trained": 1.0}
EDGES = (0.1, 0.45, 0.55, 0.65, 0.75, 0.85, 0.925, 1.0)
MEASURED = 1000  # texts of the one student that is measured
RESULTS = Path(__file__).parent / "results" / "imitation.json"
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """A student of `texts` texts: its accuracy, its teacher's on those texts, and its own with their true labels."""

    data: str
    teacher: str
    seed: int
    labels: int
    texts: int
    taught: float
    alone: float
    student: float


class Dataset:
    """Texts, gold columns and vectors of one data set."""

    def __init__(self, name: str, data: Path, kept: Path | None) -> None:
        learn, test = (read(data / name / f"{split}.parquet") for split in ("train", "test"))
        fixed = np.random.default_rng(5)
        learn = [learn[i] for i in fixed.permutation(len(learn))[:POOL]]
        test = [test[i] for i in fixed.permutation(len(test))[:TEST]]
        self.name, self.labels = name, tuple(sorted({label for _, label in learn}))
        self.texts, self.asked = [text for text, _ in learn], [text for text, _ in test]
        self.gold = np.array([self.labels.index(label) for _, label in learn])
        self.right = np.array([self.labels.index(label) if label in self.labels else -1 for _, label in test])
        self._small, self._large = (
            Vectors(which, kept / f"{name}-{which}.npz" if kept else None) for which in ("minilm", "gte-small")
        )
        self.small, self.shown = self._small.of(self.texts), self._small.of(self.asked)
        self.large = self._large.of([*self.texts, *self.asked])[: len(self.texts)]
        self._small.save()
        self._large.save()

    def student(self, rows: NDArray[np.int64], targets: Floats) -> float:
        """Test accuracy of the student after these rows."""
        found = fit_regression(
            self.small[rows], targets, np.ones(len(rows), np.float32), SolverOptions(c=10.0, tolerance=1e-4)
        )
        return float(((self.shown @ found.weights + found.bias).argmax(1) == self.right).mean())

    def replayed(self, accuracy: float, seed: int) -> Floats:
        """(N, K) probabilities of a simulated teacher."""
        task = Task(self.labels, name=self.name)
        known = {" ".join(text.split()): int(gold) for text, gold in zip(self.texts, self.gold, strict=True)}
        options = ReplayOptions(file="", accuracy=accuracy, usd_per_label=0.0)
        answers = ReplayTeacher(TeacherSetup(task=task, seed=seed), options, known).answer(self.texts).answers
        return softmax(np.array([each.scores for each in answers])).astype(np.float32)

    def trained(self, labels: int, order: NDArray[np.int64]) -> Floats:
        """(N, K) probabilities of a regression on the larger vectors after the last `labels` rows of the order."""
        rows = order[-labels:]
        targets = one_hot(self.gold[rows], len(self.labels))
        found = fit_regression(
            self.large[rows], targets, np.ones(labels, np.float32), SolverOptions(c=10.0, tolerance=1e-4)
        )
        return softmax(self.large @ found.weights + found.bias).astype(np.float32)

    def seen(self, seed: int) -> Iterator[Seen]:
        """Students of all teachers, with one order of the texts."""
        order = np.random.default_rng(seed).permutation(len(self.texts))
        sizes = [n for n in TEXTS if n + max(TEACHER_LABELS) <= len(order)]
        gold = one_hot(self.gold, len(self.labels))
        alone = {n: self.student(order[:n], gold[order[:n]]) for n in GOLD if n <= len(order)}
        yield from (Seen(self.name, "gold", seed, 0, n, 1.0, score, score) for n, score in alone.items())
        teachers = {("replay", 0, a): self.replayed(a, seed) for a in ACCURACIES if a > 1.2 / len(self.labels)}
        teachers |= {("trained", n, 0.0): self.trained(n, order) for n in TEACHER_LABELS}
        for (kind, labels, _), probs in teachers.items():
            for n in sizes:
                rows = order[:n]
                right = float((probs[rows].argmax(1) == self.gold[rows]).mean())
                yield Seen(self.name, kind, seed, labels, n, right, alone[n], self.student(rows, probs[rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", type=Path, help="a folder that keeps the frozen vectors for the next time")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the section again")
    options = parser.parse_args()
    found: list[Seen] = []
    if options.table:
        found = [Seen(**each) for each in json.loads(RESULTS.read_text())["seen"]]
    for name in () if options.table else (*CHOSEN_ON, *CHECKED_ON):
        dataset = Dataset(name, options.data, options.vectors)
        for seed in range(options.seeds):
            for each in dataset.seen(seed):
                found.append(each)
                print(each, flush=True)
            record = {"format": 1, "bench": "imitation", "commit": commit(), "seeds": options.seeds}
            RESULTS.write_text(json.dumps(record | {"seen": [asdict(each) for each in found]}, indent=1))
    section = page(found, options.seeds)
    write_section("imitation", section)
    print(section)


def curves_of(found: Sequence[Seen], name: str) -> LearningCurve:
    """The student's own learning curve on a data set."""
    sizes = sorted({each.texts for each in found if each.data == name and each.teacher == "gold"})
    gold = [each for each in found if each.data == name and each.teacher == "gold"]
    return fit_learning_curve([CurvePoint(n, tuple(each.student for each in gold if each.texts == n)) for n in sizes])


def predict(found: Sequence[Seen], name: str, kind: str, classes: int) -> list[tuple[Seen, float, float]]:
    """(Student, score by the prior curve, score by the curve after one student was measured), for each student."""
    some = [each for each in found if each.data == name and each.teacher == kind]
    habit = np.full(N_DRAWS, HABIT[kind])
    curve = ImitationCurve(curves_of(found, name).draws, 1 / classes, habit)
    middle = min((each for each in some if each.texts == MEASURED), key=lambda each: abs(each.taught - 0.75))
    after = curve.fit([ImitationPoint(middle.taught, 0, middle.texts, middle.student)], float(np.sqrt(0.25 / TEST)))
    others = [each for each in some if each is not middle]
    return [
        (each, *(float(np.median(c.student_accuracy(each.taught, each.texts))) for c in (curve, after)))
        for each in others
    ]


def page(found: Sequence[Seen], seeds: int) -> str:
    """The section of RESULTS.md."""
    rows, errors = [], []
    for name, kind in ((name, kind) for name in (*CHOSEN_ON, *CHECKED_ON) for kind in HABIT):
        predictions = predict(found, name, kind, CLASSES[name])
        guesses = np.array([[prior, after, each.taught] for each, prior, after in predictions])
        off = 100 * np.abs(guesses - np.array([each.student for each, _, _ in predictions])[:, None]).mean(axis=0)
        part = "chosen on" if name in CHOSEN_ON else "checked on"
        errors.append([f"{part} {name}, {kind}", f"{len(predictions)}", *(f"{x:.1f}" for x in off)])
        for texts in TEXTS:
            figures = []
            for low, high in itertools.pairwise(EDGES):
                some = [(s.student, x) for s, x, _ in predictions if s.texts == texts and low <= s.taught < high]
                mean = 100 * np.array(some).mean(axis=0) if some else None
                figures.append("" if mean is None else f"{mean[0]:.0f} / {mean[1]:.0f}")
            if any(figures):
                rows.append([f"{name}, {kind}, {texts:,} texts", *figures])
    head = [
        "student of a teacher that is right in",
        *(f"{a:.0%}–{b:.0%}" for a, b in itertools.pairwise(EDGES)),
    ]
    return f"""## Teacher accuracy -> student accuracy

`python bench/imitation.py`, commit {commit()}, {time.strftime("%Y-%m-%d")}, {seeds} seeds, {TEST} test texts; student:
regression on frozen MiniLM vectors, taught by the teacher's probabilities alone. `replay` teachers are **a simulation**
(known labels with believable errors, of a stated accuracy); `trained` ones are regressions on frozen gte-small vectors
that learnt 50 to 1,000 labels. Habit is set to {HABIT["replay"]:g} and {HABIT["trained"]:g}. Accuracy in percent,
measured / said by the curve before anything was measured:

{table(head, rows)}

Mean error in points of the curve before anything was measured, after one student was, and of the guess that a student
is as good as its teacher:

{table(["teacher", "students", "prior curve", "after one student", "as its teacher"], errors)}
"""


if __name__ == "__main__":
    main()
