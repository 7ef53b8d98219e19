"""What the official SDKs of OpenAI and Anthropic share, being made by one generator: set-up, and how a call fails.

The SDK is a parameter and is not imported here. A status that means the same for all of them is classified here, the
others in each server's file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from potstill.errors import TeacherError
from potstill.teachers.endpoint import host_of, is_loopback
from potstill.teachers.prompts import RequestBody
from potstill.teachers.rate_limit import (
    ConnectFailed,
    RateLimited,
    RequestError,
    RequestFailed,
    ResponseLost,
    ServerUnavailable,
    unbilled_error,
)
from potstill.teachers.response_parsing import UNREADABLE, retry_after_s

if TYPE_CHECKING:
    from potstill.teachers.transport import HttpReply

T = TypeVar("T")

_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}

CONNECT_S = 10.0
# Headers about a body that is decoded already.
BODY_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class SdkClient:
    """An official SDK's client, set up for one server: no retries of its own, one deadline for a reply.

    The SDK prepares requests (address, headers) and says what an unsuccessful reply means; requests for answers are
    sent by `transport.HttpClient`. Batches and files go through the SDK alone.

    Args:
        sdk: the SDK's module.
        kind: the name of its client's class.
        url: where the server is.
        key: the API key.
        timeout_s: deadline of one request.
        variable: the environment variable with the key, for error messages.
    """

    def __init__(self, sdk: Any, kind: str, url: str, key: str, timeout_s: float, variable: str) -> None:
        import httpx2

        from potstill.teachers.transport import HttpClient

        self._sdk = sdk
        self.host = host_of(url)
        self._key = key
        self._variable = variable
        # A proxy of the environment must not come between this machine and itself.
        local = is_loopback(url)
        connect_s = min(CONNECT_S, timeout_s)
        # For batches and their files; made with the SDK's usual way of sending.
        self.client = getattr(sdk, kind)(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=sdk.Timeout(timeout_s, connect=connect_s),
            http_client=sdk.DefaultHttpxClient(trust_env=False) if local else None,
        )
        # The authorities an environment names (SSL_CERT_FILE) count as they do for the SDK's usual client.
        trust = httpx2.create_ssl_context(trust_env=not local) if url.startswith("https:") else None
        self._http = HttpClient(self.host, timeout_s, connect_s, trust=trust, trust_env=not local)
        self._offline = self.client.with_options(http_client=httpx2.Client(transport=httpx2.MockTransport(self._serve)))
        self._here = threading.local()
        self._prepared: dict[str, tuple[str, dict[str, str]]] = {}

    def post(
        self, path: str, body: RequestBody, read: Callable[[Any], T], classify_error: Callable[[Any], Exception]
    ) -> T:
        """What `read` makes of the JSON reply to `body`, sent once.

        Raises:
            RequestError, TeacherError: see `call_sdk`.
        """
        content = json.dumps(body).encode()

        def call() -> T:
            url, headers = self._prepare(path, content)
            reply = self._http.post(url, headers, content)
            if not reply.ok:
                self._raise_by_sdk(path, content, reply)
            return read(json.loads(reply.content))

        return self.call(call, classify_error)

    def _prepare(self, path: str, content: bytes) -> tuple[str, dict[str, str]]:
        """The address and headers of a request as the SDK makes them; made once, as that costs more than sending."""
        from potstill.teachers.transport import HOP_HEADERS

        known = self._prepared.get(path)
        if known is not None:
            return known
        made = self._through_sdk(path, content).request
        headers = {name: value for name, value in made.headers.items() if name.lower() not in HOP_HEADERS}
        prepared = str(made.url), headers
        # A request with a key of its own (idempotency) is made anew each time.
        if not any("idempotency" in name.lower() for name in headers):
            self._prepared[path] = prepared
        return prepared

    def _raise_by_sdk(self, path: str, content: bytes, reply: HttpReply) -> NoReturn:
        """Raise the SDK's error for an unsuccessful reply."""
        import httpx2

        headers = [(name, value) for name, value in reply.headers.items() if name.lower() not in BODY_HEADERS]
        self._here.reply = httpx2.Response(reply.status, headers=headers, content=reply.content)
        try:
            self._through_sdk(path, content)
        finally:
            del self._here.reply
        raise ResponseLost(f"the server answered {reply.status}, which is no reply")

    def _serve(self, request: Any) -> Any:
        """What the SDK receives instead of sending: the reply at hand, or an empty success."""
        import httpx2

        return getattr(self._here, "reply", None) or httpx2.Response(200, json={})

    def _through_sdk(self, path: str, content: bytes) -> Any:
        import httpx2

        options = {"headers": {"Content-Type": "application/json"}}
        return self._offline.post(path, cast_to=httpx2.Response, content=content, options=options)

    def call(self, call: Callable[[], T], classify_error: Callable[[Any], Exception]) -> T:
        """What `call`, which uses `client`, returns; what goes wrong is sorted as in `called`."""
        return call_sdk(self._sdk, self.host, call, classify_error)

    def message_of(self, error: Any) -> str:
        """The provider's error message in one short line, without the key."""
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


def rate_limit_error(error: Any, message: str, limits: tuple[int, ...] = (429,)) -> RateLimited | None:
    """Too much at once, or the provider out of order; None for other statuses."""
    return rate_limit_error_from_status(error.status_code, message, retry_after_s(error.response.headers), limits)


def rate_limit_error_from_status(
    status: int, message: str, wait_s: float | None, limits: tuple[int, ...] = (429,)
) -> RateLimited | None:
    """As `rate_limit_error`, of a status without its response."""
    if status in limits:
        return RateLimited(f"rate limit: {message}", wait_s)
    if status in (408, 409, 425) or status >= 500:
        return ServerUnavailable(f"the server answered {status}: {message}", wait_s)
    return None


def failed_request(status: int, message: str) -> RequestFailed:
    """The error of a status that means nothing else."""
    return RequestFailed(f"the server answered {status}: {message}")


def call_sdk(sdk: Any, host: str, call: Callable[[], T], classify_error: Callable[[Any], Exception]) -> T:
    """What `call` returns.

    Args:
        sdk: the SDK's module, for its errors.
        host: for the reader of an error.
        call: sends once and reads the reply.
        classify_error: what an HTTP status error means; returns a RequestError or a TeacherError.

    Raises:
        RequestError, TeacherError: as classified; it holds nothing of the SDK's own error, nor of the request.
    """
    failed: Exception
    try:
        return call()
    except RequestError:
        raise
    except sdk.APIStatusError as error:
        failed = classify_error(error)
    except sdk.APIConnectionError as error:
        failed = _broken(host, type(error.__cause__).__name__)
    except (sdk.APIError.__base__, *UNREADABLE) as error:
        failed = ResponseLost(f"the server sent nothing that can be read ({type(error).__name__})")
    except Exception as error:
        # Where the SDK is not asked, and while it reads the body, the HTTP library's own errors come as they are.
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("httpx", "httpcore")):
            raise
        failed = _broken(host, type(error).__name__)
    raise failed


def _broken(host: str, cause: str) -> RequestError:
    if cause in _NEVER_SENT:
        return ConnectFailed(f"The server at {host} cannot be reached.")
    return ResponseLost(f"the connection broke or timed out ({cause})")


def error_message(error: Any, key: str) -> str:
    """The provider's error message in one short line, without the key."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    message = body.get("message") or (inner.get("message") if isinstance(inner, Mapping) else "") or error.message
    message = " ".join(str(message).split())
    return (message.replace(key, "[key]") if len(key) > 4 else message)[:200]
