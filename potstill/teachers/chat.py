"""A teacher that is a chat model behind a server: sends what its question asks, and pays for it.

Knows no provider: a `ChatServer` sends one request and classifies its errors (`openai.py` has one). Knows no kind of
task: a `ChatQuestion` builds the requests and reads the replies (`label_question.py`, `entity_question.py`,
`free_text_question.py`). Does not cover batch queues (`batch_api.py`), or texts longer than the model's context: those
come back as refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from potstill.data.task import Answer, GenerationRequest, LabelledText, OutputForm, content_key
from potstill.errors import TeacherError
from potstill.ledger.prices import Category, ExactPrice, Price, Rates, Usage
from potstill.teachers.base import Fact, GeneratedTexts, Reply, TeacherMetadata, TeacherSetup, UsageEstimate
from potstill.teachers.chat_question import ChatQuestion
from potstill.teachers.entity_question import EntityQuestion
from potstill.teachers.form_generation_prompts import FormGenerationPrompt, fit_form_prompt
from potstill.teachers.free_text_question import FreeTextQuestion
from potstill.teachers.generation_prompts import GenerationPrompt, fit_generation_prompt
from potstill.teachers.label_question import SPARE_REQUESTS, LabelQuestion
from potstill.teachers.messages import (
    RAW_REPLY_CHARACTERS,
    ChatIdentity,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    ChatServer,
    Choice,
    dearest_usage,
    drop_refusals,
    multiply_usage,
    shorten,
)
from potstill.teachers.model_status import ModelStatus
from potstill.teachers.prompts import max_tokens_of
from potstill.teachers.rate_limit import CallUsage, ContentRefused, RateLimiter, RequestFailed, SharedTimer

# Bytes of a prompt in a token: plain English at most, other languages and short words at least.
PROMPT_BYTES_PER_TOKEN = (5.5, 2.5)
# What is asked about a text, by the form of the answers; without a form its label.
QUESTIONS: dict[OutputForm, Callable[[TeacherSetup, ChatOptions, ChatServer], ChatQuestion]] = {
    "entities": EntityQuestion,
    "free": FreeTextQuestion,
}


class ChatTeacher:
    """Answers through a chat model. Safe to call from many threads.

    Args:
        name: as the user types it.
        setup: task, examples, options.
        options: the options, checked; `max_tokens` is set.
        server: sends requests.
        price: turns usage into money.
        identity: what else changes its answers (model, address, effort).
    """

    simulated = False
    needs_prior_correction = False
    greenlet_safe = True
    batch_size = 1

    def __init__(
        self,
        name: str,
        setup: TeacherSetup,
        options: ChatOptions,
        server: ChatServer,
        price: ExactPrice,
        identity: ChatIdentity,
    ) -> None:
        self.name = name
        self.price: Price = price
        self.parallel = options.parallel
        self._by_time = isinstance(price, Rates) and price.usd_per_hour is not None
        self.category: Category = "compute" if self._by_time else "llm"
        self._task = setup.task
        form = setup.task.output and setup.task.output.form
        self._question = (QUESTIONS[form] if form else LabelQuestion)(setup, options, server)
        self.capabilities = self._question.capabilities
        self._builder = self._question.builder
        # Needed for the hold, and again for each request.
        self._max_tokens = lru_cache(2048)(self._question.max_tokens)
        self._options = options
        self._server = server
        self._text_timeout_s = options.text_timeout_s or options.timeout_s * (2 if self._by_time else 10)
        # Time in flight: no request starts after the text's timeout, and the last one ends by its own.
        self._max_seconds = self._text_timeout_s + options.timeout_s + 5 if self._by_time else 0.0
        self._dearest_usage = lru_cache(2048)(partial(dearest_usage, price, server.bills_cache_writes))
        self._timer = SharedTimer()
        self._limiter = RateLimiter(options.requests_per_minute, options.tokens_per_minute, max(8, options.parallel))
        self._identity = identity
        self.key = self.generation_key = content_key(*self._question.key_parts, identity.key_parts())
        self._n_examples = len(setup.examples)

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report, with what was redacted so far."""
        extra: dict[str, Fact] = {"effort": self._identity.effort} if self._identity.effort else {}
        extra |= self._builder.facts
        extra |= self._question.facts
        return TeacherMetadata(
            price=self.price.source,
            model=self._identity.model,
            host=self._identity.host,
            n_examples=self._n_examples,
            redactions=self._builder.redactions,
            extra=extra,
        )

    def model_status(self) -> ModelStatus:
        """What the server says about the model; asked on the spot, and no text is sent."""
        return self._server.model_status()

    # --- money -------------------------------------------------------------------------------------------------

    def _max_request(self, text: str) -> Usage:
        tokens = self._max_tokens(text)
        return self._max_tokens_usage(tokens.prompt, tokens.reply)

    def _max_tokens_usage(self, prompt: int, output: int) -> Usage:
        return self._dearest_usage(prompt + self._server.extra_tokens, output)

    def _max_call(self, request: Usage, most: int) -> Usage:
        return replace(multiply_usage(request, most), seconds=self._max_seconds)

    def _usage(self, call: CallUsage) -> Usage:
        """What a call is charged; time beyond its bound (this machine slept, or was stopped) is not."""
        return replace(call.usage, seconds=min(call.usage.seconds, self._max_seconds))

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """An upper bound of `answer(texts)`.

        The bytes of the prompt (see `prompts.max_tokens_of`) and the longest reply, for every request that may be
        billed: the samples and one more after an unparsable reply, for each shortlist; one after a broken connection.
        """
        bounds = (self._max_call(self._max_request(text), self._question.max_requests) for text in texts)
        return sum(bounds, Usage())

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """One request a text (and sample), its prompt counted by `PROMPT_BYTES_PER_TOKEN` at most and at least."""
        low, high = Usage(), Usage()
        for text in texts:
            bound, samples = self._max_request(text), self._options.samples
            most, least = PROMPT_BYTES_PER_TOKEN
            expected = self._question.expected_tokens(text)
            prompt = math.ceil((expected.prompt_bytes + self._server.extra_tokens) / most)
            low += Usage(prompt, 0, expected.low * samples, seconds=0.1 if self._by_time else 0.0)
            high += Usage(
                input_tokens=math.ceil(bound.input_tokens / least) * (1 if self._server.supports_n else samples),
                output_tokens=expected.high * samples,
                seconds=self._options.timeout_s / 4 if self._by_time else 0.0,
                cache_write_tokens=math.ceil(bound.cache_write_tokens / least),
            )
        return UsageEstimate(low, high)

    def _send(self, build: Callable[[], ChatRequest], call: CallUsage, bound: Usage) -> ChatResponse:
        """The replies to the request that `build` makes anew for each try, charged to the call."""
        n = build().n
        record = call.add_seconds if self._by_time else _ignore_seconds

        def once() -> ChatResponse:
            with self._timer.measure(record):
                return self._server.send(build())

        whole = multiply_usage(bound, n)
        response = self._limiter.send(once, call, whole, n)
        call.add_usage(whole if response.usage is None else response.usage, max(1, min(n, len(response.choices))))
        if response.usage is not None and self._exceeds(response.usage, multiply_usage(bound, call.limit)):
            call.requests_left = 0  # it cost more than all requests of this call may: no other is sent
        return response

    def _exceeds(self, usage: Usage, bound: Usage) -> bool:
        """Whether a usage costs more than its bound."""
        within = usage.input_tokens <= bound.input_tokens and usage.output_tokens <= bound.output_tokens
        return not within and self.price.cost_micros(usage) > self.price.cost_micros(bound)

    # --- answering ---------------------------------------------------------------------------------------------

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text, in order, and what they consumed in all.

        Raises:
            TeacherError: wrong key, no such model, unreachable server, or many texts in a row without an answer.
        """
        replies = [self._answer_one(text) for text in texts]
        return Reply(tuple(answer for answer, _ in replies), sum((self._usage(call) for _, call in replies), Usage()))

    def _answer_one(self, text: str) -> tuple[Answer, CallUsage]:
        call = CallUsage(self._question.max_requests, self._text_timeout_s)
        self._builder.count_redactions([text])
        try:
            answer = self._question.ask(text, _TextRequests(self, text, call))
        except ContentRefused as error:
            answer = Answer("refused", raw=shorten(error.reason))
        except RequestFailed as error:
            self._limiter.record_failure(error.reason)
            return Answer("failed", raw=shorten(error.reason)), call
        except TeacherError as error:
            error.billed = error.billed or call.usage != Usage()
            raise
        self._limiter.record_success()
        return answer, call

    def send(self, text: str, build: Callable[[], ChatRequest], call: CallUsage) -> list[Choice]:
        """The replies to a request about a text that were not refused; see `chat_question.Requests`."""
        return drop_refusals(self._send(build, call, self._max_request(text)).choices)

    # --- writing -----------------------------------------------------------------------------------------------

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `generate(request)`: as for `answer`, with `generation_max_tokens`."""
        if not self.capabilities.generates:
            return Usage()
        return self._max_call(self._max_generation_request(self._generation_prompt(request)), 1 + SPARE_REQUESTS)

    def _generation_prompt(self, request: GenerationRequest) -> GenerationPrompt | FormGenerationPrompt:
        limit, lists_labels = self._options.generation_prompt_tokens, self._question.lists_labels
        request = self._builder.redact_request(request)
        if self._task.form is None:
            return fit_generation_prompt(self._task, request, limit, lists_labels)
        prompt = FormGenerationPrompt(self._task, request, lists_labels, lambda text: self._builder(text).text)
        return fit_form_prompt(prompt, limit)

    def _max_generation_request(self, prompt: GenerationPrompt | FormGenerationPrompt) -> Usage:
        tokens = max_tokens_of(prompt.messages("x")) + 4 * RAW_REPLY_CHARACTERS + len(str(prompt.schema).encode())
        return self._max_tokens_usage(tokens, self._options.generation_max_tokens)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """One request, its prompt counted as for `estimate_usage`, with short or with long texts."""
        if not self.capabilities.generates:
            return UsageEstimate(Usage(), Usage())
        made = self._generation_prompt(request)
        bound = self._max_generation_request(made)
        short, long = made.expected_tokens
        low_tokens = round(min(short, bound.output_tokens))
        # A model that reasons first may use all that it is given for that.
        high_tokens = round(min(long + (self._options.max_tokens or 0), bound.output_tokens))
        most, least = PROMPT_BYTES_PER_TOKEN
        seconds = self._options.timeout_s / 4 if self._by_time else 0.0
        low = Usage(math.ceil(bound.input_tokens / most), 0, low_tokens, seconds / 10)
        tokens, cached = (math.ceil(n / least) for n in (bound.input_tokens, bound.cache_write_tokens))
        return UsageEstimate(low, Usage(tokens, 0, high_tokens, seconds, cache_write_tokens=cached))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Up to `request.n` texts for `request.label`, or for the request's feedback; none if the model refuses.

        A reply to feedback that cannot be parsed comes back with the label ""; without feedback no text comes back. In
        a text-to-text task a label is an answer; see `written_answers`.

        Raises:
            BadSpec: a label the task does not have, or feedback that cannot be cut to `generation_prompt_tokens`.
            TeacherError: as for `answer`; or it writes no texts for a task of this kind.
        """
        if not self.capabilities.generates:
            raise TeacherError(
                f"{self.name} writes no texts for a task of the kind {self._task.kind!r}.", "Take --procedure kd."
            )
        prompt = self._generation_prompt(request)
        call = CallUsage(1 + SPARE_REQUESTS, self._text_timeout_s)
        texts: tuple[LabelledText, ...] | None = None
        rejected: str | None = None
        try:
            for _ in range(2):
                choice = self._generate_once(prompt, call, rejected)
                texts = prompt.parse(choice.text)
                if texts is not None:
                    break
                rejected = choice.text
        except ContentRefused:
            pass
        except RequestFailed as error:
            self._limiter.record_failure(error.reason)
        except TeacherError as error:
            error.billed = error.billed or call.usage != Usage()
            raise
        if texts is None:
            texts = () if rejected is None else prompt.unparsed(rejected)
        return GeneratedTexts(texts, self._usage(call))

    def _generate_once(
        self, prompt: GenerationPrompt | FormGenerationPrompt, call: CallUsage, rejected: str | None
    ) -> Choice:
        temperature = self._options.temperature if self._options.temperature is not None else 1.0

        def build() -> ChatRequest:
            schema = prompt.schema if self._server.supports_schema else None
            return ChatRequest(
                prompt.messages(rejected), self._options.generation_max_tokens, temperature, schema=schema
            )

        return drop_refusals(self._send(build, call, self._max_generation_request(prompt)).choices)[0]


def _ignore_seconds(seconds: float) -> None:
    """Time costs nothing where tokens are paid for."""


class _TextRequests:
    """The requests about one text; see `chat_question.Requests`."""

    def __init__(self, teacher: ChatTeacher, text: str, call: CallUsage) -> None:
        self._teacher, self._text, self._call = teacher, text, call

    @property
    def left(self) -> int:
        return self._call.requests_left

    def send(self, build: Callable[[], ChatRequest]) -> list[Choice]:
        return self._teacher.send(self._text, build, self._call)
