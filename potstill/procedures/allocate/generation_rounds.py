"""PGKD rounds as a purchase of `allocate`: one round at a time, and by how much each lowered the validation loss.

A round is that of `pgkd/rounds.py`. As labels may be bought between two rounds, a round that does not lower the
validation loss is undone, and the next one starts from the best so far. Does not decide whether a round is worth its
price (`next_purchase.py`).
"""

from __future__ import annotations

import numpy as np

from potstill.data.pool import Subset
from potstill.data.task import GenerationRequest
from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import Calibration, one_hot
from potstill.ledger.prices import micros_to_usd
from potstill.procedures.allocate.label_sources import LabelledSet, LabelSources
from potstill.procedures.allocate.priors import GenerationPrior, RoundGain
from potstill.procedures.pgkd.generation import GeneratingTeacher, TextSource
from potstill.procedures.pgkd.generation_request import Floats, TrainingTexts, gold_examples, make_generation_request
from potstill.procedures.pgkd.quote import BIAS_TEXTS
from potstill.procedures.pgkd.rounds import FilteredTexts, RoundLog, RoundStudent, RoundTrainer
from potstill.procedures.soft_labels import calibrate_teacher
from potstill.teachers.generation_quotas import requests_for

MIN_PROBABILITY = 1e-4  # bounds the loss of a text


class GenerationRounds:
    """The rounds of one run. A run that is started again repeats them from the store.

    Attributes:
        accepted: generated texts that are trained on beside the labels, with their targets.
        n_rounds: rounds that were run.
        texts_per_round: how many texts a round asks for.
        teacher: the teacher that generates; None before the first round.
    """

    def __init__(self, sources: LabelSources, validation: Subset) -> None:
        self._sources, self._validation = sources, validation
        self.options = sources.options.generation
        self.accepted = LabelledSet((), np.zeros((0, sources.run.task.n_labels), np.float32))
        self.n_rounds, self.texts_per_round = 0, self.options.texts_per_round
        self.teacher: GeneratingTeacher | None = None
        self._gains: list[RoundGain] = []
        self._without_improvement, self._budget_exhausted = 0, False
        self._log: RoundLog | None = None
        self._best: RoundStudent | None = None

    def unavailable_reason(self, labelled: LabelledSet) -> str:
        """Why no further round can be run; empty if one can."""
        run, llm = self._sources.run, self._sources.llm
        if llm is None:
            return "there is no language model"
        if not llm.capabilities.generates:
            return f"{llm.name} cannot generate texts"
        if run.task.kind != "single":
            return "texts are generated only for tasks with one label per text"
        if self._budget_exhausted or self.n_rounds >= self.options.rounds:
            return "the money for rounds ended" if self._budget_exhausted else "all rounds were run"
        if self._without_improvement >= self.options.patience:
            return f"{self._without_improvement} rounds did not lower the validation loss"
        missing = run.task.n_labels - len(set(labelled.gold.tolist()))
        return f"{missing} labels have no text yet" if missing else ""

    def remaining_texts(self, labelled: LabelledSet) -> int:
        """How many texts the remaining rounds ask for."""
        return 0 if self.unavailable_reason(labelled) else (self.options.rounds - self.n_rounds) * self.texts_per_round

    @property
    def score(self) -> float:
        """Validation accuracy of the student trained on the labels and the accepted texts; 0 without any."""
        return self._best.evaluation.accuracy.value if self._best is not None and len(self.accepted) else 0.0

    def expected_gain(self) -> GenerationPrior:
        """What further rounds are expected to gain."""
        return GenerationPrior(self._gains, seed=self._sources.run.spec.seed)

    def round_usd(self, labelled: LabelledSet) -> float:
        """An upper bound on the expected price of the next round: generating, relabelling, and training the student."""
        llm, trainer, run = self._sources.llm, self._trainer(), self._sources.run
        assert llm is not None
        current = trainer.fit(self.training_rows(labelled), self.n_rounds)
        request = self._request(current, trainer.training_probs(current))
        requests = requests_for(llm.capabilities, request, run.task.labels, gold_examples(run.task, current.train))
        usages = [llm.estimate_generation_usage(each).high for each in requests]
        usd = micros_to_usd(sum(llm.price.cost_micros(usage) for usage in usages))
        n_relabelled = self.texts_per_round if self.options.relabels else 0
        relabelling = n_relabelled * (self._sources.answer_usd(labelled.texts) or 0.0)
        return usd + relabelling + self._sources.training_usd(current.student)

    def training_rows(self, labelled: LabelledSet) -> TrainingTexts:
        """The labels and the accepted texts."""
        rows = labelled.concatenate(self.accepted.texts, self.accepted.targets)
        return TrainingTexts(rows.texts, rows.gold, len(labelled), dict(enumerate(rows.targets)))

    def run_round(self, labelled: LabelledSet) -> None:
        """Run one round, and keep its texts if it lowers the validation loss."""
        run, trainer = self._sources.run, self._trainer()
        try:
            current = trainer.fit(self.training_rows(labelled), self.n_rounds)
            if self._log is None:
                self.teacher = self._open_teacher(labelled)
                self._log, self._best = RoundLog(run, self.teacher.teacher, self.options.rounds, current), current
            train = labelled.concatenate(self.accepted.texts, self.accepted.targets).to_subset()
            held_out = {**run.pool.held_out_texts(), "validation": self._validation.texts}
            source = TextSource(run, train, self.options, teacher=self.teacher, held_out=held_out)
            probs = trainer.training_probs(current)
            request = self._request(current, probs)
            acquired = source.acquire(request, probs, current)
            filtered = source.filter(acquired, current)
            rows = current.train.with_generated(filtered.accepted, run.task, filtered.probs)
            student = trainer.fit(rows, self.n_rounds + 1, init_from=current)
        except BudgetExceeded:
            self._budget_exhausted = True
            return
        self.n_rounds += 1
        improved = student.rank < current.rank
        self._gains.append(self._measure_gain(current, student, request.n))
        self._log.add(request, filtered, student, improved)
        self._without_improvement = 0 if improved else self._without_improvement + 1
        self._budget_exhausted = filtered.acquired.budget_exhausted
        if improved:
            self._accept(filtered, student)

    def _request(self, current: RoundStudent, probs: Floats) -> GenerationRequest:
        run = self._sources.run
        seed = run.spec.seed, self.n_rounds + 1
        return make_generation_request(run.task, current.train, probs, current.evaluation, self.options, seed)

    def _accept(self, filtered: FilteredTexts, student: RoundStudent) -> None:
        task, texts = self._sources.run.task, filtered.accepted
        labels = np.array([task.index(each.label) for each in texts], dtype=np.int64)
        probs = filtered.probs
        targets = one_hot(labels, task.n_labels) if probs is None else np.asarray(probs, dtype=np.float32)
        self._best = student
        self.accepted = self.accepted.concatenate([each.text for each in texts], targets)

    def close(self) -> None:
        """Note the end of the rounds, if there were any."""
        if self._log is not None and self._best is not None:
            self._log.close(self._best)

    def _trainer(self) -> RoundTrainer:
        return RoundTrainer(self._sources.run, self.options, self._validation, self._sources.proxy_student, "plan")

    def _open_teacher(self, labelled: LabelledSet) -> GeneratingTeacher:
        run, llm = self._sources.run, self._sources.llm
        assert llm is not None
        calibration = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
        if llm.needs_prior_correction and self.options.relabels:
            texts = labelled.texts[:BIAS_TEXTS]
            with run.reserve_training():
                answers = run.ask(llm, texts)
            if answers.answered.any():
                calibration = calibrate_teacher(llm, answers, answers, labelled.gold[: len(texts)], run)
        return GeneratingTeacher(llm, calibration)

    def _measure_gain(self, before: RoundStudent, after: RoundStudent, n_texts: int) -> RoundGain:
        """By which share the validation loss fell, and the standard error of that share (the same texts twice)."""
        losses = [
            _losses(each.student.predict_proba(self._validation.texts), self._validation) for each in (before, after)
        ]
        drop, mean = losses[0] - losses[1], max(float(losses[0].mean()), MIN_PROBABILITY)
        std_error = float(drop.std()) / float(np.sqrt(len(drop))) / mean
        texts_before = sum(each.texts for each in self._gains)
        return RoundGain(texts_before, n_texts, float(drop.mean()) / mean, max(std_error, 1e-3))


def _losses(probs: Floats, subset: Subset) -> Floats:
    """(N,) negative log-likelihood of N labels."""
    return np.asarray(-np.log(np.maximum(probs[np.arange(len(subset)), subset.gold], MIN_PROBABILITY)))
