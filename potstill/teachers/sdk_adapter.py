"""What the official SDKs of OpenAI and Anthropic share, being made by one generator: set-up, and how a call fails.

The SDK comes in as a parameter and is not imported here. What a status means for all of them is here; what only one of
them says is known in that server's file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from potstill.errors import TeacherError
from potstill.teachers.endpoint import host_of, is_loopback
from potstill.teachers.rate_limit import (
    ConnectFailed,
    RateLimited,
    RequestError,
    RequestFailed,
    ResponseLost,
    ServerUnavailable,
    unbilled_error,
)
from potstill.teachers.response_parsing import retry_after_s

T = TypeVar("T")

_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}

CONNECT_S = 10.0


class SdkClient:
    """An official SDK's client, set up for one server: no tries of its own, one deadline for a reply.

    Args:
        sdk: the SDK's module.
        kind: the name of its client's class.
        url: where the server is.
        key: for it.
        timeout_s: for one request.
        variable: the environment variable with the key, for the reader of an error.
    """

    def __init__(self, sdk: Any, kind: str, url: str, key: str, timeout_s: float, variable: str) -> None:
        from potstill.teachers.transport import make_client

        self._sdk = sdk
        self.host = host_of(url)
        self._key = key
        self._variable = variable
        # A proxy of the environment must not come between this machine and itself.
        local = is_loopback(url)
        # For batches and their files; made with the SDK's usual way of sending.
        self.client = getattr(sdk, kind)(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=sdk.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            http_client=sdk.DefaultHttpxClient(trust_env=False) if local else None,
        )
        self._http = make_client(url, trust_env=not local)
        self.greenlet_safe = self._http.greenlet_safe
        self._quick = self.client.with_options(http_client=self._http)
        self._made: dict[str, Any] = {}

    def post(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], T], classify_error: Callable[[Any], Exception]
    ) -> T:
        """What `read` makes of the JSON reply to `body`, sent once.

        Raises:
            Trouble, TeacherError: see `called`.
        """
        content = json.dumps(body).encode()

        def call() -> T:
            return read(json.loads(self._reply(path, content).content))

        return self.call(call, classify_error)

    def _reply(self, path: str, content: bytes) -> Any:
        """The reply to ready bytes: arguments the SDK would walk through, for a third of what a request costs.

        The SDK makes one request for each path, and that is sent again with another body: making it anew costs more
        than sending it and reading the reply. What is no success is handed to the SDK as the reply it would have had.
        """
        made = self._made.get(path)
        if made is None:
            reply = self._through_sdk(path, content)
            # One that must not be told apart from its like by a key of its own can be sent again.
            if not any(b"idempotency" in name.lower() for name, _ in reply.request.headers.raw):
                self._made[path] = reply.request
            return reply
        from potstill.teachers.transport import copy_request

        reply = self._http.send(copy_request(made, content))
        if not reply.is_success:
            with self._http.replaying(reply):
                self._through_sdk(path, content)
        return reply

    def _through_sdk(self, path: str, content: bytes) -> Any:
        import httpx2

        kind = {"headers": {"Content-Type": "application/json"}}
        return self._quick.post(path, cast_to=httpx2.Response, content=content, options=kind)

    def call(self, call: Callable[[], T], classify_error: Callable[[Any], Exception]) -> T:
        """What `call`, which uses `client`, returns; what goes wrong is sorted as in `called`."""
        return call_sdk(self._sdk, self.host, call, classify_error)

    def said_by(self, error: Any) -> str:
        """What the provider's error says, in one short line that does not hold the key."""
        return error_message(error, self._key)

    def permanent_error(self, error: Any, model: str, *, no_credit: bool, hint: str = "") -> TeacherError | None:
        """Why no request of this run can succeed: the key, the credit (`broke`), the model; None for other statuses."""
        status = error.status_code
        if status in (401, 403):
            return unbilled_error(
                f"The server at {self.host} refuses the key ({status}).",
                f"Check {self._variable} in the environment and what the key may use.",
            )
        if status == 402 or no_credit:
            return unbilled_error(f"The account at {self.host} has no credit left.", "Top it up, then run again.")
        if status in (404, 405):
            return unbilled_error(
                f"The server at {self.host} has no model {model!r} ({status}).", f"Check the model's name{hint}."
            )
        return None

    def batch_not_found(self, error: Any, what: str, whose: str) -> TeacherError | None:
        """That there is no such batch; None for other statuses."""
        if error.status_code not in (404, 405):
            return None
        return unbilled_error(
            f"The server at {self.host} has {what} ({error.status_code}).",
            f"Ask directly, without batch; or use a key of the {whose} the batch was left with.",
        )


def rate_limit_error(error: Any, said: str, limits: tuple[int, ...] = (429,)) -> RateLimited | None:
    """Too much at once, or the provider out of order; None for other statuses."""
    return rate_limit_error_from_status(error.status_code, said, retry_after_s(error.response.headers), limits)


def rate_limit_error_from_status(
    status: int, said: str, wait_s: float | None, limits: tuple[int, ...] = (429,)
) -> RateLimited | None:
    """`busy` of a status that is known without its response."""
    if status in limits:
        return RateLimited(f"rate limit: {said}", wait_s)
    if status in (408, 409, 425) or status >= 500:
        return ServerUnavailable(f"the server answered {status}: {said}", wait_s)
    return None


def failed_request(status: int, said: str) -> RequestFailed:
    """The trouble of a status that means nothing else."""
    return RequestFailed(f"the server answered {status}: {said}")


def call_sdk(sdk: Any, host: str, call: Callable[[], T], classify_error: Callable[[Any], Exception]) -> T:
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
    except RequestError:
        raise
    except sdk.APIStatusError as error:
        trouble = classify_error(error)
    except sdk.APIConnectionError as error:
        trouble = _broken(host, type(error.__cause__).__name__)
    except (sdk.APIError.__base__, ValueError, TypeError, KeyError, AttributeError) as error:
        trouble = ResponseLost(f"the server sent nothing that can be read ({type(error).__name__})")
    except Exception as error:
        # Where the SDK is not asked, and while it reads the body, the HTTP library's own errors come as they are.
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("httpx", "httpcore")):
            raise
        trouble = _broken(host, type(error).__name__)
    raise trouble


def _broken(host: str, cause: str) -> RequestError:
    if cause in _NEVER_SENT:
        return ConnectFailed(f"The server at {host} cannot be reached.")
    return ResponseLost(f"the connection broke or timed out ({cause})")


def error_message(error: Any, key: str) -> str:
    """What the provider's error says, in one short line that does not hold the key."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    message = body.get("message") or (inner.get("message") if isinstance(inner, Mapping) else "") or error.message
    said = " ".join(str(message).split())
    return (said.replace(key, "[key]") if len(key) > 4 else said)[:200]
