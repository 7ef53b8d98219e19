"""The verbs of a run on free texts, beside those of `Run`: `ask_free_text`, `learn_free_text`, `evaluate_free_text`.

As there, each looks in the store first, under a key of its content.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.free_text.pool import FreeTextPool, FreeTextSubset
from potstill.data.free_text.token_scores import TokenScores
from potstill.data.task import AnswerMetric, JsonObject, content_key
from potstill.errors import BadSpec
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.text2text.answer_metrics import DEFAULT_METRIC, compute_answer_metrics
from potstill.evaluation.text2text.text_groups import GroupScore, group_scores
from potstill.ledger.prices import Purpose
from potstill.ledger.store import decoded
from potstill.run import notes
from potstill.run.learn_form import LearnKey, learn_form, training_progress
from potstill.run.learn_record import training_digest
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent, FreeTextTrainingData, TokenTargets
from potstill.teachers.base import Teacher


def free_text_pool(run: Run) -> FreeTextPool:
    """The pool of a run on free texts. Raises BadSpec for another run."""
    pool: object = run.pool
    if not isinstance(pool, FreeTextPool):
        raise BadSpec(f"The task {run.task.name!r} has no answers in words.", "Give some: --form free")
    return pool


def answered_texts(subset: FreeTextSubset) -> AnsweredTexts:
    """The texts of a subset that have an answer, with all their references."""
    rows = [i for i, gold in enumerate(subset.gold) if gold]
    return AnsweredTexts([subset.texts[i] for i in rows], [subset.gold[i] or () for i in rows])


@dataclass(frozen=True)
class FreeTextAnswers:
    """A teacher's answers in words to N texts.

    Attributes:
        texts: the N texts, as asked.
        answers: to each text; None if there is none that can be used.
        states: for each text the state of its answer, or "unasked" if the budget ended first.
        tokens: what the teacher thinks of the tokens of each answer; None if it was not asked for, or there is none.
    """

    texts: tuple[str, ...]
    answers: tuple[str | None, ...]
    states: tuple[str, ...]
    tokens: tuple[TokenScores | None, ...]

    @property
    def answered(self) -> AnsweredTexts:
        """The texts with an answer."""
        rows = [(text, answer) for text, answer in zip(self.texts, self.answers, strict=True) if answer is not None]
        return AnsweredTexts([text for text, _ in rows], [(answer,) for _, answer in rows])

    @property
    def answered_tokens(self) -> list[TokenScores | None]:
        """The `tokens` of the texts with an answer."""
        return [own for own, answer in zip(self.tokens, self.answers, strict=True) if answer is not None]

    @property
    def score_source(self) -> tuple[str, ...]:
        """What the answers rest on, as of answers with scores: the words that the teacher wrote."""
        return tuple("written words" if found is not None else "" for found in self.answers)

    @property
    def state_counts(self) -> dict[str, int]:
        """How many texts ended in each state."""
        return dict(Counter(self.states))


def ask_free_text(run: Run, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose = "teach") -> FreeTextAnswers:
    """The teacher's answers in words to the texts; see `Run.ask`."""
    fetched = run.fetch_answers(teacher, texts, purpose=purpose)
    found = [each if isinstance(each, FreeTextAnswer) and each.state == "ok" else None for each in fetched.answers]
    answers = tuple(None if each is None else each.text for each in found)
    tokens = tuple(None if each is None else each.tokens for each in found)
    return FreeTextAnswers(fetched.texts, answers, tuple(fetched.states), tokens)


def learn_free_text(
    run: Run,
    train: AnsweredTexts,
    validation: AnsweredTexts,
    *,
    student: ComponentSpec | None = None,
    token_targets: TokenTargets | None = None,
    purpose: Purpose = "train",
) -> FreeTextStudent:
    """Train a student that answers in words; trained once, then loaded from the run's folder.

    Training may use all available money, stops at that deadline, and is charged the time it took.

    Args:
        run: the run.
        train: the texts to train on.
        validation: texts that say which weights are kept; may be none.
        student: its kind and options; None takes the spec's.
        token_targets: what a teacher thinks of the tokens of `train`; None learns its references.
        purpose: what the training is for.

    Raises:
        BadSpec: the student gives no answers in words.
        BudgetExceeded: no money is available.
    """
    named, task = student or run.spec.student, run.task
    progress, exported = training_progress(run, named), purpose != "teach"
    targets = token_targets or TokenTargets()
    data = FreeTextTrainingData(
        train, validation, run.spec.seed, progress=progress, will_export=exported, token_targets=targets
    )

    def fit(model: FreeTextStudent, limit: float | None) -> None:
        model.fit(replace(data, time_limit_s=limit))

    output = None if task.output is None else task.output.to_json()
    digests = [_digest(part) for part in (train, validation)]
    if token_targets is not None:
        digests.append(_token_digest(token_targets))
    what = LearnKey("learn free text", [task.instruction, output], digests)
    return learn_form(run, named, what, len(train), fit, purpose)


def _token_digest(targets: TokenTargets) -> str:
    own = [json.dumps(each and each.to_json()) for each in targets.scores]
    return training_digest([str(targets.temperature), *own])


@dataclass(frozen=True)
class AnswerEvaluation:
    """The evaluation of a student's answers, and the score of each group of the texts; see `text_groups`."""

    result: EvaluationResult
    groups: tuple[GroupScore, ...] = ()

    def to_json(self) -> JsonObject:
        """A JSON object that `from_json` reads."""
        return {"result": self.result.to_json(), "groups": [asdict(each) for each in self.groups]}

    @classmethod
    def from_json(cls, record: JsonObject) -> AnswerEvaluation:
        """Read what `to_json` returned."""
        groups = tuple(GroupScore(**each) for each in record["groups"])
        return cls(EvaluationResult.from_json(record["result"]), groups)


def answer_metric(run: Run) -> AnswerMetric:
    """The metric that the task's students are compared by."""
    return (run.task.output.metric if run.task.output else None) or DEFAULT_METRIC


def evaluate_free_text(run: Run, student: FreeTextStudent, part: AnsweredTexts, name: str = "") -> AnswerEvaluation:
    """Evaluate a student on answered texts; computed once, then read from the store. Costs nothing."""
    metric = answer_metric(run)
    key = content_key("judge free text", run.student_key(student), _digest(part), metric)
    if (stored := decoded(AnswerEvaluation.from_json, run.store.load([key]).get(key))) is not None:
        return stored
    found = [each.text for each in student.generate(part.texts)]
    result = compute_answer_metrics(found, part.references, metric)
    evaluation = AnswerEvaluation(result, group_scores(metric, part.texts, found, part.references))
    run.store.save({key: evaluation.to_json()})
    run.note(notes.Evaluated(name, len(part.texts), result.main_score.value))
    return evaluation


def _digest(part: AnsweredTexts) -> str:
    pairs = zip(part.texts, part.references, strict=True)
    return training_digest([each for text, own in pairs for each in (text, json.dumps(list(own)))])
