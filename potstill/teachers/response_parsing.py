"""The JSON of a chat completion or a Message, and the headers of a refusal, as our records.

Knows no SDK and sends nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from potstill.ledger.prices import Usage
from potstill.teachers.label_parsing import TokenLogprobs
from potstill.teachers.messages import ChatResponse, Choice
from potstill.teachers.prompts import JsonDict

# What reading JSON of an unknown shape can raise: deep nesting and numbers beyond a float included.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
# Not empty, so that a server whose log-probabilities were odd once is not taken for one that has none.
UNUSABLE = (TokenLogprobs("", {}),)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds a provider asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        return seconds if 0 <= seconds < 1e6 else None
    try:
        until = parsedate_to_datetime(headers["retry-after"]).timestamp()
        # By the provider's clock where it is known: the one here may be wrong.
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
        return max(0.0, until - now)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def parse_chat_completion(done: Any) -> ChatResponse:
    """A chat completion as our record. Raises one of `UNREADABLE` where a server sent something else."""
    choices = tuple(_choice(choice) for choice in done["choices"])
    if not choices:
        raise TypeError("no choices")
    return ChatResponse(choices, _usage(done.get("usage")))


def _choice(choice: JsonDict) -> Choice:
    message = choice["message"]
    finish = choice.get("finish_reason")
    refused = str(message.get("refusal") or "")
    if finish == "content_filter":
        refused = refused or "filtered by the provider"
    text = message.get("content")
    listed = (choice.get("logprobs") or {}).get("content") or ()
    return Choice(_encodable(text) if isinstance(text, str) else "", refused, finish == "length", _steps(listed))


def _steps(listed: Any) -> tuple[TokenLogprobs, ...]:
    """The tokens with their log-probabilities; `UNUSABLE` where one of them cannot be read or is not finite."""
    try:
        return tuple(_step(token) for token in listed)
    except UNREADABLE:
        return UNUSABLE


def _step(token: JsonDict) -> TokenLogprobs:
    top = {str(each["token"]): _finite(each["logprob"]) for each in token.get("top_logprobs") or ()}
    chosen = str(token["token"])
    return TokenLogprobs(chosen, top | {chosen: _finite(token["logprob"])})


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _encodable(text: str) -> str:
    """The text with half a surrogate pair replaced: no file and no terminal takes one."""
    return text.encode("utf-8", "replace").decode()


def _usage(usage: Any) -> Usage | None:
    """The usage that the server reports; None if it is missing or implausible."""
    if not isinstance(usage, Mapping):
        return None
    prompt, output, total = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if not prompt or output is None:
        return None
    # Some servers leave what was reasoned out of completion_tokens, but not out of the total.
    if total is not None:
        output = max(output, total - prompt)
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    return Usage(prompt, min(cached or 0, prompt), output)


def _count(value: Any) -> int | None:
    """A number of tokens; None for what is none. A whole number may come as a float."""
    if isinstance(value, float) and value.is_integer():  # False for NaN and infinity
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def parse_message(done: Any) -> ChatResponse:
    """A reply of Anthropic's Messages API. Raises one of `UNREADABLE` where a server sent something else."""
    if not isinstance(done["content"], list):
        raise TypeError("no content")
    text = _encodable("".join(block["text"] for block in done["content"] if block["type"] == "text"))
    stop = done.get("stop_reason")
    refused = "refused by the model" if stop == "refusal" else ""
    return ChatResponse((Choice(text, refused, stop == "max_tokens"),), _message_usage(done.get("usage")))


def _message_usage(usage: Any) -> Usage | None:
    """The input tokens of a Message leave out what the cache gave and took; ours are all of them."""
    if not isinstance(usage, Mapping):
        return None
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    counts = [_count(usage.get(name) or 0) for name in names]
    prompt, cached, written, output = (count or 0 for count in counts)
    if None in counts or prompt + cached + written <= 0:
        return None
    return Usage(prompt + cached + written, cached, output, cache_write_tokens=written)
