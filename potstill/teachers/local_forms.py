"""A language model on this machine that answers a text with entities or in words, through llama.cpp.

Prompts and readers are those of chat models behind servers (`entity_prompt.py`, `free_text_prompt.py`): JSON that a
grammar enforces, or the reply as it is. The most probable token is taken each time, so equal calls give equal answers.
A model that comes without a chat template continues the same words as a plain text. Needs a GGUF file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Protocol

from potstill.data.entities.answers import EntityAnswer
from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import Answer, GenerationRequest, LabelledText, OutputForm, Task, content_key
from potstill.errors import BadSpec
from potstill.ledger.prices import Category, Price, Usage
from potstill.models.causal_lm import content_hash
from potstill.models.chat_template import ChatTemplate, find_chat_template
from potstill.models.weights import Weights
from potstill.registry import Options
from potstill.teachers.base import (
    Fact,
    GeneratedTexts,
    Reply,
    TeacherCapabilities,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.entity_prompt import ENTITY_PROMPT_VERSION, EntityPrompt
from potstill.teachers.entity_question import (
    EMPTY_TOKENS,
    REPLY_BYTES_PER_TOKEN,
    entity_examples,
    max_entity_tokens,
    reply_share,
)
from potstill.teachers.free_text_prompt import FREE_TEXT_PROMPT_VERSION, FreeTextPrompt, read_reply
from potstill.teachers.label_prompt import render_chat
from potstill.teachers.llamacpp import (
    SPARE_TOKENS,
    Completed,
    Completion,
    LlamaCpp,
    Sampling,
    estimate_prompt_tokens,
)
from potstill.teachers.local_form_generation import LocalFormWriter
from potstill.teachers.local_generation import GenerationSettings
from potstill.teachers.messages import shorten
from potstill.teachers.prompts import Message

GREEDY = Sampling(temperature=0.0, presence_penalty=0.0, min_p=0.0)
# The bound of a call: every reply at its longest, this many times as slow as measured, and so many seconds.
TIME_BOUND_FACTOR, TIME_BOUND_EXTRA_S = 5.0, 5.0
FORM_GENERATION_VERSION = "1"
PLAIN_BREAK = "\n\n"  # between the turns of a prompt without a chat template
MAX_SHOTS = 4  # examples in the prompt unless the user says: reading them takes most of the time


# Options of `local:MODEL` that nothing here reads.
LABEL_OPTIONS = (
    *("prompt_format", "template", "label_words", "match_prior", "shortlist", "embedding", "n_prompts"),
    *("max_text_tokens", "batch_size", "dtype"),
)


def refuse_label_options(options: Options) -> None:
    """Raise BadSpec for an option that would be left unused: `LABEL_OPTIONS`, a prompt for one label, or a GPU."""
    unused = {"generation_prompt": "label", "device": "cuda"}
    fields = type(options).model_fields
    defaults = {name: fields[name].get_default(call_default_factory=True) for name in LABEL_OPTIONS}
    nothing = {**defaults, "shortlist": 0}
    given = [name for name in LABEL_OPTIONS if getattr(options, name) not in (defaults[name], nothing[name])]
    given += [f'{name} = "{value}"' for name, value in unused.items() if getattr(options, name) == value]
    if given:
        raise BadSpec(f"{given[0]} is about labels that PyTorch scores, and this task has none.", "Leave it out.")


@dataclass(frozen=True)
class LocalFormSettings:
    """The options of `local:MODEL` that count here: texts at once, threads, examples in the prompt, how it writes."""

    slots: int
    threads: int
    shots: int | None
    generation: GenerationSettings


@dataclass(frozen=True)
class ReplyTokens:
    """Tokens of a reply: the fewest and the most that are expected, and the most that are written."""

    low: float
    high: float
    limit: int


class LocalQuestion(Protocol):
    """What is asked about a text.

    Attributes:
        does: what a teacher that asks it does, after "cannot" ("name entities").
        form: "entities" or "free".
        key_parts: what changes its answers, beside the model and the task.
        asked: how it is asked, in words.
        version: of the prompt.
        n_examples: gold examples in the prompt.
    """

    does: str
    form: OutputForm
    key_parts: tuple[object, ...]
    asked: str
    version: str
    n_examples: int

    def messages(self, text: str) -> list[Message]:
        """The conversation about a text."""

    def constraint(self, *, chat: bool) -> Mapping[str, object]:
        """What a reply must match, of a model with a chat template or without; see `llamacpp.Completion`."""

    def reply_tokens(self, text: str) -> ReplyTokens:
        """Of the reply about a text."""

    def read(self, reply: Completed) -> Answer:
        """The answer in a reply."""


class LocalEntityQuestion:
    """The entities of a text; see `LocalQuestion`."""

    does, asked = "name entities", "JSON by a grammar"
    form: OutputForm = "entities"
    version = f"entities {ENTITY_PROMPT_VERSION}"

    def __init__(self, task: Task, examples: Sequence[LabelledText]) -> None:
        self._prompt = EntityPrompt(task, entity_examples(examples, [each.text for each in examples]))
        self._share = reply_share(self._prompt.examples)
        self.n_examples = len(examples)
        self.key_parts: tuple[object, ...] = ("local entities", ENTITY_PROMPT_VERSION)

    def messages(self, text: str) -> list[Message]:
        """See `LocalQuestion.messages`."""
        return self._prompt.messages(text)

    def constraint(self, *, chat: bool) -> Mapping[str, object]:
        """JSON by the schema of the types."""
        return {"json_schema": self._prompt.schema}

    def reply_tokens(self, text: str) -> ReplyTokens:
        """By the replies to the gold examples."""
        n_bytes = len(text.encode("utf-8", "replace"))
        sizes = zip(self._share, REPLY_BYTES_PER_TOKEN, strict=True)
        low, high = (EMPTY_TOKENS + share * n_bytes / size for share, size in sizes)
        return ReplyTokens(low, high, max_entity_tokens(text))

    def read(self, reply: Completed) -> Answer:
        """The entities; a reply that is cut is unparsable."""
        named = None if reply.is_cut else self._prompt.read(reply.text)
        raw = shorten(reply.text)
        return EntityAnswer("unparsable", raw=raw) if named is None else EntityAnswer("ok", raw=raw, named=named)


class LocalFreeTextQuestion:
    """The answer to a text in words; see `LocalQuestion`."""

    does, asked = "answer in words", "the reply as it is"
    form: OutputForm = "free"
    version = f"free text {FREE_TEXT_PROMPT_VERSION}"

    def __init__(self, task: Task, examples: Sequence[LabelledText]) -> None:
        self._prompt = FreeTextPrompt(task, tuple(examples))
        self.n_examples = len(examples)
        self.key_parts: tuple[object, ...] = ("local free text", FREE_TEXT_PROMPT_VERSION)

    def messages(self, text: str) -> list[Message]:
        """See `LocalQuestion.messages`."""
        return self._prompt.messages(text)

    def constraint(self, *, chat: bool) -> Mapping[str, object]:
        """Any reply; without a chat template up to the empty line that divides examples."""
        return {} if chat else {"stop": [PLAIN_BREAK]}

    def reply_tokens(self, text: str) -> ReplyTokens:
        """By the gold answers."""
        return ReplyTokens(*self._prompt.expected_tokens, self._prompt.max_reply_tokens)

    def read(self, reply: Completed) -> Answer:
        """The reply; one that is cut is no answer."""
        return FreeTextAnswer("unparsable", raw=shorten(reply.text)) if reply.is_cut else read_reply(reply.text)


def _question(task: Task, examples: Sequence[LabelledText]) -> LocalQuestion:
    if task.form == "entities":
        return LocalEntityQuestion(task, examples)
    return LocalFreeTextQuestion(task, examples)


class LocalFormTeacher:
    """Answers with the model of a GGUF file, and writes texts with their answers; it is loaded when first asked.

    Args:
        name: as the user types it.
        setup: task and gold examples, whose labels are entities as `encode_entities` writes them, or answers.
        settings: the options.
        found: the model's weights.
        price: of this machine's time.

    Raises:
        BadSpec: the weights are not in a GGUF file.
    """

    category: Category = "llm"
    parallel = 1
    greenlet_safe = False
    simulated = False
    needs_prior_correction = False

    def __init__(
        self, name: str, setup: TeacherSetup, settings: LocalFormSettings, found: Weights, price: Price
    ) -> None:
        examples = setup.examples[: MAX_SHOTS if settings.shots is None else settings.shots]
        self._question = _question(setup.task, examples)
        if found.kind != "gguf":
            raise BadSpec(
                f"{name} cannot {self._question.does}: its weights are not in a GGUF file, which llama.cpp reads.",
                "Name a .gguf file, or a model of potstill fetch such as local:smollm2.",
            )
        self.name = name
        self.price = price
        self.batch_size = settings.slots
        self.weights = found
        self.capabilities = TeacherCapabilities(
            generates=True,
            reads_feedback=True,
            task_kinds=frozenset({"text2text"}),
            output_forms=frozenset({self._question.form}),
            writes_answers=True,
            soft_labels=False,
        )
        self._template = find_chat_template(found)
        self._llama = LlamaCpp(found, GREEDY, settings.slots, settings.threads)
        self._writer = LocalFormWriter(setup.task, self._llama, settings.generation, self._render)
        self._lock = threading.Lock()
        shown = [(each.text, each.label) for each in examples]
        self.key = content_key(
            *self._question.key_parts, content_hash(found.path), setup.task.key, shown, self._template
        )
        self.generation_key = content_key(self.key, FORM_GENERATION_VERSION, asdict(settings.generation))

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report."""
        way, question = "through its chat template" if self._template else "by a plain prompt", self._question
        extra: dict[str, Fact] = {
            "licence": self.weights.licence,
            "runtime": "llama.cpp (CPU)",
            "asked": f"{way}, {question.n_examples} examples; {question.asked}",
            "prompt_version": question.version,
        }
        return TeacherMetadata(
            price=self.price.source, model=self.weights.name, n_examples=question.n_examples, extra=extra
        )

    @cached_property
    def _chat_template(self) -> ChatTemplate:
        return ChatTemplate(self._template, {"bos_token": "", "eos_token": ""})  # llama.cpp adds the first one

    def _rendered(self, text: str) -> str:
        return self._render(self._question.messages(text))

    def _render(self, messages: Sequence[Message]) -> str:
        contents = [each["content"] for each in messages]
        if not self._template:
            return PLAIN_BREAK.join(contents) + PLAIN_BREAK
        return render_chat(self._chat_template, [each["role"] for each in messages], contents)

    # --- money -------------------------------------------------------------------------------------------

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """Seconds `answer(texts)` can take; the first call loads the model and times it."""
        with self._lock:
            tokens = [(estimate_prompt_tokens(self._rendered(text)), self._limit(text)) for text in texts]
            fitting = [prompt + reply for prompt, reply in tokens if self._fits(prompt, reply)]
            if not fitting:
                return Usage(seconds=TIME_BOUND_EXTRA_S)
            per_token = self._llama.seconds_per_token(max(fitting))
            seconds = TIME_BOUND_EXTRA_S + TIME_BOUND_FACTOR * per_token * sum(fitting)
            return Usage(seconds=self._llama.unpaid_s + seconds)

    def _limit(self, text: str) -> int:
        return self._question.reply_tokens(text).limit

    def _fits(self, prompt: int, reply: int) -> bool:
        limit = self._llama.context_length
        return not limit or prompt + reply + 2 * SPARE_TOKENS <= limit

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """Seconds by the replies to the gold examples: the prompt is read at once, or as slowly as it is written."""
        with self._lock:
            low = high = 0.0
            for text in texts:
                prompt, reply = estimate_prompt_tokens(self._rendered(text)), self._question.reply_tokens(text)
                if not self._fits(prompt, reply.limit):
                    continue
                per_token = self._llama.seconds_per_token(prompt + reply.limit)
                low += per_token * reply.low
                high += per_token * (prompt + min(reply.high, reply.limit))
        return UsageEstimate(Usage(seconds=low), Usage(seconds=high))

    # --- answering ---------------------------------------------------------------------------------------

    def answer(self, texts: Sequence[str]) -> Reply:
        """The model's answer about each text, and the seconds it took.

        A text that does not fit into the model's context is refused; a reply that is cut is unparsable.

        Raises:
            MissingExtra: xllamacpp is not installed.
            TeacherError: llama.cpp failed.
        """
        with self._lock:
            started = time.perf_counter()
            already = self._llama.unpaid_s
            prompts = {text: self._rendered(text) for text in texts}
            limits = {text: self._limit(text) for text in texts}
            fitting = [text for text in prompts if self._fits(estimate_prompt_tokens(prompts[text]), limits[text])]
            answers = {text: Answer("refused", raw="longer than the model reads") for text in prompts}
            if fitting:
                longest = max(limits[text] for text in fitting)
                completion = Completion(longest, 0, self._question.constraint(chat=bool(self._template)))
                replies = self._llama.complete([prompts[text] for text in fitting], completion)
                for text, reply in zip(fitting, replies, strict=True):
                    answers[text] = self._question.read(reply)
            loading = self._llama.unpaid_s - already  # within this call
            seconds = time.perf_counter() - started - loading + self._llama.unpaid_s
            self._llama.unpaid_s = 0.0
        return Reply(tuple(answers[text] for text in texts), Usage(seconds=seconds))

    # --- writing -----------------------------------------------------------------------------------------

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """Seconds `generate(request)` can take: its longest possible replies at the measured speed."""
        with self._lock:
            size = self._writer.size(request)
            per_token = self._llama.seconds_per_token(size.prompt + size.reply)
            seconds = TIME_BOUND_EXTRA_S + TIME_BOUND_FACTOR * per_token * (size.prompt + size.copies * size.reply)
            return Usage(seconds=self._llama.unpaid_s + seconds)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """The upper bound: the length of the replies is unknown."""
        return UsageEstimate(self.max_generation_usage(request), self.max_generation_usage(request))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Texts with their answers, as JSON by a grammar, and the seconds they took. Raises what `answer` raises."""
        with self._lock:
            started, already = time.perf_counter(), self._llama.unpaid_s
            texts = self._writer.generate(request)
            loading = self._llama.unpaid_s - already  # within this call
            seconds = time.perf_counter() - started - loading + self._llama.unpaid_s
            self._llama.unpaid_s = 0.0
        return GeneratedTexts(texts, Usage(seconds=seconds))
