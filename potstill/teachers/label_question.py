"""Asks a chat model for the label of a text, or for its labels: codes in the prompt, votes, shortlists, one more try.

The prompt is chosen in `prompt_builder.py`, replies are read in `answer_reader.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

from potstill.data.task import Answer, Task
from potstill.errors import BadSpec, did_you_mean
from potstill.teachers.answer_reader import AnswerReader
from potstill.teachers.base import Fact, TeacherSetup
from potstill.teachers.chat_question import ExpectedTokens, Requests, RequestTokens
from potstill.teachers.messages import CHAT_CAPABILITIES, ChatOptions, ChatRequest, ChatServer, Choice, shorten
from potstill.teachers.prompt_builder import PromptBuilder
from potstill.teachers.prompts import PROMPT_VERSION, PromptContext
from potstill.teachers.rate_limit import RequestFailed
from potstill.teachers.shortlist import ShortlistScores, combine_shortlists, predicts_none

# Requests that may be billed beyond the first: one more after an unparsable reply, and one that was lost.
SPARE_REQUESTS = 2
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


class LabelQuestion:
    """The question for a text's label; see `ChatQuestion`.

    Args:
        setup: task and gold examples.
        options: the options, checked; `max_tokens` is set.
        server: says which features it supports.

    Raises:
        BadSpec: an alias of no label, or options that cannot be combined.
    """

    capabilities = CHAT_CAPABILITIES

    def __init__(self, setup: TeacherSetup, options: ChatOptions, server: ChatServer) -> None:
        check_aliases(setup.task, options.aliases)
        if options.candidates and options.samples > 1:
            raise BadSpec("candidates and samples cannot be combined.", "Take one of them.")
        limit = options.max_schema_labels or 0
        self.builder = PromptBuilder(setup, options, limit)
        self._prompt = self.builder.prompt
        self._reader = AnswerReader(
            setup.task, self._prompt, options.aliases, options.candidates, options.one_hot_confidence
        )
        self._options = options
        self._server = server
        self._max_tokens = options.max_tokens or 32
        self.lists_labels = listable = len(self._prompt.codes) <= limit
        self._schema = self._prompt.schema(listable) if listable or (limit and self._prompt.shortlisted) else None
        self._wants_logprobs = options.logprobs == "auto" and not options.candidates and setup.task.kind != "multi"
        probe = 1 if options.samples > 1 and self._wants_logprobs else 0
        self.max_requests = self.builder.shortlist_rounds * (options.samples + probe + SPARE_REQUESTS - 1) + 1
        self.key_parts: tuple[object, ...] = (
            PROMPT_VERSION,
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            {name: getattr(options, name) for name in KEY_OPTIONS},
            [self._max_tokens, self._schema is not None],
            asdict(self.builder.identity),
        )
        self.facts: Mapping[str, Fact] = {
            "prompt_version": PROMPT_VERSION,
            "samples": options.samples,
            "one_hot_confidence": options.one_hot_confidence,
        }

    @property
    def samples(self) -> int:
        """Votes where the server gives no log-probabilities, else one."""
        return self._options.samples if self._uses_votes else 1

    def max_tokens(self, text: str) -> RequestTokens:
        """See `ChatQuestion.max_tokens`."""
        inputs = self.builder(text)
        prompt = max(self._prompt.max_prompt_tokens(inputs.text, context) for context in inputs.contexts)
        return RequestTokens(prompt, self._max_tokens)

    def expected_tokens(self, text: str) -> ExpectedTokens:
        """See `ChatQuestion.expected_tokens`; a prompt is counted with what it has beside its words."""
        return ExpectedTokens(self.max_tokens(text).prompt, 1, self._max_tokens)

    def request(self, text: str, n: int = 0) -> ChatRequest:
        """See `ChatQuestion.request`; the labels are those of the first shortlist."""
        return self._request(text, n=n)

    def _request(self, text: str, rejected: str | None = None, n: int = 0, round_number: int = 0) -> ChatRequest:
        """What is sent about the text: its shortlist number `round_number`, if labels are shortlisted."""
        inputs = self.builder(text)
        schema = self._schema if self._server.supports_schema else None
        as_json = schema is not None
        if rejected is None:
            messages = self._prompt.messages(inputs.text, as_json, inputs.contexts[round_number])
        else:
            messages = self._prompt.retry_messages(inputs.text, as_json, rejected, inputs.contexts[round_number])
        temperature = self._options.temperature
        if temperature is None:
            temperature = 1.0 if n else 0.0
        logprobs = self._wants_logprobs and self._server.supports_logprobs
        constant = 1 + 2 * len(self._prompt.examples)
        return ChatRequest(messages, self._max_tokens, temperature, max(1, n), schema, logprobs, constant)

    @property
    def _uses_votes(self) -> bool:
        return self._options.samples > 1 and not (self._wants_logprobs and self._server.supports_logprobs)

    def ask(self, text: str, requests: Requests) -> Answer:
        """The answer; if labels are shortlisted, one shortlist after the other while none of its labels fits."""
        rounds: list[ShortlistScores] = []
        for round_number, context in enumerate(self.builder(text).contexts):
            answer = self._ask_once(text, requests, round_number, context)
            if answer.scores is None or not self._prompt.shortlisted:
                return answer
            rounds.append(ShortlistScores(context.columns, answer.scores))
            if not predicts_none(answer.scores):
                return replace(answer, scores=combine_shortlists(rounds))
        return Answer("unparsable", raw=f"none of the {sum(len(each.columns) for each in rounds)} labels offered")

    def _ask_once(self, text: str, requests: Requests, round_number: int, context: PromptContext) -> Answer:
        """The answer with a score for every code, "none of these" included."""
        if self._uses_votes:
            return self._vote(text, requests, round_number, context)
        choice = self._one(text, requests, round_number)
        parsed = self._reader.parse(choice, context)
        if parsed is None:
            if choice.truncated and not choice.text.strip():
                raise RequestFailed(f"{self._used_up}; raise max_tokens")
            choice = self._one(text, requests, round_number, rejected=choice.text)
            parsed = self._reader.parse(choice, context)
        if parsed is None:
            return Answer("unparsable", raw=shorten(choice.text))
        answer = self._reader.answer(choice, parsed)
        if answer.how == "one-hot" and self._options.samples > 1:
            return self._vote(text, requests, round_number, context)
        return answer

    @property
    def _used_up(self) -> str:
        return f"max_tokens = {self._max_tokens} were used up before an answer began"

    def _one(self, text: str, requests: Requests, round_number: int, rejected: str | None = None) -> Choice:
        return requests.send(lambda: self._request(text, rejected, round_number=round_number))[0]

    def _vote(self, text: str, requests: Requests, round_number: int, context: PromptContext) -> Answer:
        """Several samples at once if the server takes `n`, else one after the other."""
        choices: list[Choice] = []
        samples = self._options.samples
        while len(choices) < samples and requests.left:
            n = min(samples - len(choices), requests.left) if self._server.supports_n else 1
            choices += requests.send(partial(self._request, text, n=n, round_number=round_number))
        parsed = self._reader.parse_all(choices, context)
        if not parsed and requests.left:
            again = self._one(text, requests, round_number, rejected=choices[0].text)
            parsed = self._reader.parse_all([again], context)
        return self._reader.vote(choices, parsed)

    def read(self, choices: Sequence[Choice], samples: int) -> Answer:
        """See `ChatQuestion.read`."""
        if samples > 1:
            return self._reader.without_none(self._reader.vote(choices, self._reader.parse_all(choices)))
        parsed = self._reader.parse(choices[0])
        if parsed is not None:
            return self._reader.without_none(self._reader.answer(choices[0], parsed))
        if choices[0].truncated and not choices[0].text.strip():
            return Answer("failed", raw=self._used_up)
        return Answer("unparsable", raw=shorten(choices[0].text))


def check_aliases(task: Task, aliases: Mapping[str, str]) -> None:
    """Raise BadSpec if an alias names no label of the task."""
    for name, label in aliases.items():
        if label not in task.labels:
            raise BadSpec(f"The alias {name!r} names {label!r}, not a label.", did_you_mean(label, task.labels))
