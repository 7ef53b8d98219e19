"""Asks a chat model for the answer to a text, in one request.

The prompt and the reader of a reply are in `free_text_prompt.py`. Does not cover confidence: there are no votes and no
log-probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import Answer, LabelledText
from potstill.errors import BadSpec
from potstill.teachers.base import Fact, TeacherSetup
from potstill.teachers.chat_question import ExpectedTokens, Requests, RequestTokens
from potstill.teachers.free_text_prompt import FREE_TEXT_PROMPT_VERSION, FreeTextPrompt, read_reply
from potstill.teachers.label_question import SPARE_REQUESTS
from potstill.teachers.messages import CHAT_CAPABILITIES, ChatOptions, ChatRequest, ChatServer, Choice
from potstill.teachers.prompt_builder import PromptBuilder
from potstill.teachers.prompts import Message, max_tokens_of
from potstill.teachers.rate_limit import RequestFailed


class FreeTextQuestion:
    """The question for a text's answer; see `ChatQuestion`.

    Args:
        setup: task and gold examples, whose labels are answers.
        options: the options, checked.
        server: sends requests.

    Raises:
        BadSpec: an option of tasks of labels.
    """

    capabilities = replace(
        CHAT_CAPABILITIES,
        describes_labels=False,
        writes_answers=True,
        soft_labels=False,
    )
    lists_labels = False
    max_requests = 1 + SPARE_REQUESTS
    samples = 1

    def __init__(self, setup: TeacherSetup, options: ChatOptions, server: ChatServer) -> None:
        if options.samples > 1:
            raise BadSpec("Samples are votes for labels, and this task has answers in words.", "Leave samples out.")
        if options.aliases:
            raise BadSpec("Aliases are other names of labels, and this task has none.", "Leave aliases out.")
        self.builder = PromptBuilder(setup, options, 0)
        # An answer may hold what is removed from its text.
        shown = (LabelledText(each.text, self.builder(each.label).text) for each in self.builder.prompt.examples)
        self._prompt = FreeTextPrompt(setup.task, tuple(shown))
        self._own_limit = setup.options.get("max_tokens")
        self._thinking = 0 if self._own_limit else options.max_tokens or 0
        self._temperature = options.temperature or 0.0
        self.key_parts: tuple[object, ...] = (
            f"free text {FREE_TEXT_PROMPT_VERSION}",
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            {"temperature": self._temperature, "max_tokens": self._own_limit},
            [self._thinking],
            asdict(self.builder.identity),
        )
        self.facts: Mapping[str, Fact] = {"prompt_version": f"free text {FREE_TEXT_PROMPT_VERSION}"}

    def _max_reply(self) -> int:
        return int(self._own_limit) if self._own_limit else self._thinking + self._prompt.max_reply_tokens

    def _messages(self, text: str) -> list[Message]:
        return self._prompt.messages(self.builder(text).text)

    def max_tokens(self, text: str) -> RequestTokens:
        """See `ChatQuestion.max_tokens`."""
        return RequestTokens(max_tokens_of(self._messages(text)), self._max_reply())

    def expected_tokens(self, text: str) -> ExpectedTokens:
        """By the gold examples' answers; a model that reasons first may use all that it is given for that."""
        most, (low, high) = self._max_reply(), self._prompt.expected_tokens
        n_bytes = sum(len(each["content"].encode("utf-8", "replace")) for each in self._messages(text))
        return ExpectedTokens(n_bytes, min(round(low), most), min(self._thinking + round(high), most))

    def request(self, text: str, n: int = 0) -> ChatRequest:
        """See `ChatQuestion.request`."""
        return ChatRequest(
            self._messages(text), self._max_reply(), self._temperature, n_constant=len(self._prompt.constant)
        )

    def ask(self, text: str, requests: Requests) -> Answer:
        """See `ChatQuestion.ask`."""
        choice = requests.send(lambda: self.request(text))[0]
        if choice.truncated:
            raise RequestFailed(f"the reply was cut at {self._max_reply()} tokens; set max_tokens")
        return read_reply(choice.text)

    def read(self, choices: Sequence[Choice], samples: int) -> Answer:
        """See `ChatQuestion.read`."""
        if choices[0].truncated:
            return FreeTextAnswer("failed", raw="the reply was cut; set max_tokens")
        return read_reply(choices[0].text)
