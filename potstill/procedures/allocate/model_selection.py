"""The end of `allocate`: train the student on what was bought in every way that may win, and return the best.

Chooses by validation data alone. Pays for nothing but training, and a large teacher's answers about the texts there
are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import Calibration
from potstill.procedures.allocate.decisions import DecisionBasis
from potstill.procedures.allocate.generation_rounds import GenerationRounds
from potstill.procedures.allocate.label_sources import AllocationState, LabelSources, combine_gold_and_soft
from potstill.procedures.allocate.strategies import ExpectedLead
from potstill.procedures.soft_labels import calibrate_teacher
from potstill.run import Answers
from potstill.run.notes import Allocated
from potstill.run.open_teacher import training_reserve
from potstill.run.run import TeacherRecord
from potstill.students.base import RowTrust, Student
from potstill.teachers.base import Teacher


@dataclass(frozen=True)
class Candidate:
    """A student, how it was trained, whether it is right on each of N validation texts, and its teacher."""

    strategy: str
    student: Student
    correct: NDArray[np.bool_]
    teacher_record: TeacherRecord | None = None

    @property
    def score(self) -> float:
        """Accuracy on the validation texts."""
        return float(self.correct.mean())


class ModelSelection:
    """Trains and compares the candidates.

    Args:
        sources: the large student, the language model, and the run.
        state: labels, unlabelled texts and answers.
        validation: labelled texts that are never trained on.
        rounds: generated texts.
    """

    def __init__(
        self, sources: LabelSources, state: AllocationState, validation: Subset, rounds: GenerationRounds
    ) -> None:
        self._sources, self._run, self._state = sources, sources.run, state
        self._validation, self._rounds = validation, rounds
        generated = rounds.accepted
        self._labelled_and_generated = state.labelled.concatenate(generated.texts, generated.targets)
        self._candidates: list[Candidate] = []

    def select(self, basis: DecisionBasis) -> Student:
        """The student of the best candidate, by the validation data and by what the last decision expected of it."""
        labelled, sources = self._state.labelled, self._sources
        self._add("labels only", self._run.learn(labelled.texts, labelled.targets))
        try:
            if len(self._rounds.accepted):
                self._train_on_generated()
            if self._state.asked and sources.llm is not None:
                answers, calibration = sources.ask_llm(self._state.asked, labelled)
                if answers.answered.any():
                    self._train_on_answers("answers", sources.llm, answers, calibration)
            if basis.distillation_may_win and sources.large_model is not None and self._state.unlabelled:
                self._distil()
        except BudgetExceeded as error:
            self._run.reporter.info(f"One candidate was left out: {error.message}")
        selected = select_candidate(self._candidates, basis.leads)
        self._run.teacher_record = selected.teacher_record
        self._note(selected)
        return selected.student

    def _note(self, selected: Candidate) -> None:
        self._run.note(
            Allocated(
                candidate=selected.strategy,
                score=selected.score,
                n_validation=len(self._validation),
                n_labels=len(self._state.labelled),
                n_generated=len(self._rounds.accepted),
                candidate_scores={each.strategy: each.score for each in self._candidates},
            )
        )

    def _train_on_generated(self) -> None:
        rows, teacher = self._labelled_and_generated, self._rounds.teacher
        student = self._run.learn(rows.texts, rows.targets)
        record = None
        if teacher is not None:
            no_answers = Answers((), np.empty((0, self._run.task.n_labels)), (), ())
            record = self._record_teacher(teacher.teacher, teacher.calibration, no_answers)
        self._add("generated", student, record)

    def _distil(self) -> None:
        run, sources, validation = self._run, self._sources, self._validation
        teacher = sources.large_teacher(sources.train_large(self._state.labelled))
        with run.ledger.reserve("training", training_reserve(run.spec) // 2):
            answers = run.ask(teacher, self._state.unlabelled)
            on_validation = run.ask(teacher, validation.texts)
        calibration = calibrate_teacher(teacher, answers, on_validation, validation.gold, run)
        self._train_on_answers("distilled", teacher, answers, calibration)

    def _train_on_answers(self, name: str, teacher: Teacher, answers: Answers, calibration: Calibration) -> None:
        labelled = set(self._state.labelled.texts)  # a human label replaces the teacher's answer about the same text
        is_new = np.array([text not in labelled for text in answers.texts], dtype=bool)
        rows = np.flatnonzero(answers.answered & is_new)
        texts, probs = [answers.texts[row] for row in rows], calibration.apply(answers.scores[rows])
        data = combine_gold_and_soft(self._labelled_and_generated, texts, probs)
        student = self._run.learn(data.texts, data.targets, trust=RowTrust(data.weights, data.noisy))
        self._add(name, student, self._record_teacher(teacher, calibration, answers))

    def _record_teacher(self, teacher: Teacher, calibration: Calibration, answers: Answers) -> TeacherRecord | None:
        self._run.record_teacher(teacher, calibration, answers)
        return self._run.teacher_record

    def _add(self, name: str, student: Student, record: TeacherRecord | None = None) -> None:
        self._run.evaluate(student, self._validation, name)
        correct = student.predict_logits(self._validation.texts).argmax(axis=1) == self._validation.gold
        self._candidates.append(Candidate(name, student, np.asarray(correct), record))


def select_candidate(candidates: Sequence[Candidate], leads: Mapping[str, ExpectedLead]) -> Candidate:
    """The candidate with the highest posterior lead over the first.

    The prior is what was expected of its strategy; the measurement is the difference on the same validation texts.
    """
    first = candidates[0]

    def posterior(candidate: Candidate) -> float:
        difference = candidate.correct.astype(float) - first.correct
        # As if one more text differed: without it, equal answers would have no error at all.
        error = float(np.sqrt((np.square(difference).sum() + 1) / (len(difference) + 1) / len(difference)))
        return leads.get(candidate.strategy, ExpectedLead()).posterior_mean(float(difference.mean()), error)

    return max(reversed(candidates), key=lambda each: posterior(each) if each is not first else 0.0)
