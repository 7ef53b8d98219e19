"""The contract of every student that answers in words, as tests on short texts. Does not test quality or speed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from potstill.data.task import Output
from potstill.errors import BadData
from potstill.evaluation.text2text.answer_metrics import answer_score
from potstill.models.greedy_decoding import GeneratedAnswer
from potstill.students.base import StudentConfig
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent, FreeTextTrainingData
from potstill.testing.checks import ODD_TEXTS, check


class FreeTextStudentContract:
    """The contract of every student that answers in words. Override `make_student`, and what is different below.

    Attributes:
        min_score: token F1 it reaches on its training texts, whose answers name the topics of two words in order.
        tolerance: how much two confidences in one answer may differ between batches.
        topics: word of an answer -> the words of texts that stand for it.
        fillers: words without a topic.
    """

    min_score: ClassVar[float] = 0.9
    tolerance: ClassVar[float] = 1e-3
    topics: ClassVar[dict[str, tuple[str, ...]]] = {"food": ("soup", "bread", "cheese"), "money": ("bank", "loan")}
    fillers: ClassVar[tuple[str, ...]] = ("the", "and", "please", "a")
    _fitted: FreeTextStudent | None = None

    def make_student(self, config: StudentConfig) -> FreeTextStudent:
        """A new, untrained student of this kind."""
        raise NotImplementedError

    def training_data(self) -> FreeTextTrainingData:
        """100 short texts of two words with a topic."""
        words = [(word, topic) for topic, own in self.topics.items() for word in own]
        texts, references = [], []
        for nth in range(100):
            (first, one), (second, other) = words[nth % len(words)], words[nth // len(words) % len(words)]
            filler = self.fillers[nth // len(words) ** 2 % len(self.fillers)]
            texts.append(f"{filler} {first} {second}")
            references.append((f"{one} {other}",))
        return FreeTextTrainingData(AnsweredTexts(texts, references), seed=1)

    def _fit(self, data: FreeTextTrainingData, output: Output = Output("free")) -> FreeTextStudent:  # noqa: B008
        return self.make_student(StudentConfig((), kind="text2text", output=output)).fit(data)

    def _fitted_student(self) -> FreeTextStudent:
        fitted: FreeTextStudent | None = vars(type(self)).get("_fitted")
        if fitted is None:
            fitted = type(self)._fitted = self._fit(self.training_data())
        return fitted

    def test_it_learns_answers_of_two_words(self) -> None:
        """The answers to its training texts are found."""
        train = self.training_data().train
        answers = [each.text for each in self._fitted_student().generate(train.texts)]
        score = answer_score("token_f1", answers, train.references)
        check(score >= self.min_score, f"it answers its own training texts with a token F1 of {score:.2f}")

    def test_any_text_gets_an_answer(self) -> None:
        """Odd texts, and none at all."""
        student = self._fitted_student()
        found = student.generate(list(ODD_TEXTS))
        check(len(found) == len(ODD_TEXTS), f"{len(found)} answers for {len(ODD_TEXTS)} texts")
        for each in found:
            check(isinstance(each.text, str), f"{each.text!r} is no text")
            check(0 <= each.confidence <= 1, f"a confidence of {each.confidence}")
        check(student.generate([]) == [], "no texts have answers")

    def test_a_text_has_the_same_answer_alone_and_among_others(self) -> None:
        """Batches change nothing."""
        student, texts = self._fitted_student(), [*self.training_data().train.texts[:12], "a much longer text " * 8]
        self._equal(student.generate(texts), [student.generate([text])[0] for text in texts], "alone")

    def test_scores_of_given_answers_are_a_row_a_token(self) -> None:
        """Finite, and highest for what it writes by itself."""
        student, texts = self._fitted_student(), list(self.training_data().train.texts[:3])
        written = student.generate(texts)
        for own, scores in zip(written, student.forced_logits(texts, [each.text for each in written]), strict=True):
            check(scores.ndim == 2 and bool(np.isfinite(scores).all()), f"scores of the shape {scores.shape}")
            top = scores - scores.max(axis=1, keepdims=True)
            log_probs = top.max(axis=1) - np.log(np.exp(top).sum(axis=1))
            mean = float(np.exp(log_probs.mean()))
            check(abs(mean - own.confidence) <= self.tolerance, f"a confidence of {own.confidence}, and {mean}")

    def test_scores_of_tokens_are_those_of_its_answers(self) -> None:
        """If its kind gives any: probabilities of the tokens that it wrote, and of all others together."""
        student: Any = self._fitted_student()
        if not student.capabilities.token_scores:
            return
        texts = list(self.training_data().train.texts[:5])
        written = student.generate(texts)
        found = student.generate_scored(texts, 3)
        check([each.answer.text for each in found] == [each.text for each in written], "other answers with scores")
        for own, logits in zip(found, student.forced_logits(texts, [each.text for each in written]), strict=True):
            scores = own.scores
            log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            top = np.sort(log_probs, axis=1)[:, :-4:-1]
            check(scores.top_ids.shape == (len(logits), 3), f"{scores.top_ids.shape} tokens of {logits.shape}")
            check(bool(np.abs(scores.top_log_probs - top).max() <= self.tolerance), "probabilities of other tokens")
            whole = np.exp(scores.top_log_probs).sum(axis=1) + np.exp(scores.rest_log_probs)
            check(bool(np.abs(whole - 1).max() <= self.tolerance), f"probabilities that sum to {whole}")
            check(scores.tokenizer == student.tokenizer_key(), "the hash of another tokenizer")
            check((scores.ids == scores.top_ids[:, 0]).all(), "tokens that are not the most probable ones")

    def test_it_is_the_same_after_saving(self) -> None:
        """What `load` returns answers exactly the same."""
        texts, student = self.training_data().train.texts[:12], self._fitted_student()
        with tempfile.TemporaryDirectory() as folder:
            student.save(Path(folder))
            again = type(student).load(Path(folder))
        self._equal(student.generate(texts), again.generate(texts), "after saving", within=0.0)
        json.dumps(dict(again.metadata))

    def test_the_order_of_the_texts_does_not_matter(self) -> None:
        """Equal data give equal students."""
        train = self.training_data().train
        texts, references = list(train.texts)[:16], list(train.references)[:16]
        one = self._fit(FreeTextTrainingData(AnsweredTexts(texts, references), seed=3))
        other = self._fit(FreeTextTrainingData(AnsweredTexts(texts[::-1], references[::-1]), seed=3))
        self._equal(one.generate(texts), other.generate(texts), "in another order")

    def test_no_answer_is_longer_than_the_limit(self) -> None:
        """Longer ones are not learnt, and what is written ends there."""
        data = self.training_data()
        texts, references = list(data.train.texts)[:16], [*data.train.references[:15], ("food money " * 8,)]
        student = self._fit(replace(data, train=AnsweredTexts(texts, references)), Output("free", max_tokens=4))
        for each in student.generate(texts):
            check(len(each.text.split()) <= 4, f"{each.text!r} is longer than four tokens")

    def test_texts_without_an_answer_are_refused(self) -> None:
        """There is nothing to learn."""
        try:
            self._fit(FreeTextTrainingData(AnsweredTexts()))
        except BadData:
            return
        check(False, "it was trained on no answer")

    def test_progress_is_reported(self) -> None:
        """Shares between 0 and 1."""
        shares: list[float] = []
        data = self.training_data()
        self._fit(replace(data, time_limit_s=1.0, progress=lambda share, _: shares.append(share)))
        check(bool(shares), "no progress was reported")
        check(all(0 <= share <= 1 for share in shares), "a share outside of 0 to 1")

    def _equal(
        self, one: Sequence[GeneratedAnswer], other: Sequence[GeneratedAnswer], what: str, within: float | None = None
    ) -> None:
        limit = self.tolerance if within is None else within
        for mine, theirs in zip(one, other, strict=True):
            check(mine.text == theirs.text, f"another answer {what}: {mine.text!r} and {theirs.text!r}")
            check(abs(mine.confidence - theirs.confidence) <= limit, f"another confidence {what}")
