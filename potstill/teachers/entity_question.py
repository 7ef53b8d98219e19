"""Asks a chat model for the entities of a text: JSON by a schema, one more try, and room for a reply of its length.

The prompt and the reader of a reply are in `entity_prompt.py`. Does not cover confidence: there are no votes and no
log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.entities.build import decode_entities
from potstill.data.task import Answer, LabelledText
from potstill.errors import BadSpec
from potstill.teachers.base import Fact, TeacherSetup
from potstill.teachers.chat_question import ExpectedTokens, Requests, RequestTokens
from potstill.teachers.entity_prompt import ENTITY_PROMPT_VERSION, EntityExample, EntityPrompt, encode_named
from potstill.teachers.label_question import SPARE_REQUESTS, check_aliases
from potstill.teachers.messages import CHAT_CAPABILITIES, ChatOptions, ChatRequest, ChatServer, Choice, shorten
from potstill.teachers.prompt_builder import PromptBuilder
from potstill.teachers.rate_limit import RequestFailed

# Room for a reply: a third of a text's words as entities, with their types, in JSON; and what the longest may have.
REPLY_TOKENS, REPLY_TOKENS_PER_BYTE, MAX_REPLY_TOKENS = 64, 2.0, 4096
# Bytes of a reply in a token, at most and at least; and tokens of `{"entities": []}`.
REPLY_BYTES_PER_TOKEN, EMPTY_TOKENS = (4.5, 2.5), 5
# Of a text in its reply, where no gold example says how much: for the estimate of the cost.
ASSUMED_REPLY_SHARE = (0.2, 2.0)


def max_entity_tokens(text: str) -> int:
    """The longest reply that is asked for about a text, in tokens."""
    n_bytes = len(text.encode("utf-8", "replace"))
    return min(MAX_REPLY_TOKENS, REPLY_TOKENS + math.ceil(REPLY_TOKENS_PER_BYTE * n_bytes))


def entity_examples(examples: Sequence[LabelledText], shown: Sequence[str]) -> tuple[EntityExample, ...]:
    """Gold examples, whose labels are entities as JSON, as a prompt shows them.

    Args:
        examples: the gold texts.
        shown: the texts after redaction; entities whose words were removed are left out.
    """
    made = []
    for example, text in zip(examples, shown, strict=True):
        words = [(example.text[e.start : e.end], e.type) for e in decode_entities(example.label) or ()]
        made.append(EntityExample(text, tuple(NamedEntity(*each) for each in words if each[0] in text)))
    return tuple(made)


def reply_share(examples: Sequence[EntityExample]) -> tuple[float, float]:
    """(Least, most) bytes of a reply for a byte of its text, by gold examples."""
    texts = sum(len(each.text.encode("utf-8", "replace")) for each in examples)
    if not texts:
        return ASSUMED_REPLY_SHARE
    share = sum(len(encode_named(each.named).encode("utf-8", "replace")) for each in examples) / texts
    return share / 2, share * 1.5


class EntityQuestion:
    """The question for a text's entities; see `ChatQuestion`.

    Args:
        setup: task and gold examples, whose labels are entities as `encode_entities` writes them.
        options: the options, checked.
        server: says whether it takes a schema.

    Raises:
        BadSpec: an option of tasks of labels.
    """

    capabilities = replace(
        CHAT_CAPABILITIES,
        describes_labels=False,
        writes_answers=True,
        soft_labels=False,
    )
    max_requests = 1 + SPARE_REQUESTS
    samples = 1

    def __init__(self, setup: TeacherSetup, options: ChatOptions, server: ChatServer) -> None:
        check_aliases(setup.task, options.aliases)
        if options.samples > 1:
            raise BadSpec("Samples are votes for labels, and this task is of entities.", "Leave samples out.")
        self.builder = PromptBuilder(setup, options, options.max_schema_labels or 0)
        shown = [each.text for each in self.builder.prompt.examples]
        self._prompt = EntityPrompt(setup.task, entity_examples(setup.examples, shown), options.aliases)
        self._own_limit = setup.options.get("max_tokens")
        self._thinking = 0 if self._own_limit else options.max_tokens or 0
        self._temperature = options.temperature or 0.0
        self._server = server
        limit = options.max_schema_labels or 0
        self.lists_labels = setup.task.n_labels <= limit
        self._schema = self._prompt.schema if self.lists_labels else None
        self._share = reply_share(self._prompt.examples)
        self.key_parts: tuple[object, ...] = (
            f"entities {ENTITY_PROMPT_VERSION}",
            setup.task.key,
            [(example.text, example.label) for example in setup.examples],
            {"temperature": self._temperature, "aliases": options.aliases, "max_tokens": self._own_limit},
            [self._thinking, self._schema is not None],
            asdict(self.builder.identity),
        )
        self.facts: Mapping[str, Fact] = {"prompt_version": f"entities {ENTITY_PROMPT_VERSION}"}

    def _max_reply(self, text: str) -> int:
        return int(self._own_limit) if self._own_limit else self._thinking + max_entity_tokens(text)

    def max_tokens(self, text: str) -> RequestTokens:
        """See `ChatQuestion.max_tokens`."""
        return RequestTokens(self._prompt.max_prompt_tokens(self.builder(text).text), self._max_reply(text))

    def expected_tokens(self, text: str) -> ExpectedTokens:
        """By the replies to the gold examples; a model that reasons first may use all that it is given for that."""
        n_bytes, most = len(text.encode("utf-8", "replace")), self._max_reply(text)
        low, high = (share * n_bytes / size for share, size in zip(self._share, REPLY_BYTES_PER_TOKEN, strict=True))
        messages = self._prompt.messages(self.builder(text).text)
        return ExpectedTokens(
            sum(len(each["content"].encode("utf-8", "replace")) for each in messages),
            min(EMPTY_TOKENS + round(low), most),
            min(self._thinking + EMPTY_TOKENS + round(high), most),
        )

    def request(self, text: str, n: int = 0) -> ChatRequest:
        """See `ChatQuestion.request`."""
        return self._request(text)

    def _request(self, text: str, rejected: str | None = None) -> ChatRequest:
        messages = self._prompt.messages(self.builder(text).text, rejected)
        schema = self._schema if self._server.supports_schema else None
        limit, n_constant = self._max_reply(text), self._prompt.n_constant
        return ChatRequest(messages, limit, self._temperature, schema=schema, n_constant=n_constant)

    def ask(self, text: str, requests: Requests) -> Answer:
        """See `ChatQuestion.ask`."""
        rejected: str | None = None
        for _ in range(2):
            choice = requests.send(partial(self._request, text, rejected))[0]
            if choice.truncated:
                raise RequestFailed(f"the reply was cut at {self._max_reply(text)} tokens; set max_tokens")
            named = self._prompt.read(choice.text)
            if named is not None:
                return EntityAnswer("ok", raw=shorten(choice.text), named=named)
            rejected = choice.text
        return EntityAnswer("unparsable", raw=shorten(choice.text))

    def read(self, choices: Sequence[Choice], samples: int) -> Answer:
        """See `ChatQuestion.read`."""
        if choices[0].truncated:
            return EntityAnswer("failed", raw="the reply was cut; set max_tokens")
        named, raw = self._prompt.read(choices[0].text), shorten(choices[0].text)
        return EntityAnswer("unparsable", raw=raw) if named is None else EntityAnswer("ok", raw=raw, named=named)
