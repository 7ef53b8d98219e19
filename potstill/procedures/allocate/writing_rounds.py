"""Texts that the language model writes for `allocate`: one round of PGKD at a time, and what each brought.

A round is that of `rounds.py`, bought as `supply.py` buys it. As labels may be bought between two rounds, a round that
does not lower the validation loss is undone: what is built on is always the best so far. Does not decide whether a
round is worth its price (`allocate.py`).
"""

from __future__ import annotations

import numpy as np

from potstill.data.pool import Part
from potstill.errors import OverBudget
from potstill.evaluation.calibration import Calibration, one_hot
from potstill.ledger.prices import Usage, to_usd
from potstill.procedures.allocate.label_sources import Market, Owned
from potstill.procedures.allocate.priors import Round, Writing
from potstill.procedures.kd import read_scores
from potstill.procedures.pgkd import rounds as pgkd_rounds
from potstill.procedures.pgkd.brief import Floats, Rows, gold_of
from potstill.procedures.pgkd.cost import ASKED_FOR_BIAS
from potstill.procedures.pgkd.generation import Supply, Writer
from potstill.procedures.pgkd.rounds import Diary, Pupil, take_round
from potstill.teachers.base import can_write, takes_guides
from potstill.teachers.writing import one_label_each

SURELY_WRONG = 1e-4  # the least probability of a text's label that a loss is taken of


class Written:
    """All that was written in this run, taken up by replay: `take` asks the run, which remembers.

    Attributes:
        kept: texts that are learnt beside the labels, with what is learnt of them.
        taken: rounds that were gone through.
        texts: asked for in a round.
        writer: who wrote; None before the first round.
    """

    def __init__(self, market: Market, check: Part) -> None:
        self._market, self._check = market, check
        self.options = market.writing
        self.kept = Owned((), np.zeros((0, market.run.task.n_labels), np.float32))
        self.taken, self.texts = 0, self.options.texts
        self.writer: Writer | None = None
        self._measured: list[Round] = []
        self._waited, self._ended = 0, False
        self._diary: Diary | None = None
        self._best: pgkd_rounds.Round | None = None

    def why_not(self, owned: Owned) -> str:
        """Why no (other) round can be taken; empty if one can."""
        run, llm = self._market.run, self._market.llm
        if llm is None:
            return "there is no language model"
        if not can_write(llm):
            return f"{llm.name} cannot write"
        if run.task.kind != "single":
            return "texts are written for tasks with one label a text"
        if self._ended or self.taken >= self.options.rounds:
            return "the money for it ended" if self._ended else "its rounds are used up"
        if self._waited >= self.options.patience:
            return f"{self._waited} rounds did not lower the validation loss"
        missing = run.task.n_labels - len(set(owned.gold.tolist()))
        return f"{missing} labels have no text yet" if missing else ""

    def left(self, owned: Owned) -> int:
        """Texts that may still be asked for."""
        return 0 if self.why_not(owned) else (self.options.rounds - self.taken) * self.texts

    @property
    def score(self) -> float:
        """Of the student that learnt the labels and all that was kept; 0 if nothing was."""
        return self._best.judgement.accuracy.value if self._best is not None and len(self.kept) else 0.0

    def expected(self) -> Writing:
        """What more of it is expected to bring."""
        return Writing(self._measured, seed=self._market.run.spec.seed)

    def round_usd(self, owned: Owned) -> float:
        """What the next round is expected to cost at most: writing, asking again, and teaching the pupil."""
        llm, pupil, run = self._market.llm, self._pupil(), self._market.run
        assert llm is not None
        now = pupil.taught(self.rows(owned), self.taken)
        brief = pupil.brief(now, self.taken + 1, pupil.predicted(now))
        briefs = [brief]
        if not takes_guides(llm):
            draw = np.random.default_rng(brief.seed)
            briefs = one_label_each(brief, run.task.labels, gold_of(run.task, now.rows), draw)
        expect = getattr(llm, "expect_writing", None)
        usages: list[Usage] = [llm.write_bound(each) if expect is None else expect(each).high for each in briefs]
        usd = to_usd(sum(llm.price.cost_micros(usage) for usage in usages))
        again = self.texts if self.options.asks_again else 0
        return usd + again * (self._market.answer_usd(owned.texts) or 0.0) + self._market.taught_usd(now.student)

    def rows(self, owned: Owned) -> Rows:
        """The labels and the texts that were kept, as what a pupil learns."""
        both = owned.plus(self.kept.texts, self.kept.targets)
        return Rows(both.texts, both.gold, len(owned), dict(enumerate(both.targets)))

    def take(self, owned: Owned) -> None:
        """One round; kept if it lowers the validation loss."""
        run, pupil = self._market.run, self._pupil()
        try:
            now = pupil.taught(self.rows(owned), self.taken)
            if self._diary is None:
                self.writer = self._open(owned)
                self._diary, self._best = Diary(run, self.writer.teacher, self.options.rounds, now), now
            known = owned.plus(self.kept.texts, self.kept.targets).part()
            guarded = {**run.pool.guarded(), "validation": self._check.texts}
            supply = Supply(run, known, self.options, writer=self.writer, guarded=guarded)
            taken = take_round(pupil, supply.buy, now, self.taken + 1, now)
        except OverBudget:
            self._ended = True
            return
        self.taken += 1
        better = taken.after.loss < now.loss
        self._measured.append(self._measure(now, taken.after, taken.brief.n))
        self._diary.add(taken.after, taken.brief, taken.bought, better)
        self._waited, self._ended = 0 if better else self._waited + 1, taken.bought.money_ended
        if better:
            self._best, accepted = taken.after, taken.bought.passed.accepted
            labels = np.array([run.task.index(each.label) for each in accepted], dtype=np.int64)
            targets = one_hot(labels, run.task.n_labels) if taken.bought.soft is None else taken.bought.soft
            self.kept = self.kept.plus([each.text for each in accepted], np.asarray(targets, dtype=np.float32))

    def close(self) -> None:
        """No other round will be taken."""
        if self._diary is not None and self._best is not None:
            self._diary.close(self._best)

    def _pupil(self) -> Pupil:
        return Pupil(self._market.run, self.options, self._check, self._market.proxy, "plan")

    def _open(self, owned: Owned) -> Writer:
        run, llm = self._market.run, self._market.llm
        assert llm is not None
        reading = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
        if llm.scores_need_prior and self.options.asks_again:
            some = owned.texts[:ASKED_FOR_BIAS]
            asked = run.ask(llm, some, leave_micros=run.training_reserve)
            if asked.answered.any():
                reading = read_scores(llm, asked, asked, owned.gold[: len(some)], run)
        return Writer(llm, reading)

    def _measure(self, now: pgkd_rounds.Round, after: pgkd_rounds.Round, texts: int) -> Round:
        """By how much the loss on the validation texts fell, and how far that can be trusted (the same texts twice)."""
        losses = [_losses(each.student.predict_proba(self._check.texts), self._check) for each in (now, after)]
        fell, mean = losses[0] - losses[1], max(float(losses[0].mean()), SURELY_WRONG)
        spread = float(fell.std()) / float(np.sqrt(len(fell))) / mean
        asked = sum(each.texts for each in self._measured)
        return Round(asked, texts, float(fell.mean()) / mean, max(spread, 1e-3))


def _losses(probs: Floats, check: Part) -> Floats:
    return np.asarray(-np.log(np.maximum(probs[np.arange(len(check)), check.gold], SURELY_WRONG)))
