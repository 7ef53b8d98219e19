"""A teacher that is a chat model behind a server: sends a prompt, parses the reply strictly, and asks once more.

Knows no provider: a `ChatServer` sends one request and classifies its errors (`openai.py` has one). Covers one label a
text, and several. Does not cover batch queues (`batch_api.py`), or texts longer than the model's context: those come
back as refused. The prompt is chosen in `prompt_builder.py`, replies are read in `answer_reader.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial

from potstill.data.task import Answer, GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadSpec, TeacherError, did_you_mean
from potstill.ledger.prices import Category, ExactPrice, Price, Rates, Usage
from potstill.teachers.answer_reader import AnswerReader
from potstill.teachers.base import Fact, GeneratedTexts, Reply, TeacherMetadata, TeacherSetup, UsageEstimate
from potstill.teachers.generation_prompts import GenerationPrompt, fit_generation_prompt
from potstill.teachers.messages import (
    CHAT_CAPABILITIES,
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
from potstill.teachers.prompt_builder import PromptBuilder
from potstill.teachers.prompts import PROMPT_VERSION, PromptContext, max_tokens_of
from potstill.teachers.rate_limit import CallUsage, ContentRefused, RateLimiter, RequestFailed, SharedTimer
from potstill.teachers.shortlist import ShortlistScores, combine_shortlists, predicts_none

# Requests that may be billed beyond the first: one more after an unparsable reply, and one that was lost.
SPARE_REQUESTS = 2
# Bytes of a prompt in a token: plain English at most, other languages and short words at least.
PROMPT_BYTES_PER_TOKEN = (5.5, 2.5)
# Options that change answers or generated texts; the others are in the identities, or only change speed and price.
KEY_OPTIONS = (
    "temperature",
    "samples",
    "logprobs",
    "one_hot_confidence",
    "aliases",
    "generation_max_tokens",
    "generation_prompt_tokens",
)


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
    capabilities = CHAT_CAPABILITIES
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
        if setup.task.kind not in self.capabilities.task_kinds:
            raise BadSpec(
                f"The teacher {name!r} cannot do a task of kind {setup.task.kind!r}.", "Take another teacher."
            )
        _check_aliases(setup.task, options.aliases)
        self.name = name
        self.price: Price = price
        self.parallel = options.parallel
        self._by_time = isinstance(price, Rates) and price.usd_per_hour is not None
        self.category: Category = "compute" if self._by_time else "llm"
        self._task = setup.task
        if options.candidates and options.samples > 1:
            raise BadSpec("candidates and samples cannot be combined.", "Take one of them.")
        limit = options.max_schema_labels or 0
        self._builder = PromptBuilder(setup, options, limit)
        self._prompt = self._builder.prompt
        # Needed for the hold, and again for each request.
        self._prompt_tokens = lru_cache(2048)(self._count_prompt_tokens)
        self._reader = AnswerReader(
            setup.task, self._prompt, options.aliases, options.candidates, options.one_hot_confidence
        )
        self._options = options
        self._server = server
        self._max_tokens = options.max_tokens or 32
        self._listable = listable = len(self._prompt.codes) <= limit
        self._schema = self._prompt.schema(listable) if listable or (limit and self._prompt.shortlisted) else None
        self._wants_logprobs = options.logprobs == "auto" and not options.candidates and setup.task.kind != "multi"
        probe = 1 if options.samples > 1 and self._wants_logprobs else 0
        self._max_requests = self._builder.shortlist_rounds * (options.samples + probe + SPARE_REQUESTS - 1) + 1
        self._text_timeout_s = options.text_timeout_s or options.timeout_s * (2 if self._by_time else 10)
        # Time in flight: no request starts after the text's timeout, and the last one ends by its own.
        self._max_seconds = self._text_timeout_s + options.timeout_s + 5 if self._by_time else 0.0
        self._dearest_usage = lru_cache(2048)(partial(dearest_usage, price, server.bills_cache_writes))
        self._timer = SharedTimer()
        self._limiter = RateLimiter(options.requests_per_minute, options.tokens_per_minute, max(8, options.parallel))
        self._identity = identity
        self.key = self.generation_key = content_key(
            PROMPT_VERSION,
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            {name: getattr(options, name) for name in KEY_OPTIONS},
            [self._max_tokens, self._schema is not None],
            asdict(self._builder.identity),
            identity.key_parts(),
        )
        self._n_examples = len(setup.examples)

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report, with what was redacted so far."""
        extra: dict[str, Fact] = {"effort": self._identity.effort} if self._identity.effort else {}
        extra |= self._builder.facts
        extra |= {"prompt_version": PROMPT_VERSION, "samples": self._options.samples}
        extra["one_hot_confidence"] = self._options.one_hot_confidence
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
        return self._max_tokens_usage(self._prompt_tokens(text), self._max_tokens)

    def _count_prompt_tokens(self, text: str) -> int:
        inputs = self._builder(text)
        return max(self._prompt.max_prompt_tokens(inputs.text, context) for context in inputs.contexts)

    def _max_tokens_usage(self, prompt: int, output: int) -> Usage:
        return self._dearest_usage(prompt + self._server.extra_tokens, output)

    def _max_call(self, request: Usage, most: int) -> Usage:
        return replace(multiply_usage(request, most), seconds=self._max_seconds)

    def _usage(self, call: CallUsage) -> Usage:
        """What a call is charged; time beyond its bound (this machine slept, or was stopped) is not."""
        return replace(call.usage, seconds=min(call.usage.seconds, self._max_seconds))

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """An upper bound of `answer(texts)`.

        The bytes of the prompt (see `prompts.max_tokens_of`) and all of `max_tokens`, for every request that may be
        billed: the samples and one more after an unparsable reply, for each shortlist; one after a broken connection.
        """
        bounds = (self._max_call(self._max_request(text), self._max_requests) for text in texts)
        return sum(bounds, Usage())

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """One request a text (and sample), its prompt counted by `PROMPT_BYTES_PER_TOKEN` at most and at least."""
        low, high = Usage(), Usage()
        for text in texts:
            bound, samples = self._max_request(text), self._options.samples
            most, least = PROMPT_BYTES_PER_TOKEN
            low += Usage(math.ceil(bound.input_tokens / most), 0, samples, seconds=0.1 if self._by_time else 0.0)
            high += Usage(
                input_tokens=math.ceil(bound.input_tokens / least) * (1 if self._server.supports_n else samples),
                output_tokens=bound.output_tokens * samples,
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
        call = CallUsage(self._max_requests, self._text_timeout_s)
        self._builder.count_redactions([text])
        try:
            answer = self._ask(text, call)
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

    def _request(self, text: str, rejected: str | None = None, votes: int = 0, round_number: int = 0) -> ChatRequest:
        """What is sent about the text: its shortlist number `round_number`, if labels are shortlisted."""
        inputs = self._builder(text)
        schema = self._schema if self._server.supports_schema else None
        as_json = schema is not None
        if rejected is None:
            messages = self._prompt.messages(inputs.text, as_json, inputs.contexts[round_number])
        else:
            messages = self._prompt.retry_messages(inputs.text, as_json, rejected, inputs.contexts[round_number])
        temperature = self._options.temperature
        if temperature is None:
            temperature = 1.0 if votes else 0.0
        logprobs = self._wants_logprobs and self._server.supports_logprobs
        constant = 1 + 2 * len(self._prompt.examples)
        return ChatRequest(messages, self._max_tokens, temperature, max(1, votes), schema, logprobs, constant)

    @property
    def _uses_votes(self) -> bool:
        return self._options.samples > 1 and not (self._wants_logprobs and self._server.supports_logprobs)

    def _ask(self, text: str, call: CallUsage) -> Answer:
        """The answer; if labels are shortlisted, one shortlist after the other while none of its labels fits."""
        rounds: list[ShortlistScores] = []
        for round_number, context in enumerate(self._builder(text).contexts):
            answer = self._ask_once(text, call, round_number, context)
            if answer.scores is None or not self._prompt.shortlisted:
                return answer
            rounds.append(ShortlistScores(context.columns, answer.scores))
            if not predicts_none(answer.scores):
                return replace(answer, scores=combine_shortlists(rounds))
        return Answer("unparsable", raw=f"none of the {sum(len(each.columns) for each in rounds)} labels offered")

    def _ask_once(self, text: str, call: CallUsage, round_number: int, context: PromptContext) -> Answer:
        """The answer with a score for every code, "none of these" included."""
        if self._uses_votes:
            return self._vote(text, call, round_number, context)
        choice = self._one(text, call, round_number)
        parsed = self._reader.parse(choice, context)
        if parsed is None:
            if choice.truncated and not choice.text.strip():
                raise RequestFailed(
                    f"max_tokens = {self._max_tokens} were used up before an answer began; raise max_tokens"
                )
            choice = self._one(text, call, round_number, rejected=choice.text)
            parsed = self._reader.parse(choice, context)
        if parsed is None:
            return Answer("unparsable", raw=shorten(choice.text))
        answer = self._reader.answer(choice, parsed)
        if answer.how == "one-hot" and self._options.samples > 1:
            return self._vote(text, call, round_number, context)
        return answer

    def _one(self, text: str, call: CallUsage, round_number: int, rejected: str | None = None) -> Choice:
        response = self._send(
            lambda: self._request(text, rejected, round_number=round_number), call, self._max_request(text)
        )
        return drop_refusals(response.choices)[0]

    def _vote(self, text: str, call: CallUsage, round_number: int, context: PromptContext) -> Answer:
        """Several samples at once if the server takes `n`, else one after the other."""
        choices: list[Choice] = []
        samples = self._options.samples
        while len(choices) < samples and call.requests_left:
            n = min(samples - len(choices), call.requests_left) if self._server.supports_n else 1
            build = partial(self._request, text, votes=n, round_number=round_number)
            choices += drop_refusals(self._send(build, call, self._max_request(text)).choices)
        parsed = self._reader.parse_all(choices, context)
        if not parsed and call.requests_left:
            again = self._one(text, call, round_number, rejected=choices[0].text)
            parsed = self._reader.parse_all([again], context)
        return self._reader.vote(choices, parsed)

    # --- writing -----------------------------------------------------------------------------------------------

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `generate(request)`: as for `answer`, with `generation_max_tokens`."""
        return self._max_call(self._max_generation_request(self._generation_prompt(request)), 1 + SPARE_REQUESTS)

    def _generation_prompt(self, request: GenerationRequest) -> GenerationPrompt:
        return fit_generation_prompt(
            self._task, self._builder.redact_request(request), self._options.generation_prompt_tokens, self._listable
        )

    def _max_generation_request(self, prompt: GenerationPrompt) -> Usage:
        tokens = max_tokens_of(prompt.messages("x")) + 4 * RAW_REPLY_CHARACTERS + len(str(prompt.schema).encode())
        return self._max_tokens_usage(tokens, self._options.generation_max_tokens)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """One request, its prompt counted as for `estimate_usage`, with short or with long texts."""
        bound = self._max_generation_request(self._generation_prompt(request))
        most, least = PROMPT_BYTES_PER_TOKEN
        seconds = self._options.timeout_s / 4 if self._by_time else 0.0
        low = Usage(math.ceil(bound.input_tokens / most), 0, min(15 * request.n, bound.output_tokens), seconds / 10)
        tokens, cached = (math.ceil(n / least) for n in (bound.input_tokens, bound.cache_write_tokens))
        return UsageEstimate(low, Usage(tokens, 0, bound.output_tokens, seconds, cache_write_tokens=cached))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Up to `request.n` texts for `request.label`, or for the request's feedback; none if the model refuses.

        A reply to feedback that cannot be parsed comes back with the label ""; without feedback no text comes back.

        Raises:
            BadSpec: a label the task does not have, or feedback that cannot be cut to `generation_prompt_tokens`.
            TeacherError: as for `answer`.
        """
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

    def _generate_once(self, prompt: GenerationPrompt, call: CallUsage, rejected: str | None) -> Choice:
        temperature = self._options.temperature if self._options.temperature is not None else 1.0

        def build() -> ChatRequest:
            schema = prompt.schema if self._server.supports_schema else None
            return ChatRequest(
                prompt.messages(rejected), self._options.generation_max_tokens, temperature, schema=schema
            )

        return drop_refusals(self._send(build, call, self._max_generation_request(prompt)).choices)[0]


def _ignore_seconds(seconds: float) -> None:
    """Time costs nothing where tokens are paid for."""


def _check_aliases(task: Task, aliases: Mapping[str, str]) -> None:
    for name, label in aliases.items():
        if label not in task.labels:
            raise BadSpec(f"The alias {name!r} names {label!r}, not a label.", did_you_mean(label, task.labels))
