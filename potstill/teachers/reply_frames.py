"""What chat models put around an answer: their thinking, "Answer:", brackets, end marks of a template.

A frame is cut only from the ends, so that what is left is one piece of the reply; what it says is for the parser. Does
not look for an answer within a sentence: "I think A" has no frame. Every function is linear in the reply's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_THINKING_ENDS = ("</think>", "</thinking>", "</reasoning>", "<|channel|>final<|message|>")
_END_MARK = re.compile(r"<(\||/|\|/)?[a-z][a-z_]{0,20}\|?>", re.I)
_MAX_MARK, _MAX_MARKS = 24, 8
_LEAD = re.compile(
    r"(?:the )?(?:final |correct |best |most likely )?"
    r"(?:answer|label|category|class|classification|code|output|result)(?:(?: is)?[ \t*_\"'`]{0,8}[:=]| is\b)",
    re.I,
)
_BRACKETS = {"[": "]", "(": ")", "{": "}", "<": ">", "\\boxed{": "}", "\\text{": "}"}
_AROUND = " \t\r\n\"'`*_$"


def cut_thinking(reply: str) -> str:
    """The reply after its thinking; all of it if there is none, or if it never ends."""
    lowered = reply.lower()
    if len(lowered) != len(reply):  # some letters grow when they are lowered
        lowered = reply
    ends = [at + len(mark) for mark in _THINKING_ENDS if (at := lowered.rfind(mark)) >= 0]
    return reply[max(ends) :] if ends else reply


def cut_end_marks(reply: str) -> str:
    """The reply without the end marks of a chat template, such as `<eos>`, `</s>` or `<|im_end|>`."""
    for _ in range(_MAX_MARKS):
        reply = reply.rstrip()
        begin = reply.rfind("<", max(0, len(reply) - _MAX_MARK))
        if begin <= 0 or not _END_MARK.fullmatch(reply, begin):
            break
        reply = reply[:begin]
    return reply


def unframed(reply: str) -> Iterator[str]:
    """The reply, and then what is left of it with one frame less each time. Each is a piece of the one before."""
    yield reply
    reply = cut_end_marks(cut_thinking(reply)).strip()
    yield reply
    lead = _LEAD.match(reply.lstrip(_AROUND))
    if lead:
        reply = reply.lstrip(_AROUND)[lead.end() :].strip(_AROUND)
        yield reply
    for _ in range(3):
        bare = reply.strip(_AROUND).removesuffix(".").strip(_AROUND)
        begins = next((each for each in sorted(_BRACKETS, key=len, reverse=True) if bare.startswith(each)), None)
        if begins is None or not bare.endswith(_BRACKETS[begins]):
            break
        reply = bare[len(begins) : -1].strip(_AROUND)
        yield reply
