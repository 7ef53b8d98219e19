"""Asks a chat model for the answer to a text: gold examples as earlier turns, the text, and the reply as it is.

A reply is the answer: thinking before it and end marks of a chat template are cut, and nothing else. Does not cover
confidence: there are no votes and no log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import Answer, LabelledText
from potstill.errors import BadSpec
from potstill.teachers.base import Fact, TeacherSetup
from potstill.teachers.chat_question import ExpectedTokens, Requests, RequestTokens
from potstill.teachers.label_question import SPARE_REQUESTS
from potstill.teachers.messages import CHAT_CAPABILITIES, ChatOptions, ChatRequest, ChatServer, Choice, shorten
from potstill.teachers.prompt_builder import PromptBuilder
from potstill.teachers.prompts import DATA_NOTICE, Message, marked_text, max_tokens_of, sanitize_text
from potstill.teachers.rate_limit import RequestFailed
from potstill.teachers.reply_frames import cut_end_marks, cut_thinking

FREE_TEXT_PROMPT_VERSION = "1"
INSTRUCTION = "Answer the text."
RULES = "Reply with the answer alone, without a word before or after it."
AS_SHOWN = "Answer as in the examples: as long, and in the same form."
# Tokens a reply may have: by the longest gold example, or without any; and tokens for each of the student's.
MIN_REPLY_TOKENS, REPLY_FACTOR, DEFAULT_REPLY_TOKENS, MAX_REPLY_TOKENS = 32, 3, 256, 4096
REPLY_BYTES_PER_TOKEN = (4.5, 2.5)  # at most and at least
ASSUMED_REPLY_BYTES = (8, 400)  # at least and at most, where no gold example says how long an answer is


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
        generates=False,
        describes_labels=False,
        reads_feedback=False,
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
        shown = self.builder.prompt.examples
        # An answer may hold what is removed from its text.
        self._examples = [LabelledText(each.text, self.builder(each.label).text) for each in shown]
        self._constant = self._head(setup)
        self._own_limit = setup.options.get("max_tokens")
        self._thinking = 0 if self._own_limit else options.max_tokens or 0
        self._temperature = options.temperature or 0.0
        self._sizes = [len(each.label.encode("utf-8", "replace")) for each in self._examples]
        self._task_limit = setup.task.output.max_tokens if setup.task.output else None
        self.key_parts: tuple[object, ...] = (
            f"free text {FREE_TEXT_PROMPT_VERSION}",
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            {"temperature": self._temperature, "max_tokens": self._own_limit},
            [self._thinking],
            asdict(self.builder.identity),
        )
        self.facts: Mapping[str, Fact] = {"prompt_version": f"free text {FREE_TEXT_PROMPT_VERSION}"}

    def _head(self, setup: TeacherSetup) -> list[Message]:
        rules = f"{RULES} {AS_SHOWN}" if self._examples else RULES
        instruction = setup.task.instruction or INSTRUCTION
        head: list[Message] = [{"role": "system", "content": "\n\n".join([instruction, rules, DATA_NOTICE])}]
        for example in self._examples:
            head += [_turn(example.text), {"role": "assistant", "content": sanitize_text(example.label)}]
        return head

    def _max_reply(self) -> int:
        if self._own_limit:
            return int(self._own_limit)
        least = REPLY_BYTES_PER_TOKEN[1]
        longest = math.ceil(max(self._sizes) / least) if self._sizes else DEFAULT_REPLY_TOKENS // REPLY_FACTOR
        room = max(MIN_REPLY_TOKENS, REPLY_FACTOR * longest, REPLY_FACTOR * (self._task_limit or 0))
        return self._thinking + min(room, MAX_REPLY_TOKENS)

    def max_tokens(self, text: str) -> RequestTokens:
        """See `ChatQuestion.max_tokens`."""
        return RequestTokens(max_tokens_of(self._messages(text)), self._max_reply())

    def expected_tokens(self, text: str) -> ExpectedTokens:
        """By the gold examples' answers; a model that reasons first may use all that it is given for that."""
        most, sizes = self._max_reply(), self._sizes
        low, high = (min(sizes) / 2, max(sizes) * 1.5) if sizes else ASSUMED_REPLY_BYTES
        fewest, largest = REPLY_BYTES_PER_TOKEN
        return ExpectedTokens(
            sum(len(each["content"].encode("utf-8", "replace")) for each in self._messages(text)),
            min(1 + round(low / fewest), most),
            min(self._thinking + 1 + round(high / largest), most),
        )

    def _messages(self, text: str) -> list[Message]:
        return [*self._constant, _turn(self.builder(text).text)]

    def request(self, text: str, n: int = 0) -> ChatRequest:
        """See `ChatQuestion.request`."""
        return ChatRequest(self._messages(text), self._max_reply(), self._temperature, n_constant=len(self._constant))

    def ask(self, text: str, requests: Requests) -> Answer:
        """See `ChatQuestion.ask`."""
        choice = requests.send(lambda: self.request(text))[0]
        if choice.truncated:
            raise RequestFailed(f"the reply was cut at {self._max_reply()} tokens; set max_tokens")
        return _read(choice)

    def read(self, choices: Sequence[Choice], samples: int) -> Answer:
        """See `ChatQuestion.read`."""
        if choices[0].truncated:
            return FreeTextAnswer("failed", raw="the reply was cut; set max_tokens")
        return _read(choices[0])


def _read(choice: Choice) -> FreeTextAnswer:
    text = cut_end_marks(cut_thinking(choice.text)).strip()
    if not text:
        return FreeTextAnswer("unparsable", raw=shorten(choice.text))
    return FreeTextAnswer("ok", raw=shorten(choice.text), text=text)


def _turn(text: str) -> Message:
    return {"role": "user", "content": marked_text(text)}
