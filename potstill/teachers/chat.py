"""A teacher that is a chat model behind a server: asks, reads strictly, asks once more, and keeps the tab.

Knows no provider: a `Server` sends one request and sorts what goes wrong (`openai.py` has one). Covers one-label
tasks with all labels in the prompt. Does not cover batch queues, shortlists of labels, or texts longer than the
model reads: those come back as refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from potstill.errors import BadSpec, TeacherError, did_you_mean
from potstill.money import Category, Price, Rates, Usage
from potstill.task import Answer, Brief, Task, Written, content_key
from potstill.teachers.base import Draft, Reply, Setup
from potstill.teachers.options import Options
from potstill.teachers.pace import Clock, Failed, Pace, Refused, Tab
from potstill.teachers.parse import Reading, Step, read_texts, scores_of_one, scores_of_tokens, scores_of_votes
from potstill.teachers.prompts import PROMPT_VERSION, WRITE_SCHEMA, Message, Prompt, bound_tokens, write_messages

KEPT_CHARACTERS = 200
# What a request may cost beyond the first: asking once more after an unreadable reply, and one that vanished.
SPARE_REQUESTS = 2


class ChatOptions(Options):
    """The options every chat teacher has.

    Attributes:
        max_tokens: what one reply may generate, reasoning included; None takes what the model needs.
        temperature: None is 0 for one sample and 1 for votes, which then estimate the model's own distribution.
        samples: votes per text where the server gives no log-probabilities; 1 asks once.
        logprobs: "auto" uses token log-probabilities where the server gives them; false never asks for them.
        confidence: the probability given to the label where only a bare label is known.
        aliases: other names the model may use -> label.
        enum_limit: with more labels than this no JSON schema is sent; None is what the provider takes.
        parallel: calls in flight.
        timeout_s: for one request.
        patience_s: for one text, waits and new tries included; None is ten timeouts (two where time is paid for).
        requests_per_minute, tokens_per_minute: limits to stay under; without them only refusals slow it down.
        write_max_tokens: what one reply of `write` may generate.
    """

    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    samples: int = Field(default=1, ge=1, le=100)
    logprobs: Literal["auto", False] = "auto"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    aliases: dict[str, str] = Field(default_factory=dict)
    enum_limit: int | None = Field(default=None, ge=0)
    parallel: int = Field(default=16, ge=1, le=1024)
    timeout_s: float = Field(default=60.0, gt=0)
    patience_s: float | None = Field(default=None, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    write_max_tokens: int = Field(default=4096, ge=1, le=100_000)


@dataclass(frozen=True)
class Request:
    """One request: `n` replies to `messages`. `schema` and `logprobs` are wishes a server may not grant."""

    messages: Sequence[Message]
    max_tokens: int
    temperature: float
    n: int = 1
    schema: Mapping[str, Any] | None = None
    logprobs: bool = False


@dataclass(frozen=True)
class Choice:
    """One reply: its text, why it was refused (or ""), whether it was cut at `max_tokens`, its tokens if known."""

    text: str
    refused: str = ""
    cut: bool = False
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Said:
    """What a request brought; `usage` is None where the server did not say, and the bound is charged instead."""

    choices: tuple[Choice, ...]
    usage: Usage | None


class Server(Protocol):
    """Sends one request; raises a `pace.Trouble`, or TeacherError where no request can succeed.

    Attributes:
        takes_schema, gives_logprobs, takes_n: what it is still believed to do; it forgets what was refused.
    """

    takes_schema: bool
    gives_logprobs: bool
    takes_n: bool

    def send(self, request: Request) -> Said:
        """The replies to one request, sent once."""


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
    scores_need_prior = False
    batch = 1

    def __init__(
        self, name: str, setup: Setup, options: ChatOptions, server: Server, price: Price, identity: Mapping[str, Any]
    ) -> None:
        if setup.task.kind not in ("single", "pair"):
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
        self._prompt = Prompt(setup.task, tuple(setup.examples))
        self._reading = Reading(setup.task.labels, self._prompt.codes, options.aliases)
        self._options = options
        self._server = server
        self._max_tokens = options.max_tokens or 32
        self._schema = self._prompt.schema if setup.task.n_labels <= (options.enum_limit or 0) else None
        self._wants_logprobs = options.logprobs == "auto"
        probe = 1 if options.samples > 1 and self._wants_logprobs else 0
        self._most = options.samples + probe + SPARE_REQUESTS
        self._patience_s = options.patience_s or options.timeout_s * (2 if self._by_time else 10)
        self._clock = Clock()
        self._pace = Pace(options.requests_per_minute, options.tokens_per_minute, max(8, options.parallel))
        asked = options.model_dump(
            include={"temperature", "samples", "logprobs", "confidence", "aliases"} | {"write_max_tokens"}
        )
        self.key = content_key(
            PROMPT_VERSION,
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            asked | {"max_tokens": self._max_tokens, "schema": self._schema is not None},
            identity,
        )
        self.about: Mapping[str, Any] = {
            **identity,
            "prompt_version": PROMPT_VERSION,
            "examples": len(setup.examples),
            "samples": options.samples,
            "one_hot_confidence": options.confidence,
            "price": price.source,
        }

    # --- money -------------------------------------------------------------------------------------------------

    def _request_bound(self, text: str) -> Usage:
        return Usage(input_tokens=self._prompt.bound(text), output_tokens=self._max_tokens)

    def _call_bound(self, request: Usage, most: int) -> Usage:
        # Time in flight: no request starts after the patience, and the last one ends by its timeout.
        seconds = self._patience_s + self._options.timeout_s + 5 if self._by_time else 0.0
        return Usage(request.input_tokens * most, 0, request.output_tokens * most, seconds)

    def bound(self, texts: Sequence[str]) -> Usage:
        """An upper bound of `answer(texts)`: the bytes of the prompt (see `prompts.bound_tokens`) and all of
        `max_tokens`, for every request that may be billed: the samples, one more after an unreadable reply, one
        after a connection that broke."""
        bounds = (self._call_bound(self._request_bound(text), self._most) for text in texts)
        return sum(bounds, Usage())

    def _send(self, build: Callable[[], Request], tab: Tab, bound: Usage) -> Said:
        """The replies to the request that `build` makes anew for each try, charged to the tab."""
        n = build().n
        book = tab.ran if self._by_time else _not_booked

        def once() -> Said:
            with self._clock.lap(book):
                return self._server.send(build())

        whole = Usage(bound.input_tokens * n, 0, bound.output_tokens * n)
        said = self._pace.send(once, tab, whole, n)
        tab.charge(whole if said.usage is None else said.usage, max(1, min(n, len(said.choices))))
        return said

    # --- answering ---------------------------------------------------------------------------------------------

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text, in order, and what they consumed in all.

        Raises:
            TeacherError: wrong key, no such model, nobody there, or many texts in a row without an answer.
        """
        replies = [self._answer_one(text) for text in texts]
        return Reply(tuple(answer for answer, _ in replies), sum((tab.usage for _, tab in replies), Usage()))

    def _answer_one(self, text: str) -> tuple[Answer, Tab]:
        tab = Tab(self._most, self._patience_s)
        try:
            answer = self._ask(text, tab)
        except Refused as trouble:
            answer = Answer("refused", raw=_short(trouble.reason))
        except Failed as trouble:
            self._pace.failed(trouble.reason)
            return Answer("failed", raw=_short(trouble.reason)), tab
        except TeacherError as error:
            error.billed = error.billed or tab.usage != Usage()
            raise
        self._pace.answered()
        return answer, tab

    def _request(self, text: str, wrong: str | None = None, votes: int = 0) -> Request:
        schema = self._schema if self._server.takes_schema else None
        as_json = schema is not None
        if wrong is None:
            messages = self._prompt.messages(text, as_json)
        else:
            messages = self._prompt.again(text, as_json, wrong)
        temperature = self._options.temperature
        if temperature is None:
            temperature = 1.0 if votes else 0.0
        logprobs = self._wants_logprobs and self._server.gives_logprobs
        return Request(messages, self._max_tokens, temperature, max(1, votes), schema, logprobs)

    @property
    def _votes(self) -> bool:
        return self._options.samples > 1 and not (self._wants_logprobs and self._server.gives_logprobs)

    def _ask(self, text: str, tab: Tab) -> Answer:
        if self._votes:
            return self._vote(text, tab)
        choice = self._one(text, tab)
        found = self._reading.read(choice.text)
        if found is None:
            if choice.cut and not choice.text.strip():
                raise Failed(f"max_tokens = {self._max_tokens} were used up before an answer began; raise max_tokens")
            choice = self._one(text, tab, wrong=choice.text)
            found = self._reading.read(choice.text)
        if found is None:
            return Answer("unparsable", raw=_short(choice.text))
        n_labels = self._task.n_labels
        if choice.steps and found.code_at is not None:
            scores = scores_of_tokens(choice.steps, found.code_at, self._reading.codes)
            if scores is not None:
                return Answer("ok", scores, "logprobs", _short(choice.text))
        if self._options.samples > 1:
            return self._vote(text, tab)
        return Answer(
            "ok", scores_of_one(found.column, n_labels, self._options.confidence), "one-hot", _short(choice.text)
        )

    def _one(self, text: str, tab: Tab, wrong: str | None = None) -> Choice:
        said = self._send(lambda: self._request(text, wrong), tab, self._request_bound(text))
        return _willing(said.choices)[0]

    def _vote(self, text: str, tab: Tab) -> Answer:
        """Several samples at once where the server takes `n`, else one after the other."""
        choices: list[Choice] = []
        samples = self._options.samples
        while len(choices) < samples and tab.left:
            n = min(samples - len(choices), tab.left) if self._server.takes_n else 1
            said = self._send(lambda n=n: self._request(text, votes=n), tab, self._request_bound(text))  # type: ignore[misc]
            choices += _willing(said.choices)
        columns = [found.column for choice in choices if (found := self._reading.read(choice.text))]
        if not columns and tab.left:
            found = self._reading.read(self._one(text, tab, wrong=choices[0].text).text)
            columns = [found.column] if found else []
        raw = _short(" | ".join(choice.text for choice in choices))
        if not columns:
            return Answer("unparsable", raw=raw)
        return Answer("ok", scores_of_votes(columns, self._task.n_labels), "votes", raw)

    # --- writing -----------------------------------------------------------------------------------------------

    def write_bound(self, brief: Brief) -> Usage:
        """An upper bound of `write(brief)`: as for `answer`, with `write_max_tokens`."""
        return self._call_bound(self._write_request_bound(brief), 1 + SPARE_REQUESTS)

    def _write_request_bound(self, brief: Brief) -> Usage:
        prompt = bound_tokens(write_messages(self._task, brief, "x")) + 4 * KEPT_CHARACTERS + len(str(WRITE_SCHEMA))
        return Usage(input_tokens=prompt, output_tokens=self._options.write_max_tokens)

    def write(self, brief: Brief) -> Draft:
        """Up to `brief.n` texts for `brief.label`; none where the model refuses or twice sends no JSON.

        Raises:
            BadSpec: a label the task does not have.
            TeacherError: as for `answer`.
        """
        if brief.label not in self._task.labels:
            raise BadSpec(f"{brief.label!r} is not a label.", did_you_mean(brief.label, self._task.labels))
        tab = Tab(1 + SPARE_REQUESTS, self._patience_s)
        texts: tuple[str, ...] | None = None
        wrong: str | None = None
        try:
            for _ in range(2):
                choice = self._write_once(brief, tab, wrong)
                texts = read_texts(choice.text, brief.n)
                if texts is not None:
                    break
                wrong = choice.text
        except Refused:
            pass
        except Failed as trouble:
            self._pace.failed(trouble.reason)
        except TeacherError as error:
            error.billed = error.billed or tab.usage != Usage()
            raise
        return Draft(tuple(Written(text, brief.label) for text in texts or ()), tab.usage)

    def _write_once(self, brief: Brief, tab: Tab, wrong: str | None) -> Choice:
        temperature = self._options.temperature if self._options.temperature is not None else 1.0

        def build() -> Request:
            schema = WRITE_SCHEMA if self._server.takes_schema else None
            messages = write_messages(self._task, brief, wrong)
            return Request(messages, self._options.write_max_tokens, temperature, schema=schema)

        return _willing(self._send(build, tab, self._write_request_bound(brief)).choices)[0]


def _not_booked(seconds: float) -> None:
    """Time costs nothing where tokens are paid for."""


def _willing(choices: Sequence[Choice]) -> list[Choice]:
    """The choices that were not refused. Raises Refused if none was left."""
    willing = [choice for choice in choices if not choice.refused]
    if not willing:
        raise Refused(choices[0].refused if choices else "no reply")
    return willing


def _short(text: str) -> str:
    return " ".join(text.split())[:KEPT_CHARACTERS]


def _check_aliases(task: Task, aliases: Mapping[str, str]) -> None:
    for name, label in aliases.items():
        if label not in task.labels:
            raise BadSpec(f"The alias {name!r} names {label!r}, not a label.", did_you_mean(label, task.labels))
