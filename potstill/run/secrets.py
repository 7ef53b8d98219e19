"""Refuses a spec that holds a key or a password, which would be stored with the run and shown in its report.

Keys belong into environment variables. No message repeats what it refuses. Does not look at texts, labels and
instructions.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from potstill.errors import BadSpec

_NAME = re.compile(r"(api|access|auth|secret)?[_-]?(key|token|secret|password|passwd|authorization|bearer)", re.I)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/*\S+", re.I)
_USER = re.compile(r"[^\s/@]+:[^\s@]+@\S+")
# As providers write them: OpenAI, Anthropic, Groq, xAI, Hugging Face, GitHub, Google, AWS.
_KEY = re.compile(
    r"(?<![A-Za-z0-9])("
    r"(sk|rk|pk|gsk|xai)-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}|gsk_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|AIza[A-Za-z0-9_-]{30,}|AKIA[A-Z0-9]{16})"
)
_SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
MIN_SECRET = 12  # characters of an environment variable's value that is looked for in a spec
HIDDEN = "[hidden]"
HINT = (
    "Put it into an environment variable such as OPENAI_API_KEY; key_env names another variable, never the key itself."
)


def check_secrets(table: object, where: str) -> None:
    """Check the options of a component or the prices of a spec.

    Args:
        table: the table as the user wrote it.
        where: its name in the spec.

    Raises:
        BadSpec: an option is named like a key, or a value holds one, or is an address with a user name, password or
            query.
    """
    if not isinstance(table, Mapping):
        return
    for name, value in _strings(table):
        if value and _NAME.fullmatch(name):
            raise BadSpec(f"{where} holds a key under {name!r}: it would be stored with the run.", HINT)
        if hide_secrets(value) != value:
            raise BadSpec(
                f"{where} holds a key, a user name, a password or a query under {name!r}: it would be stored with the "
                "run and shown in reports.",
                HINT,
            )


def hide_secrets(value: str) -> str:
    """The value for a message: without keys, and without the user name, password and query of an address."""
    for secret in _environment_secrets():
        value = value.replace(secret, HIDDEN)
    value = _KEY.sub(HIDDEN, value)
    if _USER.fullmatch(value) or (_ADDRESS.fullmatch(value) and "://" in value and _holds_more(value)):
        return HIDDEN
    return value


def shown(value: object) -> str:
    """A value of a spec as JSON for a message."""
    return (
        json.dumps(hide_secrets(value)) if isinstance(value, str) else _KEY.sub(HIDDEN, json.dumps(value, default=str))
    )


def _holds_more(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return "@" in address or "?" in address or "#" in address
    return "@" in parts.netloc or bool(parts.query or parts.fragment)


def _environment_secrets() -> list[str]:
    return [value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= MIN_SECRET]


def _strings(table: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """Every text of a table, with the nearest option's name; the name of the component is no option."""
    for name, value in table.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, Mapping):
                yield from _strings(each)
            elif isinstance(each, str) and name != "name":
                yield str(name), each
