"""What the official SDKs of OpenAI and Anthropic share, being made by one generator: how a call fails.

The SDK comes in as a parameter; nothing is imported here. Does not know what a status means: the server's file does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from potstill.teachers.pace import Trouble, Unreached, Vanished

T = TypeVar("T")

_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}


def called(sdk: Any, host: str, call: Callable[[], T], sort: Callable[[Any], Exception]) -> T:
    """What `call` returns.

    Args:
        sdk: the SDK's module, for its errors.
        host: for the reader of an error.
        call: sends once and reads the reply.
        sort: what an HTTP status error means; returns a Trouble or a TeacherError.

    Raises:
        Trouble, TeacherError: as sorted; nothing of the SDK's own error, nor of the request, hangs on to it.
    """
    trouble: Exception
    try:
        return call()
    except Trouble:
        raise
    except sdk.APIStatusError as error:
        trouble = sort(error)
    except sdk.APIConnectionError as error:
        cause = type(error.__cause__).__name__
        if cause in _NEVER_SENT:
            trouble = Unreached(f"The server at {host} cannot be reached.")
        else:
            trouble = Vanished(f"the connection broke or timed out ({cause})")
    except (sdk.APIError.__base__, ValueError, TypeError, KeyError, AttributeError) as error:
        trouble = Vanished(f"the server sent nothing that can be read ({type(error).__name__})")
    except Exception as error:
        # While the body is read, the HTTP library's own errors come through as they are.
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("httpx", "httpcore")):
            raise
        trouble = Vanished(f"the connection broke or timed out ({type(error).__name__})")
    raise trouble


def json_within(stream: Any, timeout_s: float) -> Any:
    """The JSON body of a streamed response, read piece by piece: an SDK's own timeout starts anew with every byte.

    Raises:
        TimeoutError: it was not there in time.
        ValueError: it is no JSON.
    """
    ends = time.monotonic() + timeout_s
    with stream as response:
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if time.monotonic() > ends:
                raise TimeoutError
    return json.loads(body)


def said_by(error: Any, key: str) -> str:
    """What the provider's error says, in one short line that does not hold the key."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    message = body.get("message") or (inner.get("message") if isinstance(inner, Mapping) else "") or error.message
    said = " ".join(str(message).split())
    return (said.replace(key, "[key]") if len(key) > 4 else said)[:200]
