"""A teacher that is a chat model behind a server: asks, reads strictly, asks once more, and keeps the tab.

Knows no provider: a `Server` sends one request and sorts what goes wrong (`openai.py` has one). Covers one label a
text, and several. Does not cover batch queues, or texts longer than the model reads: those come back as refused. What
is put before a text is chosen in `question.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial

from potstill.data.task import Answer, GenerationRequest, LabelledText, Task, content_key
from potstill.errors import BadSpec, TeacherError, did_you_mean
from potstill.ledger.prices import Category, Price, Rates, Usage
from potstill.teachers.base import Fact, GeneratedTexts, Reply, TeacherMetadata, TeacherSetup, UsageEstimate
from potstill.teachers.generation_prompts import GenerationPrompt, fit_generation_prompt
from potstill.teachers.label_parsing import (
    LabelParser,
    ParsedLabel,
    scores_from_label,
    scores_from_logprobs,
    scores_from_votes,
    scores_from_weights,
)
from potstill.teachers.label_set_parsing import LabelSetParser, scores_from_label_set, scores_from_label_set_votes
from potstill.teachers.messages import (
    CHAT_CAPABILITIES,
    RAW_REPLY_CHARACTERS,
    ChatIdentity,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    ChatServer,
    Choice,
    drop_refusals,
    multiply_usage,
    shorten,
)
from potstill.teachers.prompt_builder import PromptBuilder
from potstill.teachers.prompts import PROMPT_VERSION, PromptContext, max_tokens_of
from potstill.teachers.rate_limit import CallUsage, ContentRefused, RateLimiter, RequestFailed, SharedTimer
from potstill.teachers.shortlist import ShortlistScores, combine_shortlists, predicts_none

# What a request may cost beyond the first: asking once more after an unreadable reply, and one that vanished.
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
        price: Price,
        identity: ChatIdentity,
    ) -> None:
        if setup.task.kind not in self.capabilities.task_kinds:
            raise BadSpec(
                f"The teacher {name!r} cannot do a task of kind {setup.task.kind!r}.", "Take another teacher."
            )
        _check_aliases(setup.task, options.aliases)
        self.name = name
        self.price = price
        self.parallel = options.parallel
        self._by_time = isinstance(price, Rates) and price.usd_per_hour is not None
        self.category: Category = "compute" if self._by_time else "llm"
        self._task = setup.task
        if options.candidates and options.samples > 1:
            raise BadSpec("candidates and samples are two ways to the same end.", "Take one of them.")
        limit = options.enum_limit or 0
        self._asking = PromptBuilder(setup, options, limit)
        self._prompt = self._asking.prompt
        # Asked for the hold, and again for each request.
        self._prompt_bound = lru_cache(2048)(self._longest_prompt)
        several = setup.task.kind == "multi"
        reading = LabelSetParser if several else LabelParser
        self._reading = reading(self._prompt.names, self._prompt.codes, options.aliases, options.candidates)
        self._options = options
        self._server = server
        self._max_tokens = options.max_tokens or 32
        self._listable = listable = len(self._prompt.codes) <= limit
        self._schema = self._prompt.schema(listable) if listable or (limit and self._prompt.shortlisted) else None
        self._wants_logprobs = options.logprobs == "auto" and not options.candidates and not several
        probe = 1 if options.samples > 1 and self._wants_logprobs else 0
        self._most = self._asking.shortlist_rounds * (options.samples + probe + SPARE_REQUESTS - 1) + 1
        self._patience_s = options.text_timeout_s or options.timeout_s * (2 if self._by_time else 10)
        self._clock = SharedTimer()
        self._pace = RateLimiter(options.requests_per_minute, options.tokens_per_minute, max(8, options.parallel))
        self._identity = identity
        self.key = self.generation_key = content_key(
            PROMPT_VERSION,
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            {name: getattr(options, name) for name in KEY_OPTIONS},
            [self._max_tokens, self._schema is not None],
            asdict(self._asking.identity),
            asdict(identity),
        )
        self._n_examples = len(setup.examples)

    @property
    def metadata(self) -> TeacherMetadata:
        """Facts for the report, with what was redacted so far."""
        extra: dict[str, Fact] = {"effort": self._identity.effort} if self._identity.effort else {}
        extra |= self._asking.facts
        extra |= {"prompt_version": PROMPT_VERSION, "samples": self._options.samples}
        extra["one_hot_confidence"] = self._options.one_hot_confidence
        return TeacherMetadata(
            price=self.price.source,
            model=self._identity.model,
            host=self._identity.host,
            n_examples=self._n_examples,
            redactions=self._asking.redactions,
            extra=extra,
        )

    # --- money -------------------------------------------------------------------------------------------------

    def _request_bound(self, text: str) -> Usage:
        return self._bound_of(self._prompt_bound(text), self._max_tokens)

    def _longest_prompt(self, text: str) -> int:
        asked = self._asking(text)
        return max(self._prompt.max_prompt_tokens(asked.text, offer) for offer in asked.contexts)

    def _bound_of(self, prompt: int, output: int) -> Usage:
        prompt += self._server.extra_tokens
        return Usage(prompt, 0, output, cache_write_tokens=prompt if self._server.bills_cache_writes else 0)

    def _call_bound(self, request: Usage, most: int) -> Usage:
        # Time in flight: no request starts after the patience, and the last one ends by its timeout.
        seconds = self._patience_s + self._options.timeout_s + 5 if self._by_time else 0.0
        return replace(multiply_usage(request, most), seconds=seconds)

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """An upper bound of `answer(texts)`.

        The bytes of the prompt (see `prompts.bound_tokens`) and all of `max_tokens`, for every request that may be
        billed: the samples and one more after an unreadable reply, for each shortlist; one after a broken connection.
        """
        bounds = (self._call_bound(self._request_bound(text), self._most) for text in texts)
        return sum(bounds, Usage())

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """One request a text (and sample), its prompt counted as `BYTES_A_TOKEN` at most and at least."""
        low, high = Usage(), Usage()
        for text in texts:
            bound, samples = self._request_bound(text), self._options.samples
            most, least = PROMPT_BYTES_PER_TOKEN
            low += Usage(math.ceil(bound.input_tokens / most), 0, samples, seconds=0.1 if self._by_time else 0.0)
            high += Usage(
                input_tokens=math.ceil(bound.input_tokens / least) * (1 if self._server.supports_n else samples),
                output_tokens=bound.output_tokens * samples,
                seconds=self._options.timeout_s / 4 if self._by_time else 0.0,
                cache_write_tokens=math.ceil(bound.cache_write_tokens / least),
            )
        return UsageEstimate(low, high)

    def _send(self, build: Callable[[], ChatRequest], tab: CallUsage, bound: Usage) -> ChatResponse:
        """The replies to the request that `build` makes anew for each try, charged to the tab."""
        n = build().n
        book = tab.add_seconds if self._by_time else _not_booked

        def once() -> ChatResponse:
            with self._clock.measure(book):
                return self._server.send(build())

        whole = multiply_usage(bound, n)
        said = self._pace.send(once, tab, whole, n)
        tab.add_usage(whole if said.usage is None else said.usage, max(1, min(n, len(said.choices))))
        return said

    # --- answering ---------------------------------------------------------------------------------------------

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text, in order, and what they consumed in all.

        Raises:
            TeacherError: wrong key, no such model, nobody there, or many texts in a row without an answer.
        """
        replies = [self._answer_one(text) for text in texts]
        return Reply(tuple(answer for answer, _ in replies), sum((tab.usage for _, tab in replies), Usage()))

    def _answer_one(self, text: str) -> tuple[Answer, CallUsage]:
        tab = CallUsage(self._most, self._patience_s)
        self._asking.count_redactions([text])
        try:
            answer = self._ask(text, tab)
        except ContentRefused as trouble:
            answer = Answer("refused", raw=shorten(trouble.reason))
        except RequestFailed as trouble:
            self._pace.record_failure(trouble.reason)
            return Answer("failed", raw=shorten(trouble.reason)), tab
        except TeacherError as error:
            error.billed = error.billed or tab.usage != Usage()
            raise
        self._pace.record_success()
        return answer, tab

    def _request(self, text: str, wrong: str | None = None, votes: int = 0, turn: int = 0) -> ChatRequest:
        """What is sent about the text: its shortlist number `turn`, where labels are shortlisted."""
        asked = self._asking(text)
        schema = self._schema if self._server.supports_schema else None
        as_json = schema is not None
        if wrong is None:
            messages = self._prompt.messages(asked.text, as_json, asked.contexts[turn])
        else:
            messages = self._prompt.retry_messages(asked.text, as_json, wrong, asked.contexts[turn])
        temperature = self._options.temperature
        if temperature is None:
            temperature = 1.0 if votes else 0.0
        logprobs = self._wants_logprobs and self._server.supports_logprobs
        constant = 1 + 2 * len(self._prompt.examples)
        return ChatRequest(messages, self._max_tokens, temperature, max(1, votes), schema, logprobs, constant)

    @property
    def _votes(self) -> bool:
        return self._options.samples > 1 and not (self._wants_logprobs and self._server.supports_logprobs)

    def _ask(self, text: str, tab: CallUsage) -> Answer:
        """The answer; where labels are shortlisted, one shortlist after the other while none of its labels fits."""
        rounds: list[ShortlistScores] = []
        for turn, offer in enumerate(self._asking(text).contexts):
            answer = self._ask_once(text, tab, turn, offer)
            if answer.scores is None or not self._prompt.shortlisted:
                return answer
            rounds.append(ShortlistScores(offer.columns, answer.scores))
            if not predicts_none(answer.scores):
                return replace(answer, scores=combine_shortlists(rounds))
        return Answer("unparsable", raw=f"none of the {sum(len(each.columns) for each in rounds)} labels offered")

    def _ask_once(self, text: str, tab: CallUsage, turn: int, offer: PromptContext) -> Answer:
        """The answer with a score for every code, "none of these" included."""
        if self._votes:
            return self._vote(text, tab, turn, offer)
        choice = self._one(text, tab, turn)
        found = self._understood(choice, offer)
        if found is None:
            if choice.truncated and not choice.text.strip():
                raise RequestFailed(
                    f"max_tokens = {self._max_tokens} were used up before an answer began; raise max_tokens"
                )
            choice = self._one(text, tab, turn, wrong=choice.text)
            found = self._understood(choice, offer)
        if found is None:
            return Answer("unparsable", raw=shorten(choice.text))
        answer = self._heard(choice, found)
        if answer.how == "one-hot" and self._options.samples > 1:
            return self._vote(text, tab, turn, offer)
        return answer

    def _understood(self, choice: Choice, offer: PromptContext | None = None) -> ParsedLabel | None:
        """What a reply says; None if it cannot be read, or names a label that was not offered."""
        found = self._reading.parse(choice.text)
        if found is None or offer is None or not self._prompt.shortlisted:
            return found
        named = {found.column, *found.weights}
        return found if named <= {*offer.columns, *([self._task.n_labels] if offer.offers_none else [])} else None

    def _heard(self, choice: Choice, found: ParsedLabel) -> Answer:
        """The answer of one reply that was read, with a score for every code."""
        raw = shorten(choice.text)
        n, confidence = len(self._reading.codes), self._options.one_hot_confidence
        if found.columns is not None:
            return Answer("ok", scores_from_label_set(found.columns, n, confidence), "one-hot", raw)
        if choice.token_logprobs and found.code_offset is not None:
            scores = scores_from_logprobs(choice.token_logprobs, found.code_offset, self._reading.codes)
            if scores is not None:
                return Answer("ok", scores, "logprobs", raw)
        if found.weights:
            return Answer("ok", scores_from_weights(found.weights, n, confidence), "stated", raw)
        return Answer("ok", scores_from_label(found.column, n, confidence), "one-hot", raw)

    def _found(self, choice: Choice, found: ParsedLabel) -> Answer:
        """The answer of one reply that was read, where no other is to come."""
        return self._closed(self._heard(choice, found))

    def _closed(self, answer: Answer) -> Answer:
        """The answer without "none of these"; unparsable if that is what it says."""
        if answer.scores is None or not self._prompt.shortlisted:
            return answer
        if predicts_none(answer.scores):
            return Answer("unparsable", raw="none of the labels offered")
        return replace(answer, scores=combine_shortlists([ShortlistScores(range(self._task.n_labels), answer.scores)]))

    def _one(self, text: str, tab: CallUsage, turn: int, wrong: str | None = None) -> Choice:
        said = self._send(lambda: self._request(text, wrong, turn=turn), tab, self._request_bound(text))
        return drop_refusals(said.choices)[0]

    def _vote(self, text: str, tab: CallUsage, turn: int, offer: PromptContext) -> Answer:
        """Several samples at once where the server takes `n`, else one after the other."""
        choices: list[Choice] = []
        samples = self._options.samples
        while len(choices) < samples and tab.requests_left:
            n = min(samples - len(choices), tab.requests_left) if self._server.supports_n else 1
            build = partial(self._request, text, votes=n, turn=turn)
            choices += drop_refusals(self._send(build, tab, self._request_bound(text)).choices)
        every = self._all_found(choices, offer)
        if not every and tab.requests_left:
            found = self._understood(self._one(text, tab, turn, wrong=choices[0].text), offer)
            every = [found] if found else []
        return self._counted(choices, every)

    def _all_found(self, choices: Sequence[Choice], offer: PromptContext | None = None) -> list[ParsedLabel]:
        return [found for choice in choices if (found := self._understood(choice, offer))]

    def _counted(self, choices: Sequence[Choice], every: Sequence[ParsedLabel]) -> Answer:
        """The answer of several replies, with a score for every code."""
        raw = shorten(" | ".join(choice.text for choice in choices))
        if not every:
            return Answer("unparsable", raw=raw)
        n, sets = len(self._reading.codes), [found.columns for found in every if found.columns is not None]
        scores = (
            scores_from_label_set_votes(sets, n) if sets else scores_from_votes([found.column for found in every], n)
        )
        return Answer("ok", scores, "votes", raw)

    def _voted(self, choices: Sequence[Choice], every: Sequence[ParsedLabel]) -> Answer:
        """The answer of several replies, where no other is to come."""
        return self._closed(self._counted(choices, every))

    # --- writing -----------------------------------------------------------------------------------------------

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `write(request)`: as for `answer`, with `generation_max_tokens`."""
        return self._call_bound(self._write_request_bound(self._wish(request)), 1 + SPARE_REQUESTS)

    def _wish(self, request: GenerationRequest) -> GenerationPrompt:
        return fit_generation_prompt(
            self._task, self._asking.redact_request(request), self._options.generation_prompt_tokens, self._listable
        )

    def _write_request_bound(self, wish: GenerationPrompt) -> Usage:
        prompt = max_tokens_of(wish.messages("x")) + 4 * RAW_REPLY_CHARACTERS + len(str(wish.schema).encode())
        return self._bound_of(prompt, self._options.generation_max_tokens)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """What `write` will probably consume: one request, its prompt counted as for `expect`, short texts or long."""
        bound = self._write_request_bound(self._wish(request))
        most, least = PROMPT_BYTES_PER_TOKEN
        seconds = self._options.timeout_s / 4 if self._by_time else 0.0
        low = Usage(math.ceil(bound.input_tokens / most), 0, min(15 * request.n, bound.output_tokens), seconds / 10)
        prompt, cached = (math.ceil(n / least) for n in (bound.input_tokens, bound.cache_write_tokens))
        return UsageEstimate(low, Usage(prompt, 0, bound.output_tokens, seconds, cache_write_tokens=cached))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Up to `request.n` texts for `request.label`, or for what the guide shows; none where the model refuses.

        What it wrote to a guide and cannot be read comes back with the label ""; without a guide there is nothing then.

        Raises:
            BadSpec: a label the task does not have, or a guide that cannot be cut to `generation_prompt_tokens`.
            TeacherError: as for `answer`.
        """
        wish = self._wish(request)
        tab = CallUsage(1 + SPARE_REQUESTS, self._patience_s)
        texts: tuple[LabelledText, ...] | None = None
        wrong: str | None = None
        try:
            for _ in range(2):
                choice = self._write_once(wish, tab, wrong)
                texts = wish.parse(choice.text)
                if texts is not None:
                    break
                wrong = choice.text
        except ContentRefused:
            pass
        except RequestFailed as trouble:
            self._pace.record_failure(trouble.reason)
        except TeacherError as error:
            error.billed = error.billed or tab.usage != Usage()
            raise
        if texts is None:
            texts = () if wrong is None else wish.unparsed(wrong)
        return GeneratedTexts(texts, tab.usage)

    def _write_once(self, wish: GenerationPrompt, tab: CallUsage, wrong: str | None) -> Choice:
        temperature = self._options.temperature if self._options.temperature is not None else 1.0

        def build() -> ChatRequest:
            schema = wish.schema if self._server.supports_schema else None
            return ChatRequest(wish.messages(wrong), self._options.generation_max_tokens, temperature, schema=schema)

        return drop_refusals(self._send(build, tab, self._write_request_bound(wish)).choices)[0]


def _not_booked(seconds: float) -> None:
    """Time costs nothing where tokens are paid for."""


def _check_aliases(task: Task, aliases: Mapping[str, str]) -> None:
    for name, label in aliases.items():
        if label not in task.labels:
            raise BadSpec(f"The alias {name!r} names {label!r}, not a label.", did_you_mean(label, task.labels))
