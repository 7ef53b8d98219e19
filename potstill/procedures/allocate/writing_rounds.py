"""Texts that the language model writes for `allocate`: one round of PGKD at a time, and what each brought.

A round is that of `rounds.py`, bought as `supply.py` buys it. As labels may be bought between two rounds, a round that
does not lower the validation loss is undone: what is built on is always the best so far. Does not decide whether a
round is worth its price (`allocate.py`).
"""

from __future__ import annotations

import numpy as np

from potstill.data.pool import Subset
from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import Calibration, one_hot
from potstill.ledger.prices import Usage, micros_to_usd
from potstill.procedures.allocate.label_sources import LabelledSet, LabelSources
from potstill.procedures.allocate.priors import GenerationPrior, RoundGain
from potstill.procedures.kd import calibrate_teacher
from potstill.procedures.pgkd import rounds as pgkd_rounds
from potstill.procedures.pgkd.generation import GeneratingTeacher, TextAcquisition
from potstill.procedures.pgkd.generation_request import Floats, TrainingTexts, gold_examples
from potstill.procedures.pgkd.quote import BIAS_TEXTS
from potstill.procedures.pgkd.rounds import RoundLog, RoundTrainer, run_round
from potstill.teachers.generation_quotas import split_by_label

MIN_PROBABILITY = 1e-4  # the least probability of a text's label that a loss is taken of


class GenerationRounds:
    """All that was written in this run, taken up by replay: `take` asks the run, which remembers.

    Attributes:
        kept: texts that are learnt beside the labels, with what is learnt of them.
        taken: rounds that were gone through.
        texts: asked for in a round.
        writer: who wrote; None before the first round.
    """

    def __init__(self, market: LabelSources, check: Subset) -> None:
        self._market, self._check = market, check
        self.options = market.generation_options
        self.accepted = LabelledSet((), np.zeros((0, market.run.task.n_labels), np.float32))
        self.taken, self.texts = 0, self.options.texts
        self.teacher: GeneratingTeacher | None = None
        self._measured: list[RoundGain] = []
        self._waited, self._ended = 0, False
        self._diary: RoundLog | None = None
        self._best: pgkd_rounds.RoundStudent | None = None

    def unavailable_reason(self, owned: LabelledSet) -> str:
        """Why no (other) round can be taken; empty if one can."""
        run, llm = self._market.run, self._market.llm
        if llm is None:
            return "there is no language model"
        if not llm.capabilities.generates:
            return f"{llm.name} cannot write"
        if run.task.kind != "single":
            return "texts are written for tasks with one label a text"
        if self._ended or self.taken >= self.options.rounds:
            return "the money for it ended" if self._ended else "its rounds are used up"
        if self._waited >= self.options.patience:
            return f"{self._waited} rounds did not lower the validation loss"
        missing = run.task.n_labels - len(set(owned.gold.tolist()))
        return f"{missing} labels have no text yet" if missing else ""

    def remaining_texts(self, owned: LabelledSet) -> int:
        """Texts that may still be asked for."""
        return 0 if self.unavailable_reason(owned) else (self.options.rounds - self.taken) * self.texts

    @property
    def score(self) -> float:
        """Of the student that learnt the labels and all that was kept; 0 if nothing was."""
        return self._best.judgement.accuracy.value if self._best is not None and len(self.accepted) else 0.0

    def expected_gain(self) -> GenerationPrior:
        """What more of it is expected to bring."""
        return GenerationPrior(self._measured, seed=self._market.run.spec.seed)

    def round_usd(self, owned: LabelledSet) -> float:
        """What the next round is expected to cost at most: writing, asking again, and teaching the pupil."""
        llm, pupil, run = self._market.llm, self._pupil(), self._market.run
        assert llm is not None
        now = pupil.fit(self.training_rows(owned), self.taken)
        brief = pupil.make_request(now, self.taken + 1, pupil.training_probs(now))
        briefs = [brief]
        if not llm.capabilities.reads_feedback:
            draw = np.random.default_rng(brief.seed)
            briefs = split_by_label(brief, run.task.labels, gold_examples(run.task, now.train), draw)
        usages: list[Usage] = [llm.estimate_generation_usage(each).high for each in briefs]
        usd = micros_to_usd(sum(llm.price.cost_micros(usage) for usage in usages))
        again = self.texts if self.options.relabels else 0
        return usd + again * (self._market.answer_usd(owned.texts) or 0.0) + self._market.training_usd(now.student)

    def training_rows(self, owned: LabelledSet) -> TrainingTexts:
        """The labels and the texts that were kept, as what a pupil learns."""
        both = owned.concatenate(self.accepted.texts, self.accepted.targets)
        return TrainingTexts(both.texts, both.gold, len(owned), dict(enumerate(both.targets)))

    def run_round(self, owned: LabelledSet) -> None:
        """One round; kept if it lowers the validation loss."""
        run, pupil = self._market.run, self._pupil()
        try:
            now = pupil.fit(self.training_rows(owned), self.taken)
            if self._diary is None:
                self.teacher = self._open(owned)
                self._diary, self._best = RoundLog(run, self.teacher.teacher, self.options.rounds, now), now
            known = owned.concatenate(self.accepted.texts, self.accepted.targets).to_subset()
            guarded = {**run.pool.held_out_texts(), "validation": self._check.texts}
            supply = TextAcquisition(run, known, self.options, writer=self.teacher, guarded=guarded)
            taken = run_round(pupil, supply.acquire, now, self.taken + 1, now)
        except BudgetExceeded:
            self._ended = True
            return
        self.taken += 1
        better = taken.student.loss < now.loss
        self._measured.append(self._measure(now, taken.student, taken.make_request.n))
        self._diary.add(taken.student, taken.make_request, taken.acquired, better)
        self._waited, self._ended = 0 if better else self._waited + 1, taken.acquired.budget_exhausted
        if better:
            self._best, accepted = taken.student, taken.acquired.filtered.accepted
            labels = np.array([run.task.index(each.label) for each in accepted], dtype=np.int64)
            targets = one_hot(labels, run.task.n_labels) if taken.acquired.probs is None else taken.acquired.probs
            self.accepted = self.accepted.concatenate(
                [each.text for each in accepted], np.asarray(targets, dtype=np.float32)
            )

    def close(self) -> None:
        """No other round will be taken."""
        if self._diary is not None and self._best is not None:
            self._diary.close(self._best)

    def _pupil(self) -> RoundTrainer:
        return RoundTrainer(self._market.run, self.options, self._check, self._market.proxy_student, "plan")

    def _open(self, owned: LabelledSet) -> GeneratingTeacher:
        run, llm = self._market.run, self._market.llm
        assert llm is not None
        reading = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
        if llm.needs_prior_correction and self.options.relabels:
            some = owned.texts[:BIAS_TEXTS]
            asked = run.ask(llm, some, reserve_micros=run.training_reserve)
            if asked.answered.any():
                reading = calibrate_teacher(llm, asked, asked, owned.gold[: len(some)], run)
        return GeneratingTeacher(llm, reading)

    def _measure(self, now: pgkd_rounds.RoundStudent, after: pgkd_rounds.RoundStudent, texts: int) -> RoundGain:
        """By how much the loss on the validation texts fell, and how far that can be trusted (the same texts twice)."""
        losses = [_losses(each.student.predict_proba(self._check.texts), self._check) for each in (now, after)]
        fell, mean = losses[0] - losses[1], max(float(losses[0].mean()), MIN_PROBABILITY)
        spread = float(fell.std()) / float(np.sqrt(len(fell))) / mean
        asked = sum(each.texts for each in self._measured)
        return RoundGain(asked, texts, float(fell.mean()) / mean, max(spread, 1e-3))


def _losses(probs: Floats, check: Subset) -> Floats:
    return np.asarray(-np.log(np.maximum(probs[np.arange(len(check)), check.gold], MIN_PROBABILITY)))
