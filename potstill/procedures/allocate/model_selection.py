"""The end of `allocate`: what was bought is taught to the student in every way that may win, and one is returned.

Decides by validation texts alone; buys nothing but what teaching takes, and what a teacher says of the texts there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import Calibration
from potstill.procedures.allocate.label_sources import LabelledSet, LabelSources, combine_gold_and_soft
from potstill.procedures.allocate.strategies import ExpectedLead
from potstill.procedures.allocate.writing_rounds import GenerationRounds
from potstill.procedures.kd import calibrate_teacher
from potstill.run import Answers
from potstill.run.run import TeacherRecord
from potstill.students.base import Student


@dataclass(frozen=True)
class Candidate:
    """A student of one way, whether it is right on each of the validation texts, and who taught it."""

    strategy: str
    student: Student
    correct: NDArray[np.bool_]
    teacher_record: TeacherRecord | None = None

    @property
    def score(self) -> float:
        """Accuracy on the validation texts."""
        return float(self.correct.mean())


class ModelSelection:
    """All that a run holds when buying is over.

    Args:
        owned: labelled texts. check: those to measure on. left: unlabelled ones.
        written: what the language model wrote.
    """

    def __init__(
        self,
        market: LabelSources,
        labelled: LabelledSet,
        validation: Subset,
        unlabelled: Sequence[str],
        generated: GenerationRounds,
    ) -> None:
        self._market, self._run = market, market.run
        self._owned, self._check, self._left, self._written = labelled, validation, unlabelled, generated
        self._both = labelled.concatenate(generated.accepted.texts, generated.accepted.targets)
        self._tried: list[Candidate] = []

    def select(
        self, asked: Sequence[str], *, include_distillation: bool, expected_leads: Mapping[str, ExpectedLead]
    ) -> Student:
        """The student of the way that does best, by what was expected and what the validation texts say of it.

        Args:
            asked: texts that the language model was asked about.
            distil: whether the large student may win, so that teaching it is worth its price.
            ahead: way -> by how much it was expected to be ahead of labels only.
        """
        self._try("labels only", self._run.learn(self._owned.texts, self._owned.targets))
        try:
            if len(self._written.accepted):
                self._wrote()
            if asked and self._market.llm is not None:
                said, reading = self._market.ask_llm(asked, self._owned)
                if said.answered.any():
                    self._learn("answers", said, reading)
                    self._run.record_teacher(self._market.llm, reading, said)
                    self._tried[-1] = self._with_teacher(self._tried[-1])
            if include_distillation and self._market.large_model is not None and self._left:
                self._distilled()
        except BudgetExceeded as error:
            self._run.reporter.info(f"One way less was tried: {error.message}")
        taken = select_candidate(self._tried, expected_leads)
        self._run.teacher_record = taken.teacher_record
        ways = {each.strategy: each.score for each in self._tried}
        scores = ", ".join(f"{way} {score:.1%}" for way, score in ways.items())
        sentence = (
            f"Of what could be paid, {taken.strategy!r} was taken: on {len(self._check)} texts kept to measure on, "
        )
        facts = {"way": taken.strategy, "score": taken.score, "labels": len(self._owned), "tried": ways}
        self._run.note("allocated", **facts, written=len(self._written.accepted), sentence=f"{sentence}{scores}.")
        return taken.student

    def _wrote(self) -> None:
        student = self._run.learn(self._both.texts, self._both.targets)
        self._try("written", student)
        writer = self._written.teacher
        if writer is not None:
            nothing = Answers((), np.empty((0, self._run.task.n_labels)), (), ())
            self._run.record_teacher(writer.teacher, writer.calibration, nothing)
            self._tried[-1] = self._with_teacher(self._tried[-1])

    def _distilled(self) -> None:
        run, market, half = self._run, self._market, self._run.training_reserve // 2
        teacher = market.large_teacher(market.train_large(self._owned))
        said = run.ask(teacher, list(self._left), reserve_micros=half)
        on_gold = run.ask(teacher, self._check.texts, reserve_micros=half)
        reading = calibrate_teacher(teacher, said, on_gold, self._check.gold, run)
        self._learn("distilled", said, reading)
        run.record_teacher(teacher, reading, said)
        self._tried[-1] = self._with_teacher(self._tried[-1])

    def _learn(self, way: str, said: Answers, reading: Calibration) -> None:
        labelled = set(self._owned.texts)  # people's word on a text that both were asked about counts alone
        there = np.flatnonzero(said.answered & np.array([text not in labelled for text in said.texts], dtype=bool))
        lesson = combine_gold_and_soft(
            self._both, [said.texts[row] for row in there], reading.apply(said.scores[there])
        )
        self._try(way, self._run.learn(lesson.texts, lesson.targets, weights=lesson.weights, noisy=lesson.doubtful))

    def _try(self, way: str, student: Student) -> None:
        self._run.judge(student, self._check, way)
        right = student.predict_logits(self._check.texts).argmax(axis=1) == self._check.gold
        self._tried.append(Candidate(way, student, np.asarray(right)))

    def _with_teacher(self, tried: Candidate) -> Candidate:
        return Candidate(tried.strategy, tried.student, tried.correct, self._run.teacher_record)


def select_candidate(candidates: Sequence[Candidate], ahead: Mapping[str, ExpectedLead]) -> Candidate:
    """The way that is the most ahead of the first, by expectation and by the same validation texts together."""
    first = candidates[0]

    def lead(each: Candidate) -> float:
        apart = each.correct.astype(float) - first.correct
        # One text more than there are, told wrongly: without it, equal answers would have no error at all.
        error = float(np.sqrt((np.square(apart).sum() + 1) / (len(apart) + 1) / len(apart)))
        return ahead.get(each.strategy, ExpectedLead()).posterior_mean(float(apart.mean()), error)

    return max(reversed(candidates), key=lambda each: lead(each) if each is not first else 0.0)
