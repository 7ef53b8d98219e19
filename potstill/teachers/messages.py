"""Requests to a chat server and its responses, the options of chat teachers, and the protocol of a server.

Records and small functions of them; sends nothing and depends on no provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from pydantic import Field

from potstill.data.task import Task
from potstill.ledger.prices import ExactPrice, Usage
from potstill.teachers.base import TeacherCapabilities
from potstill.teachers.generation_prompts import GENERATION_PROMPT_TOKENS
from potstill.teachers.label_parsing import TokenLogprobs
from potstill.teachers.model_status import ModelStatus
from potstill.teachers.prompt_builder import PromptOptions
from potstill.teachers.prompts import JsonSchema, Message
from potstill.teachers.rate_limit import ContentRefused

RAW_REPLY_CHARACTERS = 200
CHAT_CAPABILITIES = TeacherCapabilities(
    remote=True,
    generates=True,
    describes_labels=True,
    reads_feedback=True,
    task_kinds=frozenset({"single", "pair", "multi", "text2text"}),
    output_forms=frozenset({"entities", "free"}),
    picks_examples=True,
    batch_discount=True,
)
# Additional tokens of a reply that names several labels with weights.
CANDIDATE_TOKENS = 160
# Of a label set: tokens of a code in JSON, and for how many labels there is room. A longer set cannot be parsed.
TOKENS_PER_CODE, MAX_SET_LABELS = 6, 40


class ChatOptions(PromptOptions):
    """The options every chat teacher has, in addition to `PromptOptions`.

    Attributes:
        max_tokens: what one reply may generate, reasoning included; None is the default for this kind of model.
        temperature: None is 0 for one sample and 1 for votes, which then estimate the model's own distribution.
        samples: votes per text where the server gives no log-probabilities; 1 asks once.
        logprobs: "auto" uses token log-probabilities where the server gives them; false never asks for them.
        one_hot_confidence: the probability given to the label where only a bare label is known.
        aliases: other names the model may use -> label.
        max_schema_labels: with more labels than this no JSON schema is sent; None is what the provider takes.
        parallel: calls in flight.
        timeout_s: for one request.
        text_timeout_s: for one text, waits and retries included; None is ten timeouts (two if time is paid for).
        requests_per_minute, tokens_per_minute: limits to stay under; without them only refusals slow it down.
        generation_max_tokens: what one reply of `generate` may contain.
        generation_prompt_tokens: the longest prompt of a request with feedback; it is cut to fit.
    """

    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    samples: int = Field(default=1, ge=1, le=100)
    logprobs: Literal["auto", False] = "auto"
    one_hot_confidence: float = Field(default=0.95, gt=0.5, lt=1)
    aliases: dict[str, str] = Field(default_factory=dict)
    max_schema_labels: int | None = Field(default=None, ge=0)
    parallel: int = Field(default=16, ge=1, le=1024)
    timeout_s: float = Field(default=60.0, gt=0)
    text_timeout_s: float | None = Field(default=None, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    generation_max_tokens: int = Field(default=4096, ge=1, le=100_000)
    generation_prompt_tokens: int = Field(default=GENERATION_PROMPT_TOKENS, ge=100, le=2_000_000)


@dataclass(frozen=True)
class ChatIdentity:
    """The provider's settings that change answers; a part of a chat teacher's key."""

    model: str
    host: str
    effort: str = ""
    top_logprobs: int | None = None
    template_kwargs: tuple[tuple[str, bool | int | float | str], ...] = ()

    def key_parts(self) -> dict[str, object]:
        """What the key is made of; without `template_kwargs` it is what it was before there were any."""
        parts = asdict(self)
        if not self.template_kwargs:
            del parts["template_kwargs"]
        return parts


@dataclass(frozen=True)
class ChatRequest:
    """One request: `n` replies to `messages`. A server may not support `schema` and `logprobs`.

    The first `n_constant` messages are the same for every text: a provider's prompt cache may keep them.
    """

    messages: Sequence[Message]
    max_tokens: int
    temperature: float
    n: int = 1
    schema: JsonSchema | None = None
    logprobs: bool = False
    n_constant: int = 0


@dataclass(frozen=True)
class Choice:
    """One reply: its text, why it was refused (or ""), whether it was cut at `max_tokens`, its tokens if known."""

    text: str
    refusal: str = ""
    truncated: bool = False
    token_logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True)
class ChatResponse:
    """The response to a request; `usage` is None if the server did not report it: the bound is charged instead."""

    choices: tuple[Choice, ...]
    usage: Usage | None


class ChatServer(Protocol):
    """Sends one request; raises a `RequestError`, or TeacherError if no request can succeed.

    Attributes:
        supports_schema, supports_logprobs, supports_n: True until it was refused.
        extra_tokens: prompt tokens it may add on its own, for an enforced schema.
        bills_cache_writes: prompt tokens may be billed as writes to its cache.
    """

    supports_schema: bool
    supports_logprobs: bool
    supports_n: bool
    extra_tokens: int
    bills_cache_writes: bool

    def send(self, request: ChatRequest) -> ChatResponse:
        """The replies to one request, sent once."""

    def model_status(self) -> ModelStatus:
        """What the server says about the model's life; sends no text and never raises."""


def multiply_usage(usage: Usage, n: int) -> Usage:
    """The tokens of `usage`, n times."""
    return Usage(
        usage.input_tokens * n,
        usage.cached_tokens * n,
        usage.output_tokens * n,
        cache_write_tokens=usage.cache_write_tokens * n,
    )


def dearest_usage(price: ExactPrice, bills_cache_writes: bool, prompt: int, output: int) -> Usage:
    """The usage of so many tokens that costs most: the prompt as plain input, from the cache, or written to it."""
    usages = [Usage(prompt, 0, output), Usage(prompt, prompt, output)]
    if bills_cache_writes:
        usages.append(Usage(prompt, 0, output, cache_write_tokens=prompt))
    return max(usages, key=price.exact_micros)


def drop_refusals(choices: Sequence[Choice]) -> list[Choice]:
    """The choices that were not refused. Raises ContentRefused if none is left."""
    accepted = [choice for choice in choices if not choice.refusal]
    if not accepted:
        raise ContentRefused(choices[0].refusal if choices else "no reply")
    return accepted


def shorten(text: str) -> str:
    """The beginning of a reply in one line, for reading."""
    return " ".join(text.split())[:RAW_REPLY_CHARACTERS]


def max_reply_tokens(options: ChatOptions, default: int, task: Task) -> int:
    """Tokens one reply may have: `max_tokens`, or the default for this kind of model plus room for a label set."""
    label_set = TOKENS_PER_CODE * min(task.n_labels, MAX_SET_LABELS) if task.kind == "multi" else 0
    return options.max_tokens or default + label_set + (CANDIDATE_TOKENS if options.candidates else 0)
