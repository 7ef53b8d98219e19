"""What a chat teacher asks about a text: the interface of a question, which builds its requests and reads the replies.

A question knows the kind of task and no server; `chat.py` sends its requests and pays for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from potstill.data.task import Answer
from potstill.teachers.base import Fact, TeacherCapabilities
from potstill.teachers.messages import ChatRequest, Choice
from potstill.teachers.prompt_builder import PromptBuilder


@dataclass(frozen=True)
class RequestTokens:
    """Upper bounds of one request: tokens of its prompt, and of one reply."""

    prompt: int
    reply: int


@dataclass(frozen=True)
class ExpectedTokens:
    """What one request will probably have: bytes of its prompt, and tokens of its reply at least and at most."""

    prompt_bytes: int
    low: int
    high: int


class Requests(Protocol):
    """Sends the requests about one text, within its money and time."""

    @property
    def left(self) -> int:
        """Requests that may still be billed."""

    def send(self, build: Callable[[], ChatRequest]) -> list[Choice]:
        """The replies to the request that `build` makes anew for each try, without those that were refused.

        Raises:
            ContentRefused: no reply is left.
            RequestFailed: no reply came.
        """


class ChatQuestion(Protocol):
    """Asks one thing about a text.

    Attributes:
        builder: removes personal data from a text, and chooses what a prompt shows.
        capabilities: what a teacher that asks it can do.
        lists_labels: whether a schema may list the task's labels.
        max_requests: requests that may be billed for one text.
        key_parts: all that changes its answers, as JSON values; the first is the version of the prompt.
        facts: for the report, by name.
    """

    builder: PromptBuilder
    capabilities: TeacherCapabilities
    lists_labels: bool
    max_requests: int
    key_parts: tuple[object, ...]
    facts: Mapping[str, Fact]

    @property
    def samples(self) -> int:
        """Replies that a new batch job requests for each text."""

    def max_tokens(self, text: str) -> RequestTokens:
        """Upper bounds of one request about a text, first or second."""

    def expected_tokens(self, text: str) -> ExpectedTokens:
        """What one request about a text will probably have."""

    def request(self, text: str, n: int = 0) -> ChatRequest:
        """The first request about a text; with `n` one for so many sampled replies."""

    def ask(self, text: str, requests: Requests) -> Answer:
        """The answer about a text, from one request or several.

        Raises:
            ContentRefused, RequestFailed: what `Requests.send` raises, or a reply was cut.
        """

    def read(self, choices: Sequence[Choice], samples: int) -> Answer:
        """The answer in the replies of a batch job about one text; there is no second request."""
