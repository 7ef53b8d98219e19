"""Any OpenAI-compatible server as a teacher, through the official SDK: the only file that knows it.

OpenAI itself, and vLLM, llama.cpp, Ollama, Gemini, Mistral, Groq, ... by `base_url`. The server is asked for
structured output and token log-probabilities; what it refuses is remembered and left out. Keys come from the
environment only. Does not cover the batch API, and does not retry: `pace.py` does, by what the trouble means.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from potstill.errors import BadSpec, TeacherError, missing_extra
from potstill.teachers.base import Setup
from potstill.teachers.chat import ChatOptions, ChatTeacher, Request, Said
from potstill.teachers.options import read_options
from potstill.teachers.pace import Down, Failed, Limited, Refused, Trouble, Unreached, Vanished, Without, out_of_order
from potstill.teachers.tariff import price_of
from potstill.teachers.wire import read_completion, retry_after_s

DEFAULT_URL = "https://api.openai.com/v1"
# How many labels a JSON schema may list: OpenAI documents 500 values, others refuse from about 100 on.
ENUM_LIMIT, ENUM_LIMIT_ELSEWHERE = 500, 100
# A reply is a code, in JSON at most; a reasoning model thinks first and is billed for it.
REPLY_TOKENS, REASONING_TOKENS = 32, 2048
FEW_LOGPROBS = 5
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
_REASONS = re.compile(r"(^|/)(o\d|gpt-5(?!.*chat))")
_TOO_LONG = re.compile(r"context.?(length|size|window)|maximum context|too long|too many tokens|prompt is too", re.I)
_FILTERED = re.compile(r"content.?(filter|policy|management)|safety system|flagged", re.I)
_SCHEMA = re.compile(r"response_format|json_schema|structured output|guided|grammar", re.I)
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}


class OpenAIOptions(ChatOptions):
    """Options of `openai:MODEL`, on top of those of every chat teacher.

    Attributes:
        base_url: where the server is; empty takes OPENAI_BASE_URL, then OpenAI.
        key_env: the environment variable that holds the key.
        effort: `reasoning_effort` of a reasoning model; empty leaves it out.
        top_logprobs: how many alternatives to ask for at each token.
    """

    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    effort: str = ""
    top_logprobs: int = Field(default=20, ge=1, le=100)


def open_teacher(setup: Setup) -> ChatTeacher:
    """`openai:MODEL` on any OpenAI-compatible server.

    Raises:
        BadSpec: no model, an option that cannot be.
        MissingExtra: the SDK is not installed.
        TeacherError: no key where the server needs one.
        UnknownPrice: nobody said what the model costs.
    """
    options = read_options(OpenAIOptions, "openai", setup.options)
    model = setup.model.strip()
    if not model:
        raise BadSpec("The teacher 'openai' needs a model.", "Name it after a colon, such as openai:gpt-4.1-mini.")
    url = (options.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
    host = _host(url)
    provider = provider_of(url)
    price = price_of(model, provider, setup.prices, _is_loopback(url))
    reasons = provider == "openai" and bool(_REASONS.search(model))
    limit = options.enum_limit
    if limit is None:
        limit = ENUM_LIMIT if provider == "openai" else ENUM_LIMIT_ELSEWHERE
    max_tokens = options.max_tokens or (REASONING_TOKENS if reasons else REPLY_TOKENS)
    options = options.model_copy(update={"enum_limit": limit, "max_tokens": max_tokens})
    server = OpenAIServer(url, model, _key(url, options.key_env), options)
    identity = {"model": model, "server": host, "effort": options.effort}
    return ChatTeacher(f"openai:{model}", setup, options, server, price, identity)


def provider_of(url: str) -> str | None:
    """Whose public price list applies to a server, by its address; None if nobody's."""
    from genai_prices.data import providers

    for provider in providers:
        if re.match(provider.api_pattern, url):
            return str(provider.id)
    return None


def _host(url: str) -> str:
    """Host and port, without what a URL may hide in user name or query."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSpec(f"base_url = {url.split('@')[-1]!r} is no address of a server.", "Give https://HOST/v1.")
    try:
        port = parts.port
    except ValueError:
        raise BadSpec(f"The port in base_url of {parts.hostname} is no port.", "Give https://HOST:PORT/v1.") from None
    return parts.hostname + (f":{port}" if port else "")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _key(url: str, variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if key:
        return key
    if _is_loopback(url):
        return "none"
    raise out_of_order(
        f"The server at {_host(url)} needs a key and {variable} is not set.",
        f"Set {variable} in the environment, or name another variable with key_env.",
    )


class OpenAIServer:
    """One server and one model behind the SDK; safe to call from many threads. Forgets features that are refused."""

    def __init__(self, url: str, model: str, key: str, options: OpenAIOptions) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise missing_extra("openai", "openai", "The teacher 'openai'") from None
        self.takes_schema = True
        self.gives_logprobs = True
        self.takes_n = True
        self._takes_temperature = True
        self._takes_effort = True
        self._top = options.top_logprobs
        # OpenAI knows both names and prefers the new one; other servers may ignore it and generate without end.
        self._limit_name = "max_completion_tokens" if provider_of(url) == "openai" else "max_tokens"
        self._limit_swapped = False
        self._works = False
        self._stripped = False
        self._model = model
        self._host = _host(url)
        self._key = key
        self._effort = options.effort
        self._variable = options.key_env
        self._timeout_s = options.timeout_s
        self._sdk = openai
        # A proxy of the environment must not come between this machine and itself.
        local = openai.DefaultHttpxClient(trust_env=False) if _is_loopback(url) else None
        self._client = openai.OpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=openai.Timeout(options.timeout_s, connect=min(10.0, options.timeout_s)),
            http_client=local,
        )

    def send(self, request: Request) -> Said:
        """The replies to one request, sent once.

        Raises:
            Trouble: sorted by what it means; `Without` after a refused feature was dropped.
            TeacherError: wrong key, no such model, no credit.
        """
        wishes = self._wishes(request)
        said = self._create(request, wishes)
        self._works = True
        replied = [choice for choice in said.choices if choice.text and not choice.refused]
        if "logprobs" in wishes and replied and not any(choice.steps for choice in replied):
            self.gives_logprobs = False
        return said

    def _wishes(self, request: Request) -> dict[str, Any]:
        wishes: dict[str, Any] = {}
        if self._takes_temperature:
            wishes["temperature"] = request.temperature
        if request.schema is not None and self.takes_schema:
            form = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            wishes["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.logprobs and self.gives_logprobs:
            wishes |= {"logprobs": True, "top_logprobs": self._top}
        if self._effort and self._takes_effort:
            wishes["reasoning_effort"] = self._effort
        return wishes

    def _create(self, request: Request, wishes: Mapping[str, Any]) -> Said:
        needs = {"model": self._model, "messages": list(request.messages), self._limit_name: request.max_tokens}
        if request.n > 1 and self.takes_n:
            needs["n"] = request.n
        ends = time.monotonic() + self._timeout_s
        trouble: Exception
        try:
            # Read piece by piece: the SDK's own timeout starts anew with every byte that drips in.
            with self._client.chat.completions.with_streaming_response.create(**needs, **wishes) as response:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if time.monotonic() > ends:
                        raise TimeoutError
            return read_completion(json.loads(body))
        except self._sdk.APIStatusError as error:
            trouble = self._sorted(error, {**needs, **wishes})
        except self._sdk.APIConnectionError as error:
            cause = type(error.__cause__).__name__
            if cause in _NEVER_SENT:
                trouble = Unreached(f"The server at {self._host} cannot be reached.")
            else:
                trouble = Vanished(f"the connection broke or timed out ({cause})")
        except (self._sdk.OpenAIError, ValueError, TypeError, KeyError, AttributeError) as error:
            trouble = Vanished(f"the server sent no chat completion ({type(error).__name__})")
        except Exception as error:
            # While the body is read, the HTTP library's own errors come through as they are.
            if not isinstance(error, OSError) and not type(error).__module__.startswith(("httpx", "httpcore")):
                raise
            trouble = Vanished(f"the connection broke or timed out ({type(error).__name__})")
        # Raised here, out of the SDK's own error: nothing of the request hangs on to it.
        raise trouble

    # --- what a refusal means ----------------------------------------------------------------------------------

    def _sorted(self, error: Any, sent: Mapping[str, Any]) -> Trouble | TeacherError:
        """The trouble behind an HTTP status; a TeacherError where no request of this run can succeed."""
        status, code = error.status_code, str(error.code or "")
        said = self._scrub(error)
        if status in (401, 403):
            return out_of_order(
                f"The server at {self._host} refuses the key ({status}).",
                f"Check {self._variable} in the environment and what the key may use.",
            )
        if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
            return out_of_order(f"The account at {self._host} has no credit left.", "Top it up, then run again.")
        if status in (404, 405):
            return out_of_order(
                f"The server at {self._host} has no model {self._model!r} ({status}).",
                "Check the model's name; a base_url usually ends in /v1.",
            )
        if status == 429:
            return Limited(f"rate limit: {said}", retry_after_s(error.response.headers))
        if status in (408, 409, 425) or status >= 500:
            return Down(f"the server answered {status}: {said}", retry_after_s(error.response.headers))
        if status == 413 or code == "context_length_exceeded" or _TOO_LONG.search(said):
            return Refused(f"too long: {said}")
        if code in ("content_filter", "content_policy_violation") or _FILTERED.search(said):
            return Refused(f"filtered: {said}")
        return self._drop(str(error.param or ""), said, sent) or Failed(f"the server answered {status}: {said}")

    def _drop(self, blamed: str, said: str, sent: Mapping[str, Any]) -> Without | None:
        """Forget the feature a 400 is about, if it was sent."""
        about = f"{blamed} {said}"
        limit = next(name for name in _LIMIT_NAMES if name in sent)
        if "logprobs" in sent and "logprobs" in about:
            # Some servers list at most five alternatives.
            if "top_logprobs" in about and sent["top_logprobs"] > FEW_LOGPROBS:
                self._top = min(self._top, FEW_LOGPROBS)
            else:
                self.gives_logprobs = False
        elif "response_format" in sent and _SCHEMA.search(about):
            self.takes_schema = False
        elif "temperature" in sent and "temperature" in about:
            self._takes_temperature = False
        elif "reasoning_effort" in sent and "reasoning" in about:
            self._takes_effort = False
        elif re.search(r"max_\w*tokens", about) and not (self._limit_swapped and self._limit_name == limit):
            # Another thread may have swapped the two names already.
            if self._limit_name == limit:
                self._limit_name = next(name for name in _LIMIT_NAMES if name != limit)
            self._limit_swapped = True
        elif "n" in sent and (blamed == "n" or re.search(r"\bn\b", said)):
            self.takes_n = False
        elif not self._works and ("logprobs" in sent or "response_format" in sent):
            # A bare 400 from a server that never answered yet: try without the extras before blaming the text.
            self.gives_logprobs = self.takes_schema = False
            self._stripped = True
        else:
            if self._stripped and not self._works:
                # It was the text after all.
                self.gives_logprobs = self.takes_schema = True
                self._stripped = False
            return None
        return Without(said)

    def _scrub(self, error: Any) -> str:
        body = error.body if isinstance(error.body, Mapping) else {}
        said = " ".join(str(body.get("message") or error.message).split())
        return (said.replace(self._key, "[key]") if len(self._key) > 4 else said)[:200]
