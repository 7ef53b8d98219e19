"""The simulated writer of the replay teacher in text-to-text tasks: real texts with their answers, none served twice.

The sibling of `replay_generation.py`: the texts nearest to those that the student answers wrongly, by their words.
Their answers have errors as the replayed ones do. Does not simulate how a model writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from potstill.data.task import GenerationRequest, LabelledText, OutputForm, StudentPrediction, content_key
from potstill.errors import BadSpec
from potstill.ledger.prices import Price, Usage
from potstill.teachers.base import GeneratedTexts, TeacherCapabilities, UsageEstimate
from potstill.teachers.label_centroids import word_similarity
from potstill.teachers.labelled_file import normalize_whitespace
from potstill.teachers.non_generating import NonGeneratingTeacher
from potstill.teachers.replay_generation import ServedTexts, WritingOptions, count_tokens, text_seed

NEAREST = 4  # times the texts asked for: so many of the nearest are drawn from
GROUP_TOKENS = 20  # of a line of the student's scores


@dataclass(frozen=True)
class FormReplaySource:
    """What texts with their answers are written from.

    Attributes:
        file: its name.
        accuracy: of the answers.
        read: reads text -> its answer as `written_answers` has it; called once.
        served: what was served before.
    """

    file: str
    accuracy: float
    read: Callable[[], Mapping[str, str]]
    served: ServedTexts


def generation_key(key: str, source: FormReplaySource | None) -> str:
    """The key of what a teacher with this key writes."""
    return key if source is None else content_key(key, source.file, source.accuracy, "each text once")


def form_replay_capabilities(form: OutputForm, *, writes: bool) -> TeacherCapabilities:
    """What a teacher that replays answers can do."""
    return TeacherCapabilities(
        generates=writes,
        reads_feedback=writes,
        task_kinds=frozenset({"text2text"}),
        output_forms=frozenset({form}),
        soft_labels=False,
    )


@dataclass(frozen=True)
class FormReplayWriter:
    """Serves texts of a file with their answers as if they were written.

    Attributes:
        options: the price, and the seed.
        source: the texts with their answers.
        replay: an answer, its accuracy, and what draws its errors -> the answer that is written.
    """

    options: WritingOptions
    source: FormReplaySource
    replay: Callable[[str, float, np.random.Generator], str]

    @cached_property
    def _pool(self) -> Mapping[str, str]:
        return self.source.read()

    def max_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `generate(request)`: n times the longest text with its answer."""
        longest = max((_tokens(text, answer) for text, answer in self._pool.items()), default=0)
        return self._usage(request, [longest] * request.n)

    def _usage(self, request: GenerationRequest, sizes: Sequence[int]) -> Usage:
        if self.options.is_human:
            return Usage(labels=len(sizes))
        feedback = request.feedback
        shown = [*request.examples]
        lines = 0
        if feedback is not None:
            predictions = (*feedback.correct, *feedback.incorrect, *feedback.hard_negatives)
            shown += [LabelledText(each.text, each.label + each.predicted) for each in predictions]
            lines = len(feedback.report) + len(getattr(feedback, "groups", ()))
        prompt = sum(_tokens(each.text, each.label) for each in shown) + GROUP_TOKENS * lines
        return Usage(input_tokens=self.options.prompt_tokens + prompt, output_tokens=sum(sizes))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """A sample, by the request's seed, of the texts nearest to the student's errors; the same for an equal request.

        Fewer come back when the file's texts are used up.
        """
        key = content_key("form", asdict(request))
        texts = self.source.served.get(key)
        if texts is None:
            texts = tuple(self._written(request))
            self.source.served.add(key, texts)
        return GeneratedTexts(texts, self._usage(request, [_tokens(each.text, each.label) for each in texts]))

    def _written(self, request: GenerationRequest) -> list[LabelledText]:
        feedback = request.feedback
        errors = [] if feedback is None else [*feedback.hard_negatives, *feedback.incorrect]
        correct = feedback.correct if feedback else ()
        shown: list[LabelledText | StudentPrediction] = [*request.examples, *errors, *correct]
        excluded = {
            normalize_whitespace(text) for text in (*(each.text for each in shown), *self.source.served.texts())
        }
        candidates = [text for text in self._pool if normalize_whitespace(text) not in excluded]
        rng = np.random.default_rng(text_seed(self.options.seed, f"form\n{request.seed}"))
        if errors and candidates:
            similarity = word_similarity(candidates, [each.text for each in errors])
            nearest = np.argsort(-similarity, kind="stable")[: NEAREST * request.n]
            candidates = [candidates[i] for i in nearest]
        drawn = [candidates[i] for i in rng.permutation(len(candidates))[: request.n]]
        return [LabelledText(text, self.replay(self._pool[text], self.options.accuracy, rng)) for text in drawn]


class FormReplayGeneration(NonGeneratingTeacher):
    """The generation methods of a teacher that replays answers; it generates if it has a `writer`.

    Attributes:
        writer: what it writes with; None if it has no file to write from.
        price: turns usage into money.
    """

    generation_hint = "Set generate_from to a file of texts with their answers, or take --procedure kd."
    writer: FormReplayWriter | None
    price: Price

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `generate(request)`."""
        return super().max_generation_usage(request) if self.writer is None else self.writer.max_usage(request)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """The upper bound: texts differ in length."""
        return UsageEstimate(self.max_generation_usage(request), self.max_generation_usage(request))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Real texts with their answers, none of them for two requests."""
        if self.writer is None:
            return super().generate(request)
        if request.label:
            raise BadSpec(f"{request.label!r} is a label, and this task has answers.", "Ask without a label.")
        return self.writer.generate(request)


def _tokens(text: str, answer: str) -> int:
    return count_tokens(json.dumps([text, answer], ensure_ascii=False))
