"""The texts of a PGKD round in a text-to-text task: the teacher writes them with their answers, and filters decide.

The sibling of `generation.py`. Does not decide what a request says (`form_request.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

from potstill.data.task import GenerationRequest, LabelledText
from potstill.evaluation.calibration import Calibration
from potstill.ledger.prices import micros_to_usd
from potstill.procedures.pgkd.filters import FilterResult, TextFilter
from potstill.procedures.pgkd.form_request import split_request
from potstill.procedures.pgkd.form_tasks import FormTask, GoldT, ModelT
from potstill.procedures.pgkd.generation import RoundPrice, ask_again, cannot_generate, generate_parts
from potstill.procedures.pgkd.generation_request import PgkdOptions
from potstill.procedures.pgkd.rounds import AcquiredTexts, FilteredTexts
from potstill.run.few_shot import select_examples
from potstill.run.free_text_verbs import FreeTextAnswers
from potstill.run.run import Run
from potstill.teachers.base import Teacher
from potstill.teachers.kinds import teacher_kind


class FormTextFilter(TextFilter):
    """The filters of texts; an answer that cannot be learnt takes the place of an unknown label.

    Args:
        form: reads answers.
        train_texts: texts that the student is trained on.
        held_out: name -> texts that may not be copied.
    """

    def __init__(
        self, form: FormTask[Any, Any], train_texts: Sequence[str], held_out: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__((), train_texts, held_out)
        self._form = form

    def label_fault(self, each: LabelledText) -> str:
        """Why the answer cannot be learnt; empty if it can."""
        return self._form.fault(each)


@dataclass(frozen=True)
class FormTextSource(Generic[GoldT, ModelT]):
    """Buys the texts of a round, and filters them; see `open`."""

    run: Run
    form: FormTask[GoldT, ModelT]
    options: PgkdOptions
    teacher: Teacher
    text_filter: TextFilter

    @classmethod
    def open(cls, run: Run, form: FormTask[GoldT, ModelT], options: PgkdOptions) -> FormTextSource[GoldT, ModelT]:
        """The run's teacher and the filters of what it writes. Raises BadSpec if it cannot write."""
        text_filter = FormTextFilter(form, form.gold.texts, form.held_out)
        return cls(run, form, options, _open_teacher(run), text_filter)

    def acquire(self, request: GenerationRequest) -> AcquiredTexts:
        """Buy the texts of the next round."""
        charged = self.run.ledger.totals().charged
        return replace(self._generate(request), charged_before=charged)

    def filter(self, acquired: AcquiredTexts, n_train: int) -> FilteredTexts:
        """Drop copies, unusable texts and answers, ask again for as many (`top_up`), and price the round.

        Args:
            acquired: what was bought.
            n_train: training texts before this round.
        """
        result = self.text_filter(acquired.texts, acquired.shown)
        for turn in range(1, self.options.top_up + 1):
            again = ask_again(acquired, result, turn)
            if again is None or acquired.budget_exhausted:
                break
            more = self._generate(again)
            rest = self.text_filter(more.texts, more.shown)
            result = FilterResult((*result.accepted, *rest.accepted), (*result.rejected, *rest.rejected))
            acquired = replace(
                acquired,
                texts=(*acquired.texts, *more.texts),
                budget_exhausted=more.budget_exhausted,
                requests=(*acquired.requests, *more.requests),
            )
        ledger = self.run.ledger
        # Stored, because a repeated run pays nothing for the same texts.
        price = self.run.compute_once(
            RoundPrice,
            lambda: RoundPrice(micros_to_usd(ledger.totals().charged - acquired.charged_before)),
            self.teacher.key,
            acquired.seed,
            n_train,
        )
        return FilteredTexts(acquired, result, usd=price.usd)

    def _generate(self, request: GenerationRequest) -> AcquiredTexts:
        return generate_parts(self.run, self.teacher, request, split_request(request))


def _open_teacher(run: Run) -> Teacher:
    """The spec's teacher. Raises BadSpec if it cannot write texts with their answers."""
    named = run.spec.teacher
    if named is not None and not teacher_kind(named.kind).capabilities.generates:
        raise cannot_generate(named.name)
    teacher = run.teacher(select_examples(run.pool.subset("train"), run.spec, run.task))
    if not teacher.capabilities.generates:
        raise cannot_generate(teacher.name)
    run.record_teacher(teacher, Calibration(()), FreeTextAnswers((), (), (), ()))
    return teacher
