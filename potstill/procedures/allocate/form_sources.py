"""Where `allocate` gets answers in a text-to-text task: people, simulated, and the spec's teacher. Decides nothing.

The sibling of `label_sources.py`. People do not answer here yet, so that without a simulation a price of theirs is
compared and nothing is bought from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np

from potstill.errors import BadData, BadSpec, UnknownPrice
from potstill.ledger.prices import micros_to_usd
from potstill.procedures.allocate.label_sources import AllocateOptions, mean_answer_usd
from potstill.procedures.pgkd.form_tasks import AnsweredRows, AskedRows, FormTask, GoldT, ModelT
from potstill.procedures.soft_labels import gold_row_weight
from potstill.run.few_shot import select_examples
from potstill.run.open_teacher import training_reserve
from potstill.run.run import Run
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.human_labels import human_price
from potstill.teachers.kinds import teacher_kind
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.simulated_form_annotator import open_form_annotator

# Options that are about labels, or about sources of labels that are no source of answers yet.
OPTIONS_OF_LABELS = (
    "large_model",
    "large_model_options",
    "generation",
    "query_strategy",
    "cold_start",
    "proxy_student",
)


@dataclass(frozen=True)
class FormState(Generic[GoldT]):
    """What was bought so far, and what is left.

    Attributes:
        gold: texts with their gold answers, for training.
        unlabelled: the other texts, in random order; the teacher is asked about the first, people about the last.
        n_asked: how many of the first texts the teacher was asked about.
    """

    gold: AnsweredRows[GoldT]
    unlabelled: tuple[str, ...]
    n_asked: int = 0

    @property
    def asked(self) -> tuple[str, ...]:
        """The texts that the teacher was asked about."""
        return self.unlabelled[: self.n_asked]

    @property
    def n_sellable(self) -> int:
        """Texts that people may still answer."""
        return len(self.unlabelled) - self.n_asked

    def with_asked(self, n: int) -> FormState[GoldT]:
        """After the teacher was asked about `n` texts in all."""
        return replace(self, n_asked=n)


@dataclass(frozen=True)
class FormSources(Generic[GoldT, ModelT]):
    """The sources of one run.

    Attributes:
        run: pays.
        form: the task.
        options: of `allocate`.
        usd_per_label: the price of a gold answer; None without one.
        annotator: simulated people; None if gold cannot be bought.
        teacher: the spec's teacher; None without one.
    """

    run: Run
    form: FormTask[GoldT, ModelT]
    options: AllocateOptions
    usd_per_label: float | None
    annotator: Teacher | None
    teacher: Teacher | None

    @classmethod
    def open(cls, run: Run, form: FormTask[GoldT, ModelT], options: AllocateOptions) -> FormSources[GoldT, ModelT]:
        """The sources that the spec names.

        Raises:
            BadSpec: an option of tasks of labels, or a teacher that is trained first.
            UnknownPrice: there is an annotator, and gold has no price.
        """
        for name in OPTIONS_OF_LABELS:
            if name in options.model_fields_set and getattr(options, name):
                raise BadSpec(
                    f"{name} is about labels, and this task is {form.of}: gold and the teacher's answers are compared.",
                    f"Leave {name} out.",
                )
        prices = PriceOptions.parse(run.spec.prices)
        try:
            usd_per_label = micros_to_usd(round(1e6 * float(human_price(prices).usd_per_label or 0))) or None
        except UnknownPrice:
            if options.annotator:
                raise
            usd_per_label = None
        annotator = None
        if usd_per_label is not None:
            setup = TeacherSetup(
                run.task, options=options.annotator, prices=prices, workspace=run.spec.folder, seed=run.spec.seed
            )
            annotator = open_form_annotator(setup, form.hidden)
        return cls(run, form, options, usd_per_label, annotator, _open_teacher(run))

    @property
    def free_usd(self) -> float:
        """What may be spent beside the training reserve."""
        return micros_to_usd(max(0, self.run.ledger.free - training_reserve(self.run.spec)))

    def answer_usd(self, texts: Sequence[str]) -> float | None:
        """The expected price of a teacher's answer; None without one."""
        return None if self.teacher is None or not texts else mean_answer_usd(self.teacher, texts)

    def ask_teacher(self, texts: Sequence[str]) -> AskedRows[GoldT]:
        """The teacher's answers."""
        assert self.teacher is not None
        with self.run.reserve_training():
            return self.form.ask(self.run, self.teacher, texts)

    def buy_gold(self, state: FormState[GoldT], n: int) -> FormState[GoldT]:
        """After people were asked about the last `n` texts; those they skip are left out."""
        assert self.annotator is not None
        texts = state.unlabelled[len(state.unlabelled) - n :]
        with self.run.reserve_training():
            bought = self.form.ask(self.run, self.annotator, texts)
        states = dict(zip(bought.asked.texts, bought.asked.states, strict=True))
        left = tuple(text for text in state.unlabelled if states.get(text, "unasked") == "unasked")
        gold = AnsweredRows(
            (*state.gold.texts, *bought.texts), (*state.gold.answers, *bought.answers), len(state.gold.texts)
        )
        return replace(state, gold=replace(gold, n_gold=len(gold.texts)), unlabelled=left)

    def combine(self, gold: AnsweredRows[GoldT], answered: AskedRows[GoldT], n: int) -> AnsweredRows[GoldT]:
        """Gold, repeated until it is a fifth of the rows, and the first `n` of a teacher's answers, as in `kd`."""
        times = round(gold_row_weight(len(gold.texts), n))
        rows = AnsweredRows(gold.texts * times, gold.answers * times, len(gold.texts) * times)
        return rows.with_generated(answered.texts[:n], answered.answers[:n])


def open_state(sources: FormSources[GoldT, ModelT]) -> FormState[GoldT]:
    """The gold to begin with, bought if there is too little.

    Raises:
        BadData: too little gold and none for sale, or no validation text.
    """
    run, form, wanted = sources.run, sources.form, sources.options.pilot_labels
    texts = run.pool.subset("pool").texts
    order = np.random.default_rng(run.spec.seed).permutation(len(texts))
    state = FormState(form.gold, tuple(texts[row] for row in order))
    missing = min(wanted - len(state.gold.texts), len(texts))
    if missing > 0 and sources.annotator is not None:
        state = sources.buy_gold(state, missing)
    n_gold = len(state.gold.texts)
    if n_gold < max(wanted // 2, 8) or not any(form.held_out["validation"]):
        raise BadData(
            f"There are {n_gold} training texts with an answer and {len(form.held_out['validation'])} of validation; "
            f"planning needs {max(wanted // 2, 8)} and 1.",
            "Answer more texts, or lower `pilot_labels` under [procedure].",
        )
    return state


def _open_teacher(run: Run) -> Teacher | None:
    named = run.spec.teacher
    if named is None or teacher_kind(named.kind).capabilities.human:  # people are the annotator
        return None
    if teacher_kind(named.kind).capabilities.needs_student:
        raise BadSpec(
            f"The teacher {named.name!r} is trained first, and what that costs is not estimated for answers.",
            "Take an LLM as the teacher, or --procedure kd.",
        )
    return run.teacher(select_examples(run.pool.subset("train"), run.spec, run.task))
