"""A trained student of free texts -> a bundle folder: exported, checked against the original, quantised if that pays.

Two checks come before there is a bundle: the scores of given answers' tokens are the student's, and so are the answers
to the check texts, at least 99.5 % of them. Other answers are allowed only where two tokens were equally probable.
int8 is served only if it loses at most half a point of the task's metric and is faster here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from potstill.bundle.export.export import EDGE_CASES
from potstill.bundle.export.export_form import FormChecks, export_form
from potstill.bundle.export.parity import TOLERANCE, check_transformers_answers, relative_difference
from potstill.bundle.export.quantize import decide_int8, measure_speedup, write_weight_int8
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.bundle.record import BundleRecord, ParityCheck, QuantizationResult
from potstill.data.task import Task
from potstill.errors import BadData
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES, AnswerMetric, answer_score
from potstill.models.greedy_decoding import GeneratedAnswer
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent

ANSWERED_TEXTS, FORCED_TEXTS = 200, 16  # texts that are answered, and whose given answers are scored
TRANSFORMERS_TEXTS = 8  # whose given answers are scored by transformers
TIMED_TEXTS = 32  # that are answered by both graphs in turn, to see which is faster
EDGE_ANSWER = "a"  # to a text of odd length or script
MIN_EQUAL = 0.995  # share of the answers that are the student's


def export_free_text(
    student: FreeTextStudent,
    folder: Path,
    *,
    task: Task,
    check: AnsweredTexts,
    complete: Callable[[FreeTextBundle], BundleRecord] | None = None,
) -> FreeTextBundle:
    """Write the student as a bundle; an earlier bundle in `folder` is replaced only when the new one is complete.

    Args:
        student: trained.
        folder: where the bundle goes; absent, empty, or a bundle.
        task: with answers of the form `free`.
        check: texts to compare student and graph on, best ones it was not trained on; the first 200 are used.
        complete: returns the record of the finished bundle with what only the caller knows: lineage, test metrics.

    Raises:
        BadData: the exported graph does not give what the student gives; nothing was written.
        RunNotFound: the folder holds something that is not a bundle.
    """
    assert task.output is not None
    assert task.output.metric is not None
    some = AnsweredTexts(check.texts[:ANSWERED_TEXTS], check.references[:ANSWERED_TEXTS])
    comparison = _Comparison(student, some, task.output.metric)
    checks = FormChecks[FreeTextBundle](
        parity=comparison.check_parity,
        write_int8=lambda exact, target: write_weight_int8(exact.folder / exact.graph, target),
        accept_int8=comparison.accept_int8 if len(some) else None,
        notes=_notes,
        transformers=comparison.check_transformers,
    )
    return export_form(student, folder, task=task, kind=FreeTextBundle, checks=checks, complete=complete)


def _notes(record: BundleRecord) -> tuple[str, ...]:
    too_long = record.student.get("too_long")
    if not too_long:
        return ()
    limit = record.preprocessor.config["max_tokens"]
    return (
        f"{too_long:.1%} of the answers have more than {limit} tokens and were not learnt (max_tokens under [task]).",
    )


class _Comparison:
    """The answers of the student and of its graphs to the check texts; those of the fp32 graph are written once."""

    def __init__(self, student: FreeTextStudent, check: AnsweredTexts, metric: AnswerMetric) -> None:
        self._student, self._check, self._metric = student, check, metric
        self._exact: list[GeneratedAnswer] = []

    def check_parity(self, exact: FreeTextBundle) -> ParityCheck:
        """The largest difference of a score of given answers' tokens.

        Raises:
            BadData: it is above the tolerance, or the answers differ.
        """
        texts = list(self._check.texts)
        given = [own[0] for own in self._check.references][:FORCED_TEXTS]
        forced = [*texts[:FORCED_TEXTS], *EDGE_CASES]
        difference = self._difference(exact, forced, [*given, *(EDGE_ANSWER for _ in EDGE_CASES)])
        if not difference <= TOLERANCE:
            raise BadData(
                f"The exported graph differs from the student by {difference:.2g} in a score; {TOLERANCE:g} is "
                "allowed.",
                "This is a fault of the exporter: report it, with the versions of torch and onnxruntime.",
            )
        self._exact = exact.generate(texts)
        self._check_answers(exact, texts)
        return ParityCheck(difference, TOLERANCE)

    def _check_answers(self, exact: FreeTextBundle, texts: Sequence[str]) -> None:
        expected = self._student.generate(texts)
        other = [i for i, own in enumerate(expected) if own.text != self._exact[i].text]
        if len(other) <= (1 - MIN_EQUAL) * len(texts):
            return
        # Two tokens that are equally probable may change places; then the scores of both answers still agree.
        seen = other[:FORCED_TEXTS]
        difference = self._difference(exact, [texts[i] for i in seen], [expected[i].text for i in seen])
        if len(seen) < len(other) or not difference <= TOLERANCE:
            raise BadData(
                f"The exported graph answers {len(other):,} of {len(texts):,} texts otherwise than the student.",
                "This is a fault of the exporter: report it, with the versions of torch and onnxruntime.",
            )

    def _difference(self, exact: FreeTextBundle, texts: Sequence[str], answers: Sequence[str]) -> float:
        """The largest difference of a score, relative to scores of the size ten."""
        expected, found = self._student.forced_logits(texts, answers), exact.forced_logits(texts, answers)
        return max(map(relative_difference, expected, found), default=0.0)

    def check_transformers(self, exact: FreeTextBundle) -> tuple[float, str]:
        """See `parity.check_transformers_answers`: of some check texts with their first references."""
        texts = [" ".join(text.split()) for text in (*self._check.texts[:TRANSFORMERS_TEXTS], *EDGE_CASES)]
        given = [own[0] for own in self._check.references][:TRANSFORMERS_TEXTS] + [EDGE_ANSWER] * len(EDGE_CASES)
        answers = exact.preprocessor.encode_answers(given)
        return check_transformers_answers(exact.folder, texts, answers, self._student.forced_logits(texts, given))

    def accept_int8(self, exact: FreeTextBundle, small: FreeTextBundle) -> QuantizationResult:
        """Decide whether int8 is served, by the metric on the check texts and by speed."""
        answers = small.generate(self._check.texts)
        one, other = ([each.text for each in side] for side in (self._exact, answers))
        references = self._check.references
        loss = answer_score(self._metric, one, references) - answer_score(self._metric, other, references)
        agreement = float(np.mean([a == b for a, b in zip(one, other, strict=True)]))
        n = len(one)
        lost = f"{max(0.0, 100 * loss):.1f} points of {METRIC_NAMES[self._metric]} on {n:,} texts"
        some = self._check.texts[:TIMED_TEXTS]
        speedup = measure_speedup(lambda: exact.generate(some), lambda: small.generate(some))
        return decide_int8(loss, speedup, lost, agreement, n)
