"""Claude as a teacher, through Anthropic's official SDK: the only file that knows it.

Asks the Messages API, or with `batch` its message batches. The model gives no log-probabilities: soft labels come from
votes (`samples`), else one label with a stated confidence. The part of the prompt that is the same for every text is
marked for the provider's cache, and cache reads and writes are priced as such. Does not retry: `rate_limit.py` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import quote

from potstill.errors import BadSpec, TeacherError, missing_extra
from potstill.registry import read_options
from potstill.teachers.base import JobPending, TeacherKind, TeacherSetup
from potstill.teachers.batch_api import (
    MAX_LISTED,
    BatchChatTeacher,
    BatchItem,
    BatchItemResult,
    BatchOptions,
    BatchProgress,
)
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.endpoint import api_key_for, host_of, is_loopback
from potstill.teachers.messages import (
    CHAT_CAPABILITIES,
    ChatIdentity,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    max_reply_tokens,
)
from potstill.teachers.model_catalogue import ask_model_status, read_entry
from potstill.teachers.model_status import ModelStatus
from potstill.teachers.price_options import batch_queue_price, model_price, provider_for_url
from potstill.teachers.prompts import JsonDict, RequestBody
from potstill.teachers.rate_limit import (
    ContentRefused,
    FeatureUnsupported,
    RateLimited,
    RequestError,
    RequestFailed,
    ResponseLost,
)
from potstill.teachers.response_parsing import UNREADABLE, parse_message
from potstill.teachers.sdk_adapter import SdkClient, failed_request, iter_lines, rate_limit_error

DEFAULT_URL = "https://api.anthropic.com"
# A schema of more values than this is not asked for; what the API takes is not documented.
MAX_SCHEMA_LABELS = 100
REPLY_TOKENS = 32
# An enforced format adds a prompt of its own; its size is not documented, tools are documented to add up to 530 tokens.
EXTRA_TOKENS = 600
# Of the 256 MB and 100,000 requests that one batch takes: it is sent in one piece, from memory.
MAX_REQUESTS, MAX_BYTES = 100_000, 100_000_000
_MESSAGES, _MODELS = "/v1/messages", "/v1/models"
_NOT_DONE = ("expired", "canceled")
_TOO_LONG = re.compile(r"too long|too large|context.?(length|window|limit)|maximum.{0,20}tokens", re.I)
_FILTERED = re.compile(r"content.?(filter|policy)|blocked", re.I)
_SCHEMA = re.compile(r"output_config|output_format|json_schema|structured output|schema", re.I)


class AnthropicOptions(ChatOptions, BatchOptions):
    """Options of `anthropic:MODEL`, on top of those of every chat teacher.

    Attributes:
        base_url: where the server is; empty takes ANTHROPIC_BASE_URL, then Anthropic.
        key_env: the environment variable that holds the key.
        effort: `output_config.effort` of a model that has it; empty leaves it out.
    """

    base_url: str = ""
    key_env: str = "ANTHROPIC_API_KEY"
    effort: str = ""


def open_teacher(setup: TeacherSetup) -> ChatTeacher:
    """`anthropic:MODEL`.

    Raises:
        BadSpec: no model, an option that cannot be.
        MissingExtra: the SDK is not installed.
        TeacherError: no key.
        UnknownPrice: the model's price is not known.
    """
    options = read_options(AnthropicOptions, "teacher 'anthropic'", setup.options)
    model = setup.model.strip()
    if not model:
        raise BadSpec("The teacher 'anthropic' needs a model.", "Name it after a colon: anthropic:claude-haiku-5-5.")
    url = (options.base_url or os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL).rstrip("/").removesuffix("/v1")
    host = host_of(url)
    provider = provider_for_url(url)
    price = model_price(model, provider, setup.prices, is_loopback(url))
    limit = MAX_SCHEMA_LABELS if options.max_schema_labels is None else options.max_schema_labels
    max_tokens = max_reply_tokens(options, REPLY_TOKENS, setup.task)
    options = options.model_copy(update={"max_schema_labels": limit, "max_tokens": max_tokens})
    server = AnthropicServer(url, model, api_key_for(url, options.key_env, asks=setup.will_call), options)
    name = f"anthropic:{model}"
    identity = ChatIdentity(model, host, options.effort)
    if options.batch:
        queued = batch_queue_price(
            model, provider, setup.prices, default_factor=0.5 if provider == "anthropic" else 1.0
        )
        return BatchChatTeacher(name, setup, options, server, price, queued, identity)
    return ChatTeacher(name, setup, options, server, price, identity)


class AnthropicServer:
    """The Messages API and one model behind the SDK; safe to call from many threads. Drops what is refused."""

    def __init__(self, url: str, model: str, key: str, options: AnthropicOptions) -> None:
        try:
            import anthropic
        except ModuleNotFoundError:
            raise missing_extra("anthropic", "anthropic", "The teacher 'anthropic'") from None
        self.supports_schema = True
        self.supports_logprobs = False
        self.supports_n = False
        self.extra_tokens = EXTRA_TOKENS
        self.bills_cache_writes = True
        self.max_requests = options.max_batch_requests or MAX_REQUESTS
        self.max_bytes = MAX_BYTES
        self._takes_temperature = True
        self._takes_effort = True
        self._has_answered = False
        self._model = model
        self._effort = options.effort
        self._batch_timeout_s = options.batch_timeout_s
        self._sdk_client = SdkClient(anthropic, "Anthropic", url, key, options.timeout_s, options.key_env)
        self._client = self._sdk_client.client

    def request_body(self, request: ChatRequest) -> RequestBody:
        """What is sent for one request, directly or in a batch."""
        system, *turns = _marked(request)
        body: JsonDict = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "system": system["content"],
            "messages": turns,
        }
        config: JsonDict = {}
        if request.schema is not None and self.supports_schema:
            config["format"] = {"type": "json_schema", "schema": dict(request.schema)}
        if self._effort and self._takes_effort:
            config["effort"] = self._effort
        if config:
            body["output_config"] = config
        if self._takes_temperature:
            body["temperature"] = min(request.temperature, 1.0)
        return body

    def send(self, request: ChatRequest) -> ChatResponse:
        """The reply to one request, sent once; `n` is not known here.

        Raises:
            RequestError: classified; `FeatureUnsupported` after a refused feature was dropped.
            TeacherError: wrong key, no such model, no credit.
        """
        sent = self.request_body(request)
        response = self._sdk_client.post(
            _MESSAGES, sent, parse_message, lambda error: self._classify_error(error, sent)
        )
        self._has_answered = True
        return response

    def model_status(self) -> ModelStatus:
        """What the server's entry of the model says about it."""
        return ask_model_status(self._sdk_client, self._model, f"{_MODELS}/{quote(self._model, safe='')}", read_entry)

    # --- the batch queue ----------------------------------------------------------------------------------

    def upload(self, items: Iterable[BatchItem], client_id: str) -> Any:
        """The requests as they are: they are sent with the batch itself."""
        return [{"custom_id": item.name, "params": item.body} for item in items]

    def create_batch(self, uploaded: Any, client_id: str) -> str:
        """Begin the batch; the mark goes along in the names of its requests."""

        def call() -> str:
            return str(self._client.messages.batches.create(requests=uploaded, timeout=self._batch_timeout_s).id)

        return self._sdk_client.call(call, self._classify_batch_error)

    def find_job(self, client_id: str, requests: int, exclude: Collection[str]) -> str | JobPending | None:
        """The batch whose requests carry the mark.

        The mark shows only when a batch has ended; until then a batch of the right size may be the one.
        """

        def call() -> str | JobPending | None:
            maybe = None
            # Newest first. Not ended by time: the clock here may have been set.
            for batch in islice(self._client.messages.batches.list(limit=100), MAX_LISTED):
                counts = batch.request_counts
                if batch.id in exclude or sum(counts.to_dict().values()) != requests:  # type: ignore[arg-type]
                    continue
                if batch.processing_status != "ended":
                    maybe = JobPending("being looked for", 0, requests)
                elif batch.results_url and self._first_name(batch.id).startswith(f"{client_id}-"):
                    return str(batch.id)
            return maybe

        return self._sdk_client.call(call, self._classify_batch_error)

    def get_progress(self, place: str) -> BatchProgress:
        """The state of the batch."""

        def call() -> BatchProgress:
            batch = self._client.messages.batches.retrieve(place)
            counts = batch.request_counts
            not_done = counts.processing + counts.expired + counts.canceled
            total = not_done + counts.succeeded + counts.errored
            over = batch.processing_status == "ended"
            return BatchProgress(batch.processing_status, total - not_done, total, over)

        return self._sdk_client.call(call, self._classify_batch_error)

    def results(self, place: str) -> Iterator[BatchItemResult]:
        """The lines of the results; none where they are no longer kept."""

        def call() -> list[BatchItemResult]:
            if not self._client.messages.batches.retrieve(place).results_url:
                return []
            return [self._result(line) for line in self._lines(place)]

        return iter(self._sdk_client.call(call, self._classify_batch_error))

    def clean_up(self, place: str) -> None:
        """Nothing to delete beside the batch itself, which Anthropic deletes after 29 days."""

    def _first_name(self, place: str) -> str:
        return next((self._result(line).name for line in self._lines(place)), "")

    def _lines(self, place: str) -> Iterator[str]:
        stream = self._client.messages.batches.with_streaming_response.results(place, timeout=self._batch_timeout_s)
        with stream as response:
            yield from iter_lines(response)

    def _result(self, line: str) -> BatchItemResult:
        try:
            record = self._sdk_client.parse(line)
            name, result = str(record["custom_id"]), record["result"]
        except UNREADABLE:
            return BatchItemResult("", ResponseLost("a line of the batch's results cannot be read"))
        try:
            if result["type"] == "succeeded":
                return BatchItemResult(name, parse_message(result["message"]))
            if result["type"] in _NOT_DONE:
                return BatchItemResult(name, RateLimited(result["type"]))
            error = result["error"]["error"]
            message = self._sdk_client.without_key(str(error.get("message") or ""))
            kind = str(error["type"])
        except UNREADABLE:
            return BatchItemResult(name, ResponseLost("a reply of the batch cannot be read"))
        if kind != "invalid_request_error":
            return BatchItemResult(name, RateLimited(f"{kind}: {message}"))
        return BatchItemResult(
            name, _content_refusal(400, message) or RequestFailed(f"the server answered {kind}: {message}")
        )

    def _classify_batch_error(self, error: Any) -> Exception:
        none = self._sdk_client.batch_not_found(error, "no message batches, or not this one")
        return none or self._classify_error(error, None)

    # --- what a refusal means -----------------------------------------------------------------------------

    def _classify_error(self, error: Any, sent: RequestBody | None) -> RequestError | TeacherError:
        """The error behind an HTTP status; a TeacherError if no request of this run can succeed."""
        status, message = error.status_code, self._sdk_client.message_of(error)
        meaning: RequestError | TeacherError | None
        meaning = self._sdk_client.permanent_error(error, self._model, no_credit="credit balance" in message)
        # 529 is "overloaded": everybody has to wait, as for a rate limit.
        meaning = meaning or rate_limit_error(error, message, (429, 529)) or _content_refusal(status, message)
        if meaning is None and sent is not None:
            meaning = self._drop_feature(message, sent)
        return meaning or failed_request(status, message)

    def _drop_feature(self, message: str, sent: RequestBody) -> FeatureUnsupported | None:
        """Drop the feature a 400 is about, if it was sent."""
        config = sent.get("output_config", {})
        if "temperature" in sent and "temperature" in message:
            self._takes_temperature = False
        elif "effort" in config and "effort" in message:
            self._takes_effort = False
        elif "format" in config and (_SCHEMA.search(message) or not self._has_answered):
            self.supports_schema = False
        else:
            return None
        return FeatureUnsupported(message)


def _marked(request: ChatRequest) -> list[JsonDict]:
    """The messages in Anthropic's form, with the end of their constant part marked for the cache."""
    marked: list[JsonDict] = []
    for number, message in enumerate(request.messages, 1):
        block: JsonDict = {"type": "text", "text": message["content"]}
        if number == request.n_constant:
            block["cache_control"] = {"type": "ephemeral"}
        marked.append({"role": message["role"], "content": [block]})
    return marked


def _content_refusal(status: int, message: str) -> ContentRefused | None:
    """Why a text is not answered; None if it may be about a feature."""
    if status == 413 or _TOO_LONG.search(message):
        return ContentRefused(f"too long: {message}")
    return ContentRefused(f"filtered: {message}") if _FILTERED.search(message) else None


KIND = TeacherKind(open_teacher, CHAT_CAPABILITIES, AnthropicOptions)
