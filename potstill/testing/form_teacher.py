"""What the contracts of teachers in text-to-text tasks share: how texts are written with their answers."""

from __future__ import annotations

from unittest import SkipTest

from potstill.data.entities.answers import NamedEntity
from potstill.data.entities.build import decode_entities
from potstill.data.form_feedback import FormFeedback
from potstill.data.task import GenerationRequest, LabelledText, StudentPrediction
from potstill.errors import TeacherError
from potstill.teachers.entity_prompt import encode_named
from potstill.teachers.written_answers import encode_written_answer, read_written_answer, read_written_entities
from potstill.testing.checks import check
from potstill.testing.teacher import TeacherContract


class FormTeacherContract(TeacherContract):
    """The contract of every teacher in text-to-text tasks, without what is of one form."""

    def _written_example(self) -> LabelledText:
        """The example as a request shows it."""
        text, label = self.example.text, self.example.label
        if self.task.form == "free":
            return LabelledText(text, encode_written_answer(label))
        named = [NamedEntity(text[each.start : each.end], each.type) for each in decode_entities(label) or ()]
        return LabelledText(text, encode_named(named))

    def _request(self) -> GenerationRequest:
        example = self._written_example()
        error = StudentPrediction(example.text, example.label, example.label, 0.9)
        feedback = FormFeedback(accuracy=0.5, metric="the score", correct=(error,), hard_negatives=(error,))
        return GenerationRequest("", 2, examples=(example,), feedback=feedback)

    def test_it_generates_as_requested_or_refuses(self) -> None:
        """At most n texts with answers that can be read (or with none), within the bound; or one TeacherError."""
        teacher, request = self._opened(), self._request()
        check(teacher.capabilities.generates is self.generates, f"it was declared that generates = {self.generates}")
        bound = teacher.max_generation_usage(request)
        try:
            generated = teacher.generate(request)
        except TeacherError:
            check(not self.generates, "it was declared to generate")
            return
        check(self.generates, "it was declared not to generate")
        check(len(generated.texts) <= 2, f"{len(generated.texts)} texts where two were asked")
        read = read_written_answer if self.task.form == "free" else read_written_entities
        for each in generated.texts:
            check(bool(each.text.strip()), "a text without a character")
            check(each.label == "" or read(each.label) is not None, f"an answer that cannot be read: {each.label}")
        self._check_usage(teacher, generated.usage, bound)

    def test_it_generates_with_feedback_if_it_declares_it(self) -> None:
        """In text-to-text tasks there is no other request."""
        raise SkipTest("it is tested as requested")
