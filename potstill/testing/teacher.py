"""The contract of every teacher, as tests. Does not test how good its answers are, or how a server behaves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import ClassVar, get_args
from unittest import SkipTest

from potstill.data.task import (
    Answer,
    AnswerState,
    DescriptionRequest,
    Feedback,
    GenerationRequest,
    LabelledText,
    ScoreMethod,
    StudentPrediction,
    Task,
)
from potstill.errors import TeacherError, UnknownPrice
from potstill.ledger.prices import CATEGORIES, Usage
from potstill.teachers.base import Reply, Teacher
from potstill.testing.checks import ODD_TEXTS, check


class TeacherContract:
    """The contract of every teacher. Override `open_teacher`, and what is different below.

    Attributes:
        task: the task it answers about.
        texts: texts it can answer.
        example: a gold example, for teachers whose prompt shows some.
        deterministic: the same call gives the same answers.
        reads_examples: gold examples change its key.
        simulated: it replays known labels.
        generates: it can generate texts.
        free_units: units of `Usage` that cost nothing on purpose.
        odd_texts: texts that must not make a call fail.
        tolerance: how much two scores of the same text may differ between batches.
    """

    task: ClassVar[Task] = Task(("world", "sports", "business"))
    texts: ClassVar[tuple[str, ...]] = ("news of the world", "sports and more sports", "business as usual")
    example: ClassVar[LabelledText] = LabelledText("a sports day", "sports")
    deterministic: ClassVar[bool] = True
    reads_examples: ClassVar[bool] = True
    simulated: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    free_units: ClassVar[tuple[str, ...]] = ()
    odd_texts: ClassVar[tuple[str, ...]] = ODD_TEXTS
    tolerance: ClassVar[float] = 1e-3

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        """A new teacher of this kind."""
        raise NotImplementedError

    def _opened(self) -> Teacher:
        return self.open_teacher(self.task)

    def _call(self, teacher: Teacher, texts: Sequence[str]) -> Reply:
        """One call, with all that must hold of any call."""
        bound = teacher.max_usage(texts)
        reply = teacher.answer(texts)
        check(len(reply.answers) == len(texts), f"{len(reply.answers)} answers to {len(texts)} texts")
        for answer in reply.answers:
            self._check(answer)
        self._check_usage(teacher, reply.usage, bound)
        return reply

    def _check(self, answer: Answer) -> None:
        check(answer.state in get_args(AnswerState), f"no such state: {answer.state}")
        check(answer.how in get_args(ScoreMethod), f"no such how: {answer.how}")
        check((answer.scores is not None) == (answer.state == "ok"), f"scores in state {answer.state!r}")
        if answer.scores is not None:
            k = self.task.n_labels
            check(len(answer.scores) == k, f"{len(answer.scores)} scores for {k} labels")
            check(all(math.isfinite(score) for score in answer.scores), f"not finite: {answer.scores}")
        check(Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer, "an answer that JSON changes")

    def _check_usage(self, teacher: Teacher, usage: Usage, bound: Usage) -> None:
        for unit in (field.name for field in fields(Usage)):
            used, most = getattr(usage, unit), getattr(bound, unit)
            check(used >= 0, f"{unit} = {used}")
            if unit != "cached_tokens":  # they are part of the input tokens
                check(used <= most, f"{unit} = {used}, bound {most}")
        paid, held = teacher.price.cost_micros(usage), teacher.price.cost_micros(bound)
        check(paid <= held, f"it cost {paid} micro-dollars and {held} were held")

    def test_its_attributes_are_complete(self) -> None:
        """Name, key, category, batch size and metadata are present, and the metadata are JSON."""
        teacher = self._opened()
        check(teacher.name and isinstance(teacher.name, str), "no name")
        check(len(teacher.key) >= 16, f"the key {teacher.key!r} is no content hash")
        check(teacher.category in CATEGORIES, f"no such category: {teacher.category}")
        check(teacher.batch_size >= 1 and teacher.parallel >= 1, "batch and parallel start at one")
        check(isinstance(teacher.needs_prior_correction, bool), "needs_prior_correction is yes or no")
        check(teacher.price.source, "a price without a source")
        json.dumps(teacher.metadata.to_facts())

    def test_a_simulation_is_declared(self) -> None:
        """`simulated` is as declared, and a simulation says so in its facts."""
        teacher = self._opened()
        check(teacher.simulated is self.simulated, f"simulated is {teacher.simulated}")
        if self.simulated:
            check(teacher.metadata.simulation, "its facts do not say that it simulates")

    def test_it_answers_the_given_texts(self) -> None:
        """The texts of this suite get scores, and the call is charged."""
        teacher = self._opened()
        for text in self.texts:
            reply = self._call(teacher, [text])
            check(reply.answers[0].state == "ok", f"{text!r} ended {reply.answers[0]}")
            check(reply.usage != Usage(), "a call that consumed nothing")

    def test_answers_are_in_the_order_of_the_texts(self) -> None:
        """One by one, batched or in threads, a text gets the same answer."""
        teacher = self._opened()
        if not self.deterministic:
            raise SkipTest("its answers vary")
        alone = {text: self._call(teacher, [text]).answers[0] for text in self.texts}
        size = min(teacher.batch_size, len(self.texts))
        for batch in (self.texts[:size], self.texts[:size][::-1]):
            for text, answer in zip(batch, self._call(teacher, batch).answers, strict=True):
                self._same(alone[text], answer, text)
        with ThreadPoolExecutor(min(4, teacher.parallel)) as threads:
            replies = list(threads.map(lambda text: teacher.answer([text]), self.texts))
        for text, reply in zip(self.texts, replies, strict=True):
            self._same(alone[text], reply.answers[0], text)

    def _same(self, one: Answer, other: Answer, text: str) -> None:
        check(one.state == other.state, f"{text!r} ended {one.state} and then {other.state}")
        gaps = [abs(a - b) for a, b in zip(one.scores or (), other.scores or (), strict=True)]
        check(max(gaps, default=0.0) <= self.tolerance, f"{text!r} got {one.scores} and then {other.scores}")

    def test_no_text_makes_a_call_fail(self) -> None:
        """Whatever the text, the call returns a state for it, within its bound."""
        teacher = self._opened()
        for text in self.odd_texts:
            self._call(teacher, [text])

    def test_a_longer_text_never_has_a_lower_bound(self) -> None:
        """The bound grows with the texts, or stays."""
        teacher = self._opened()
        short, long = (teacher.price.cost_micros(teacher.max_usage([text])) for text in ("word", "word " * 1000))
        check(short <= long, f"one word is bound to {short}, a thousand to {long}")

    def test_the_key_is_the_content(self) -> None:
        """Opened twice it is the same; another task, or other examples, make another."""
        key = self._opened().key
        check(key == self._opened().key, "the same teacher has two keys")
        if self.reads_examples:
            check(key != self.open_teacher(self.task, [self.example]).key, "examples do not change the key")
            other = replace(self.task, instruction="Decide something else.")
            check(key != self.open_teacher(other).key, "another instruction does not change the key")

    def test_no_unit_is_free_by_accident(self) -> None:
        """A unit without a rate is refused; it never costs nothing."""
        teacher = self._opened()
        for unit in (field.name for field in fields(Usage)):
            if unit in self.free_units or unit == "cached_tokens":
                continue
            try:
                cost = teacher.price.cost_micros(Usage(**{unit: 10_000_000}))
            except UnknownPrice:
                continue
            check(cost > 0, f"ten million {unit} cost nothing")

    def test_it_generates_as_requested_or_refuses(self) -> None:
        """At most n texts, for the label asked, within the bound; or one TeacherError."""
        teacher = self._opened()
        request = GenerationRequest(self.example.label, 2, examples=(self.example,))
        bound = teacher.max_generation_usage(request)
        try:
            generated = teacher.generate(request)
        except TeacherError:
            check(not self.generates, "it was declared to generate")
            return
        check(self.generates, "it was declared not to generate")
        check(len(generated.texts) <= 2, f"{len(generated.texts)} texts where two were asked")
        check(all(item.label == request.label and item.text.strip() for item in generated.texts), f"{generated.texts}")
        self._check_usage(teacher, generated.usage, bound)

    def test_it_describes_a_label_if_it_declares_it(self) -> None:
        """At most one text, of the label asked, within the bound."""
        teacher = self._opened()
        if not teacher.capabilities.describes_labels:
            raise SkipTest("it describes no labels")
        for examples in ((self.example,), (replace(self.example, label=""),)):
            request = DescriptionRequest(self.example.label, 1, examples=examples)
            bound = teacher.max_generation_usage(request)
            generated = teacher.generate(request)
            check(len(generated.texts) <= 1, f"{len(generated.texts)} descriptions of one label")
            check(all(item.label == request.label and item.text.strip() for item in generated.texts), f"{generated}")
            self._check_usage(teacher, generated.usage, bound)

    def test_it_generates_with_feedback_if_it_declares_it(self) -> None:
        """At most n texts of the task's labels (or of none, if unreadable), within the bound."""
        teacher = self._opened()
        if not (self.generates and teacher.capabilities.reads_feedback):
            raise SkipTest("it takes one label at a time")
        error = StudentPrediction(self.example.text, self.example.label, self.task.labels[0], 0.9)
        request = GenerationRequest("", 2, examples=(self.example,), feedback=Feedback(hard_negatives=(error,)))
        bound = teacher.max_generation_usage(request)
        generated = teacher.generate(request)
        check(len(generated.texts) <= 2, f"{len(generated.texts)} texts where two were asked")
        check(all(item.label in ("", *self.task.labels) for item in generated.texts), f"{generated.texts}")
        self._check_usage(teacher, generated.usage, bound)
