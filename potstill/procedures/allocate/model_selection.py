"""The end of `allocate`: what was bought is taught to the student in every way that may win, and one is returned.

Decides by validation texts alone; buys nothing but what teaching takes, and what a teacher says of the texts there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Part
from potstill.errors import OverBudget
from potstill.evaluation.calibration import Calibration
from potstill.procedures.allocate.label_sources import Market, Owned, beside
from potstill.procedures.allocate.strategies import Ahead
from potstill.procedures.allocate.writing_rounds import Written
from potstill.procedures.kd import read_scores
from potstill.run import Answers
from potstill.run.run import Taught
from potstill.students.base import Student


@dataclass(frozen=True)
class Tried:
    """A student of one way, whether it is right on each of the validation texts, and who taught it."""

    way: str
    student: Student
    right: NDArray[np.bool_]
    taught: Taught | None = None

    @property
    def score(self) -> float:
        """Accuracy on the validation texts."""
        return float(self.right.mean())


class Harvest:
    """All that a run holds when buying is over.

    Args:
        owned: labelled texts. check: those to measure on. left: unlabelled ones.
        written: what the language model wrote.
    """

    def __init__(self, market: Market, owned: Owned, check: Part, left: Sequence[str], written: Written) -> None:
        self._market, self._run = market, market.run
        self._owned, self._check, self._left, self._written = owned, check, left, written
        self._both = owned.plus(written.kept.texts, written.kept.targets)
        self._tried: list[Tried] = []

    def best(self, asked: Sequence[str], *, distil: bool, ahead: Mapping[str, Ahead]) -> Student:
        """The student of the way that does best, by what was expected and what the validation texts say of it.

        Args:
            asked: texts that the language model was asked about.
            distil: whether the large student may win, so that teaching it is worth its price.
            ahead: way -> by how much it was expected to be ahead of labels only.
        """
        self._try("labels only", self._run.learn(self._owned.texts, self._owned.targets))
        try:
            if len(self._written.kept):
                self._wrote()
            if asked and self._market.llm is not None:
                said, reading = self._market.answered(asked, self._owned)
                if said.answered.any():
                    self._learn("answers", said, reading)
                    self._run.taught_by(self._market.llm, reading, said)
                    self._tried[-1] = self._with_teacher(self._tried[-1])
            if distil and self._market.large is not None and self._left:
                self._distilled()
        except OverBudget as error:
            self._run.tell.say(f"One way less was tried: {error.happened}")
        taken = chosen_of(self._tried, ahead)
        self._run.taught = taken.taught
        ways = {each.way: each.score for each in self._tried}
        scores = ", ".join(f"{way} {score:.1%}" for way, score in ways.items())
        sentence = f"Of what could be paid, {taken.way!r} was taken: on {len(self._check)} texts kept to measure on, "
        facts = {"way": taken.way, "score": taken.score, "labels": len(self._owned), "tried": ways}
        self._run.note("allocated", **facts, written=len(self._written.kept), sentence=f"{sentence}{scores}.")
        return taken.student

    def _wrote(self) -> None:
        student = self._run.learn(self._both.texts, self._both.targets)
        self._try("written", student)
        writer = self._written.writer
        if writer is not None:
            nothing = Answers((), np.empty((0, self._run.task.n_labels)), (), ())
            self._run.taught_by(writer.teacher, writer.reading, nothing)
            self._tried[-1] = self._with_teacher(self._tried[-1])

    def _distilled(self) -> None:
        run, market, half = self._run, self._market, self._run.training_reserve // 2
        teacher = market.large_teacher(market.teach_large(self._owned))
        said = run.ask(teacher, list(self._left), leave_micros=half)
        on_gold = run.ask(teacher, self._check.texts, leave_micros=half)
        reading = read_scores(teacher, said, on_gold, self._check.gold, run)
        self._learn("distilled", said, reading)
        run.taught_by(teacher, reading, said)
        self._tried[-1] = self._with_teacher(self._tried[-1])

    def _learn(self, way: str, said: Answers, reading: Calibration) -> None:
        labelled = set(self._owned.texts)  # people's word on a text that both were asked about counts alone
        there = np.flatnonzero(said.answered & np.array([text not in labelled for text in said.texts], dtype=bool))
        lesson = beside(self._both, [said.texts[row] for row in there], reading.probs(said.scores[there]))
        self._try(way, self._run.learn(lesson.texts, lesson.targets, weights=lesson.weights, doubtful=lesson.doubtful))

    def _try(self, way: str, student: Student) -> None:
        self._run.judge(student, self._check, way)
        right = student.predict_logits(self._check.texts).argmax(axis=1) == self._check.gold
        self._tried.append(Tried(way, student, np.asarray(right)))

    def _with_teacher(self, tried: Tried) -> Tried:
        return Tried(tried.way, tried.student, tried.right, self._run.taught)


def chosen_of(tried: Sequence[Tried], ahead: Mapping[str, Ahead]) -> Tried:
    """The way that is the most ahead of the first, by expectation and by the same validation texts together."""
    first = tried[0]

    def lead(each: Tried) -> float:
        apart = each.right.astype(float) - first.right
        # One text more than there are, told wrongly: without it, equal answers would have no error at all.
        error = float(np.sqrt((np.square(apart).sum() + 1) / (len(apart) + 1) / len(apart)))
        return ahead.get(each.way, Ahead()).given(float(apart.mean()), error)

    return max(reversed(tried), key=lambda each: lead(each) if each is not first else 0.0)
