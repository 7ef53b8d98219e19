"""The prompt that asks for an answer in words, and the reader of a reply.

The instruction comes first, then gold examples as earlier turns, then the text between marks that it cannot close. The
reply is the answer: thinking before it and end marks of a chat template are cut, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import LabelledText, Task
from potstill.teachers.messages import shorten
from potstill.teachers.prompts import DATA_NOTICE, Message, marked_text, sanitize_text
from potstill.teachers.reply_frames import cut_end_marks, cut_thinking

FREE_TEXT_PROMPT_VERSION = "1"
INSTRUCTION = "Answer the text."
RULES = "Reply with the answer alone, without a word before or after it."
AS_SHOWN = "Answer as in the examples: as long, and in the same form."
# Tokens a reply may have: by the longest gold example, or without any; and for each of the student's at most.
MIN_REPLY_TOKENS, REPLY_FACTOR, DEFAULT_REPLY_TOKENS, MAX_REPLY_TOKENS = 32, 3, 256, 4096
REPLY_BYTES_PER_TOKEN = (4.5, 2.5)  # at most and at least
ASSUMED_REPLY_BYTES = (8, 400)  # at least and at most, where no gold example says how long an answer is


@dataclass(frozen=True)
class FreeTextPrompt:
    """Builds the prompt for the answer to one text.

    Attributes:
        task: with the instruction, and perhaps the tokens of an answer at most.
        examples: gold texts before every text, with their answers as labels.
    """

    task: Task
    examples: tuple[LabelledText, ...] = ()

    @cached_property
    def constant(self) -> tuple[Message, ...]:
        """The messages that are the same for every text."""
        rules = f"{RULES} {AS_SHOWN}" if self.examples else RULES
        head = "\n\n".join([self.task.instruction or INSTRUCTION, rules, DATA_NOTICE])
        messages: list[Message] = [{"role": "system", "content": head}]
        for example in self.examples:
            messages += [_turn(example.text), {"role": "assistant", "content": sanitize_text(example.label)}]
        return tuple(messages)

    def messages(self, text: str) -> list[Message]:
        """The conversation that asks about a text."""
        return [*self.constant, _turn(text)]

    @property
    def _sizes(self) -> list[int]:
        """Bytes of the examples' answers."""
        return [len(each.label.encode("utf-8", "replace")) for each in self.examples]

    @cached_property
    def max_reply_tokens(self) -> int:
        """Tokens of a reply at most."""
        limit = self.task.output.max_tokens if self.task.output else None
        if not self.examples and limit is None:
            return DEFAULT_REPLY_TOKENS
        longest = math.ceil(max(self._sizes, default=0) / REPLY_BYTES_PER_TOKEN[1])
        return min(max(MIN_REPLY_TOKENS, REPLY_FACTOR * max(longest, limit or 0)), MAX_REPLY_TOKENS)

    @cached_property
    def expected_tokens(self) -> tuple[float, float]:
        """Tokens a reply will probably have, at least and at most."""
        low, high = (min(self._sizes) / 2, max(self._sizes) * 1.5) if self.examples else ASSUMED_REPLY_BYTES
        fewest, largest = REPLY_BYTES_PER_TOKEN
        return 1 + low / fewest, 1 + high / largest


def read_reply(reply: str) -> FreeTextAnswer:
    """The answer in a reply; an unparsable one if nothing is left of it."""
    text = cut_end_marks(cut_thinking(reply)).strip()
    if not text:
        return FreeTextAnswer("unparsable", raw=shorten(reply))
    return FreeTextAnswer("ok", raw=shorten(reply), text=text)


def _turn(text: str) -> Message:
    return {"role": "user", "content": marked_text(text)}
