"""Why a request is refused, in a word, and the HTTP status of each word. Protocols render them in their own shape."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from potstill.errors import RequestRefused

STATUS: Mapping[str, int] = MappingProxyType(
    {
        "json": 400,  # the body is not JSON
        "empty": 400,  # no texts
        "key": 401,  # no key, or a wrong one
        "origin": 403,  # a page of another site, or a name that resolves to this machine
        "model": 404,  # no such model
        "route": 404,
        "method": 405,
        "slow": 408,  # the body did not arrive in time
        "large": 413,  # too many bytes, texts or characters
        "media": 415,  # a content type or encoding that is not read
        "shape": 422,  # JSON of another shape
        "task": 422,  # a pair where one text is read, or one text where a pair is
        "tokens": 422,  # longer than the model reads, and the caller wants no truncation
        "backend": 424,  # the model failed
        "busy": 429,  # the queue is full
        "bug": 500,
        "unready": 503,  # starting or stopping
    }
)


def invalid(error: ValidationError) -> RequestRefused:
    """The first error of pydantic in one sentence, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return RequestRefused("json", f"The body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}.")
    field = ".".join(map(str, first["loc"]))
    return RequestRefused("shape", f"{field}: {first['msg']}." if field else "The body is not a JSON object.")


def wrong_shape(field: str, expected: str, found: Any) -> RequestRefused:
    """A field of the body that holds something else."""
    return RequestRefused("shape", f"{field} is {json_kind(found)}; expected {expected}.")


def json_kind(value: Any) -> str:
    """What JSON calls a value, with the length of an array."""
    if isinstance(value, list):
        return f"an array of {len(value)}" if value else "an empty array"
    kinds: dict[type, str] = {dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
