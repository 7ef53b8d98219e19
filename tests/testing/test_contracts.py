"""The contract suites themselves: an honest kind passes, and each way of being wrong is caught."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import potstill.testing
from potstill.data.task import Answer, GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadData, TeacherError
from potstill.ledger.prices import Rates, Usage
from potstill.models.features import VectorizerConfig
from potstill.students.base import ExportedGraph, Floats, StudentConfig, TrainingData
from potstill.teachers.base import GeneratedTexts, Reply, TeacherCapabilities, TeacherMetadata
from potstill.teachers.price_options import parse_rates
from potstill.testing import StudentContract, TeacherContract, run_contract

# --- teachers ----------------------------------------------------------------------------------------------


class Honest:
    """A teacher that keeps every promise: it looks for the label's name in the text."""

    def __init__(self, task: Task, examples: Sequence[LabelledText] = ()) -> None:
        self.task = task
        self.name = "honest"
        self.key = content_key(task.key, [(each.text, each.label) for each in examples])
        self.category = "llm"
        self.price: Any = parse_rates({"usd_per_million_input": 1, "usd_per_million_output": 2}, "here")
        self.generation_key = self.key
        self.capabilities = TeacherCapabilities(generates=True)
        self.batch_size, self.parallel = 8, 4
        self.simulated = self.needs_prior_correction = self.greenlet_safe = False
        self.metadata = TeacherMetadata(price="here", model="none")

    def max_usage(self, texts: Sequence[str]) -> Usage:
        return Usage(input_tokens=sum(10 + len(text) for text in texts), output_tokens=len(texts))

    def one(self, text: str) -> Answer:
        return Answer("ok", tuple(0.0 if label in text else -3.0 for label in self.task.labels), "scored")

    def answer(self, texts: Sequence[str]) -> Reply:
        return Reply(tuple(self.one(text) for text in texts), self.max_usage(texts))

    def max_generation_usage(self, brief: GenerationRequest) -> Usage:
        return Usage(output_tokens=10 * brief.n)

    def generate(self, brief: GenerationRequest) -> GeneratedTexts:
        return GeneratedTexts((LabelledText("a text", brief.label),), Usage(output_tokens=5))


class OutOfOrder(Honest):
    def answer(self, texts: Sequence[str]) -> Reply:
        return super().answer(sorted(texts))


class Short(Honest):
    def answer(self, texts: Sequence[str]) -> Reply:
        return super().answer([text for text in texts if text.strip()])


class MissingColumn(Honest):
    def one(self, text: str) -> Answer:
        return Answer("ok", (0.0, -1.0), "scored")


class NotFinite(Honest):
    def one(self, text: str) -> Answer:
        return Answer("ok", (0.0, float("-inf"), float("-inf")), "scored")


class ScoresWithoutAnswer(Honest):
    def one(self, text: str) -> Answer:
        answer = super().one(text)
        return answer if text.strip() else Answer("refused", answer.scores)


class InventedState(Honest):
    def one(self, text: str) -> Answer:
        return super().one(text) if text.strip() else Answer("shrug")  # type: ignore[arg-type]


class Greedy(Honest):
    def answer(self, texts: Sequence[str]) -> Reply:
        reply = super().answer(texts)
        return Reply(reply.answers, Usage(input_tokens=reply.usage.input_tokens + 1))


class Free(Honest):
    def answer(self, texts: Sequence[str]) -> Reply:
        return Reply(super().answer(texts).answers, Usage())


class Raises(Honest):
    def one(self, text: str) -> Answer:
        text.encode("utf-8")
        return super().one(text)


class Moody(Honest):
    asked = 0

    def one(self, text: str) -> Answer:
        Moody.asked += 1
        return Answer("ok", (0.0, -float(Moody.asked), -1.0), "scored")


class DeafToExamples(Honest):
    def __init__(self, task: Task, examples: Sequence[LabelledText] = ()) -> None:
        super().__init__(task)


class NewKeyEachTime(Honest):
    opened = 0

    def __init__(self, task: Task, examples: Sequence[LabelledText] = ()) -> None:
        super().__init__(task, examples)
        NewKeyEachTime.opened += 1
        self.key = content_key(NewKeyEachTime.opened)


class HiddenSimulation(Honest):
    def __init__(self, task: Task, examples: Sequence[LabelledText] = ()) -> None:
        super().__init__(task, examples)
        self.simulated = True


class UnknownIsZero(Honest):
    def __init__(self, task: Task, examples: Sequence[LabelledText] = ()) -> None:
        super().__init__(task, examples)

        class Careless(Rates):
            def cost_micros(self, usage: Usage) -> int:
                return usage.input_tokens

        self.price = Careless("here")


class WritesTooMuch(Honest):
    def generate(self, brief: GenerationRequest) -> GeneratedTexts:
        return GeneratedTexts((LabelledText("a text", brief.label),) * (brief.n + 1), Usage(output_tokens=5))


class WritesAnotherLabel(Honest):
    def generate(self, brief: GenerationRequest) -> GeneratedTexts:
        return GeneratedTexts((LabelledText("a text", "world"),), Usage(output_tokens=5))


class CannotWrite(Honest):
    def generate(self, brief: GenerationRequest) -> GeneratedTexts:
        raise TeacherError("no", "")


WRONG_TEACHERS = {
    OutOfOrder: "test_answers_are_in_the_order_of_the_texts",
    Short: "test_no_text_makes_a_call_fail",
    MissingColumn: "test_it_answers_the_given_texts",
    NotFinite: "test_it_answers_the_given_texts",
    ScoresWithoutAnswer: "test_no_text_makes_a_call_fail",
    InventedState: "test_no_text_makes_a_call_fail",
    Greedy: "test_it_answers_the_given_texts",
    Free: "test_it_answers_the_given_texts",
    Raises: "test_no_text_makes_a_call_fail",
    Moody: "test_answers_are_in_the_order_of_the_texts",
    DeafToExamples: "test_the_key_is_the_content",
    NewKeyEachTime: "test_the_key_is_the_content",
    HiddenSimulation: "test_a_simulation_is_declared",
    UnknownIsZero: "test_no_unit_is_free_by_accident",
    WritesTooMuch: "test_it_generates_as_requested_or_refuses",
    WritesAnotherLabel: "test_it_generates_as_requested_or_refuses",
    CannotWrite: "test_it_generates_as_requested_or_refuses",
}


def teacher_contract(kind: type[Honest]) -> TeacherContract:
    class Contract(TeacherContract):
        def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Any:
            return kind(task, examples)

    return Contract()


def test_an_honest_teacher_keeps_every_promise() -> None:
    assert run_contract(teacher_contract(Honest)) == {}


@pytest.mark.parametrize(("kind", "caught_by"), WRONG_TEACHERS.items(), ids=lambda it: getattr(it, "__name__", ""))
def test_a_wrong_teacher_is_caught(kind: type[Honest], caught_by: str) -> None:
    assert caught_by in run_contract(teacher_contract(kind))


# --- students ----------------------------------------------------------------------------------------------


class Counter:
    """A student that keeps every promise: a table of how often each word stood with each label."""

    def __init__(self, make: StudentConfig) -> None:
        self.labels = tuple(make.labels)
        self.table: dict[str, list[float]] = {}

    def fit(self, lesson: TrainingData) -> Self:
        targets = np.asarray(lesson.targets)
        if not len(lesson.texts) or targets.shape != (len(lesson.texts), len(self.labels)):
            raise BadData("not (N, K)", "")
        if not np.isfinite(targets).all() or (targets < 0).any() or abs(targets.sum(1) - 1).max() > 1e-3:
            raise BadData("no distributions", "")
        weights = np.ones(len(targets)) if lesson.sample_weight is None else lesson.sample_weight
        for text, target, weight in zip(lesson.texts, targets, weights, strict=True):
            for word in text.split():
                row = self.table.setdefault(word, [0.1] * len(self.labels))
                self.table[word] = [float(a + weight * b) for a, b in zip(row, target, strict=True)]
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        logits = np.zeros((len(texts), len(self.labels)))
        for row, text in enumerate(texts):
            for word in text.split()[:50]:
                if word in self.table:
                    counts = np.array(self.table[word])
                    logits[row] += np.log(counts / counts.sum())
        return logits.astype(np.float32)

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        raised = np.exp(self.predict_logits(texts) - self.predict_logits(texts).max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Floats:
        return self.predict_logits(texts)

    def save(self, folder: Path) -> None:
        (folder / "table.json").write_text(json.dumps([self.labels, self.table]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        labels, table = json.loads((folder / "table.json").read_text())
        student = cls(StudentConfig(tuple(labels)))
        student.table = table
        return student

    def export(self, folder: Path) -> ExportedGraph:
        raise BadData("it cannot be exported", "")


class Untaught(Counter):
    def fit(self, lesson: TrainingData) -> Self:
        super().fit(lesson)
        self.table = {}
        return self


class HardHeaded(Counter):
    def fit(self, lesson: TrainingData) -> Self:
        targets = np.asarray(lesson.targets)
        super().fit(lesson)
        self.table = {}
        hard = np.eye(len(self.labels), dtype=np.float32)[targets.argmax(1)]
        return super().fit(TrainingData(lesson.texts, hard))


class Trusting(Counter):
    def fit(self, lesson: TrainingData) -> Self:
        n = min(len(lesson.texts), len(lesson.targets))
        padded = np.zeros((n, len(self.labels)), dtype=np.float32)
        padded[:, : lesson.targets.shape[1]] = lesson.targets[:n]
        flat = np.abs(np.nan_to_num(padded)) + 1e-6
        return super().fit(TrainingData(lesson.texts[:n], flat / flat.sum(1, keepdims=True)))


class SumsToTwo(Counter):
    def predict_proba(self, texts: Sequence[str]) -> Floats:
        return super().predict_proba(texts) * 2


class DoublePrecision(Counter):
    def predict_logits(self, texts: Sequence[str]) -> Floats:
        return super().predict_logits(texts).astype(np.float64)  # type: ignore[return-value]


class LooksAtTheBatch(Counter):
    def predict_logits(self, texts: Sequence[str]) -> Floats:
        return super().predict_logits(texts) * np.float32(1 + 0.1 * len(texts))


class ChokesOnNothing(Counter):
    def predict_logits(self, texts: Sequence[str]) -> Floats:
        return np.stack([super(ChokesOnNothing, self).predict_logits([text])[0] for text in texts])


class Dice(Counter):
    def fit(self, lesson: TrainingData) -> Self:
        super().fit(lesson)
        self.table["the"] = np.random.default_rng().uniform(0.1, 5, len(self.labels)).tolist()
        return self


class ForgetsOnLoad(Counter):
    @classmethod
    def load(cls, folder: Path) -> Self:
        student = super().load(folder)
        student.table.popitem()
        return student


class Pickles(Counter):
    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "more").write_bytes(b"\x80\x04.")


class ExportsNonsense(Counter):
    def export(self, folder: Path) -> ExportedGraph:
        (folder / "model.onnx").write_bytes(b"nothing")
        return ExportedGraph("features", VectorizerConfig("ngrams"), False)


WRONG_STUDENTS = {
    Untaught: "test_it_learns_a_separable_task",
    HardHeaded: "test_soft_targets_give_softer_predictions",
    Trusting: "test_bad_targets_are_refused",
    SumsToTwo: "test_predictions_are_rows_of_probabilities",
    DoublePrecision: "test_predictions_are_rows_of_probabilities",
    LooksAtTheBatch: "test_a_prediction_does_not_depend_on_the_batch",
    ChokesOnNothing: "test_any_text_gets_an_answer",
    Dice: "test_equal_training_data_give_equal_students",
    ForgetsOnLoad: "test_a_saved_student_loads_as_it_was",
    Pickles: "test_a_saved_student_loads_as_it_was",
    ExportsNonsense: "test_the_exported_graph_runs",
}


def student_contract(kind: Callable[[StudentConfig], Any]) -> StudentContract:
    class Contract(StudentContract):
        def make_student(self, make: StudentConfig) -> Any:
            return kind(make)

    return Contract()


def test_an_honest_student_keeps_every_promise() -> None:
    assert run_contract(student_contract(Counter)) == {}


@pytest.mark.parametrize(("kind", "caught_by"), WRONG_STUDENTS.items(), ids=lambda it: getattr(it, "__name__", ""))
def test_a_wrong_student_is_caught(kind: type[Counter], caught_by: str) -> None:
    assert caught_by in run_contract(student_contract(kind))


def test_no_test_of_a_suite_is_marked_for_all_its_users() -> None:
    suites = [each for each in vars(potstill.testing).values() if isinstance(each, type)]
    marked = [name for suite in suites for name, test in vars(suite).items() if hasattr(test, "pytestmark")]
    assert not marked, "pytest stores a mark in the function: take a copy of it, as support/nightly.py does"
