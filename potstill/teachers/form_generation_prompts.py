"""The prompt with which a chat model writes texts with their answers for a student (PGKD in text-to-text tasks).

The sibling of `generation_prompts.py`: the student's scores by type of entity or by group of texts, training texts it
answers rightly, wrongly, and wrongly with the highest confidence. The prompt is cut to fit; what a reply may hold
beside JSON (thinking, a code fence) is cut off, and of a reply that was cut all complete texts are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.data.form_feedback import FormFeedback
from potstill.data.task import GenerationRequest, LabelledText, StudentPrediction, Task
from potstill.errors import BadSpec
from potstill.teachers.generation_prompts import UNPARSED_CHARACTERS, estimate_tokens
from potstill.teachers.label_parsing import CODE_FENCE
from potstill.teachers.prompts import (
    DATA_NOTICE,
    QUOTED_CHARACTERS,
    JsonDict,
    Message,
    json_object,
    sanitize_text,
)
from potstill.teachers.reply_frames import cut_end_marks, cut_thinking
from potstill.teachers.written_answers import AnswerFormat, Redact, answer_format

MAX_TEXTS = 32  # that one request asks for: a longer reply repeats itself, and is cut
REPLY_BYTES_PER_TOKEN = (4.5, 2.5)  # at most and at least
ASSUMED_BYTES = (40.0, 400.0)  # of a text and its answer, where no example says how long they are
CUTS = (2000, 600, 200)  # characters of a text that is shown, at most


@dataclass(frozen=True)
class FormGenerationPrompt:
    """The messages of a request, the schema of the reply, and its parser. See `fit_form_prompt`.

    Attributes:
        task: with its instruction, and the types of entities.
        request: how many texts, with examples and a `FormFeedback`.
        lists_types: whether the schema lists the types.
        redact: removes personal data from an answer in words.
        max_characters: of a text that is shown.
    """

    task: Task
    request: GenerationRequest
    lists_types: bool = True
    redact: Redact = field(default=str)
    max_characters: int = CUTS[0]

    @property
    def _format(self) -> AnswerFormat:
        return answer_format(self.task)

    @property
    def feedback(self) -> FormFeedback:
        """The request's feedback."""
        found = self.request.feedback
        return found if isinstance(found, FormFeedback) else FormFeedback()

    @property
    def _reply_format(self) -> str:
        return f'{{"texts": [{{"text": "...", "{self._format.key}": {self._format.value}}}, ...]}}'

    def messages(self, previous_reply: str | None = None) -> list[Message]:
        """The conversation that asks for texts, also after a reply that was not JSON."""
        written = self._format
        instruction = f"What is asked about each text: {self.task.instruction}" if self.task.instruction else ""
        head = [written.role, instruction, *written.lines, DATA_NOTICE]
        head.append(f"Answer with JSON only: {self._reply_format}")
        messages: list[Message] = [
            {"role": "system", "content": "\n\n".join(part for part in head if part)},
            {"role": "user", "content": "\n\n".join(part for part in self._body() if part)},
        ]
        if previous_reply is not None:
            messages += [
                {"role": "assistant", "content": sanitize_text(previous_reply)[:QUOTED_CHARACTERS] or "(nothing)"},
                {"role": "user", "content": f"That is not JSON of the form {self._reply_format}. Send it alone."},
            ]
        return messages

    def _body(self) -> Iterator[str]:
        feedback, request = self.feedback, self.request
        examples = [self._line(each) for each in request.examples]
        yield _block("Texts and their answers:", examples)
        if feedback.accuracy is not None:
            yield f"The student's {feedback.metric} on validation texts is {feedback.accuracy:.1%}."
        yield _block("By type:", list(self._types()))
        yield _block("By kind of text:", list(self._groups()))
        yield _block("Training texts that the student answers best:", self._predictions(feedback.correct))
        yield _block("Training texts that it answers wrongly:", self._predictions(feedback.incorrect))
        surest = self._predictions(feedback.hard_negatives)
        yield _block("Training texts that it answers wrongly and is surest of:", surest)
        style = f" This time: {feedback.style}." if feedback.style else ""
        yield (
            f"Write {request.n} new texts, each with its answer, so that the student's answers improve the most. Write "
            "in the manner of the texts above, copy none of them, and make them differ from each other in topic, "
            f"length and wording.{style} (Set {request.seed}.)"
        )

    def _types(self) -> Iterator[str]:
        if self.feedback.report:
            yield "type | precision | recall | F1 | entities"
        for each in self.feedback.report:
            yield f"{each.label} | {each.precision:.2f} | {each.recall:.2f} | {each.f1:.2f} | {each.support}"

    def _groups(self) -> Iterator[str]:
        if self.feedback.groups:
            yield f"texts | {self.feedback.metric} | number"
        for each in self.feedback.groups:
            yield f"{each.group} | {each.score:.2f} | {each.n}"

    def _predictions(self, shown: Sequence[StudentPrediction]) -> list[str]:
        return [
            f"{self._line(each)}; the student says {self._answer(each, each.predicted)}, {each.confidence:.0%} sure"
            if each.predicted != each.label
            else self._line(each)
            for each in shown
        ]

    def _line(self, shown: LabelledText | StudentPrediction) -> str:
        text = f"<text>{sanitize_text(self._cut(shown.text))}</text>"
        return f"- {text} {self._format.key}: {self._answer(shown, shown.label)}"

    def _cut(self, text: str) -> str:
        return text if len(text) <= self.max_characters else f"{text[: self.max_characters]} ..."

    def _answer(self, shown: LabelledText | StudentPrediction, answer: str) -> str:
        written = self._format.shown(answer, self._cut(shown.text), lambda each: self._cut(self.redact(each)))
        return sanitize_text(written)

    @property
    def schema(self) -> JsonDict:
        """The JSON schema of a reply."""
        value = self._format.schema(lists_types=self.lists_types)
        item = json_object({"text": {"type": "string"}, self._format.key: value})
        return json_object({"texts": {"type": "array", "items": item}})

    @property
    def expected_tokens(self) -> tuple[float, float]:
        """Tokens a reply will probably have, at least and at most: by the texts and answers of the examples."""
        sizes = [len(json.dumps([each.text, each.label]).encode()) for each in self.request.examples]
        low, high = (min(sizes), max(sizes)) if sizes else ASSUMED_BYTES
        fewest, largest = REPLY_BYTES_PER_TOKEN
        return self.request.n * low / fewest / 2, self.request.n * high / largest

    def parse(self, reply: str) -> tuple[LabelledText, ...] | None:
        """The texts of a reply with their answers as JSON; None if there is none.

        Read are `{"texts": [...]}`, a list, and the complete objects of a reply that was cut. An item without a text or
        with an answer that cannot be read has the answer "".
        """
        items = list(_items(cut_end_marks(cut_thinking(reply)).strip(), self._format.key))
        return tuple(self._read(item) for item in items[: self.request.n]) or None

    def _read(self, item: Any) -> LabelledText:
        text = item.get("text") if isinstance(item, dict) else None
        answer = self._format.read(item.get(self._format.key)) if isinstance(item, dict) else None
        if not isinstance(text, str) or not text.strip() or answer is None:
            return LabelledText(_excerpt(str(item)), "")
        return LabelledText(text.strip(), answer)

    def unparsed(self, reply: str) -> tuple[LabelledText, ...]:
        """The beginning of a reply that cannot be parsed, with no answer."""
        return (LabelledText(_excerpt(reply), ""),)


def fit_form_prompt(prompt: FormGenerationPrompt, max_tokens: int) -> FormGenerationPrompt:
    """The prompt, cut to at most `max_tokens` by `estimate_tokens`, no further than needed.

    The least useful parts are cut first: 1. the ends of texts and answers beyond 600 characters; 2. texts that are
    answered rightly; 3. scores of types and groups; 4. gold examples; 5. the ends beyond 200 characters; 6. errors; 7.
    hard negatives.

    Raises:
        BadSpec: a label, which these tasks do not have, or what is left does not fit.
    """
    if prompt.request.label:
        raise BadSpec(f"{prompt.request.label!r} is a label, and this task has answers.", "Ask without a label.")
    for smaller in _smaller(prompt):
        if estimate_tokens(smaller.messages()) <= max_tokens:
            return smaller
    raise BadSpec(
        f"The request does not fit into {max_tokens} tokens, even without an example.",
        "Raise generation_prompt_tokens under [teacher].",
    )


def _smaller(prompt: FormGenerationPrompt) -> Iterator[FormGenerationPrompt]:
    yield prompt
    for part in ("", "correct", "scores", "examples", "", "incorrect", "hard_negatives"):
        if not part:
            prompt = replace(prompt, max_characters=CUTS[1] if prompt.max_characters == CUTS[0] else CUTS[2])
            yield prompt
            continue
        for n in _halves(_size(prompt, part)):
            prompt = _with_first(prompt, part, n)
            yield prompt


def _size(prompt: FormGenerationPrompt, part: str) -> int:
    if part == "scores":
        return max(len(prompt.feedback.report), len(prompt.feedback.groups))
    return len(prompt.request.examples if part == "examples" else getattr(prompt.feedback, part))


def _with_first(prompt: FormGenerationPrompt, part: str, n: int) -> FormGenerationPrompt:
    """The prompt with the first n of a part; of scores the n lowest."""
    request, feedback = prompt.request, prompt.feedback
    if part == "examples":
        return replace(prompt, request=replace(request, examples=tuple(request.examples)[:n]))
    if part == "scores":
        report = sorted(feedback.report, key=lambda each: (1 - each.f1) * each.support, reverse=True)
        feedback = replace(feedback, report=tuple(report)[:n], groups=tuple(feedback.groups)[:n])
    elif part == "correct":
        feedback = replace(feedback, correct=tuple(feedback.correct)[:n])
    elif part == "incorrect":
        feedback = replace(feedback, incorrect=tuple(feedback.incorrect)[:n])
    else:
        feedback = replace(feedback, hard_negatives=tuple(feedback.hard_negatives)[:n])
    return replace(prompt, request=replace(request, feedback=feedback))


def _halves(n: int) -> Iterator[int]:
    while n:
        n //= 2
        yield n


def _block(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *lines]) if lines else ""


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:UNPARSED_CHARACTERS] or "(nothing)"


def _items(reply: str, key: str) -> Iterator[Any]:
    fenced = CODE_FENCE.match(reply)
    bare = fenced[1].strip() if fenced else reply
    try:
        record: Any = json.loads(bare, strict=False)
    except (ValueError, RecursionError):
        yield from _complete_objects(bare, key)
        return
    if isinstance(record, dict):
        record = record.get("texts")
    yield from record if isinstance(record, list) else ()


def _complete_objects(reply: str, key: str) -> Iterator[Any]:
    """The complete objects with a text and an answer in a reply that is not JSON, such as one that was cut."""
    decoder = json.JSONDecoder(strict=False)
    start = reply.find("{")
    while start >= 0:
        try:
            item, end = decoder.raw_decode(reply, start)
        except (ValueError, RecursionError):
            item, end = None, start + 1
        if isinstance(item, dict) and "text" in item and key in item:
            yield item
        elif isinstance(item, dict) and isinstance(item.get("texts"), list):
            yield from item["texts"]
        start = reply.find("{", end)
