"""Any OpenAI-compatible server as a teacher, through the official SDK: the only file that knows it.

OpenAI itself, and vLLM, llama.cpp, Ollama, Gemini, Mistral, Groq, ... by `base_url`. The server is asked for
structured output and token log-probabilities; what it refuses is left out from then on. Keys come from the
environment only. With `batch` texts go through the batch API, if the server has one. Does not retry:
`rate_limit.py` does, by the class of the error.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from pydantic import Field

from potstill.errors import BadSpec, TeacherError, missing_extra
from potstill.registry import read_options
from potstill.teachers.base import JobPending, JobRejected, TeacherKind, TeacherSetup
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
from potstill.teachers.model_catalogue import ask_model_status, read_list
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
    unbilled_error,
)
from potstill.teachers.response_parsing import UNREADABLE, parse_chat_completion
from potstill.teachers.sdk_adapter import (
    SdkClient,
    failed_request,
    iter_lines,
    rate_limit_error,
    rate_limit_error_from_status,
)

DEFAULT_URL = "https://api.openai.com/v1"
# How many labels a JSON schema may list: OpenAI documents 500 values, others refuse from about 100 on.
MAX_SCHEMA_LABELS, MAX_SCHEMA_LABELS_ELSEWHERE = 500, 100
# A reply is a code, in JSON at most; a reasoning model thinks first and is billed for it.
REPLY_TOKENS, REASONING_TOKENS = 32, 2048
FEW_LOGPROBS = 5
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
_REASONS = re.compile(r"(^|/)(o\d|gpt-[5-9](?!.{0,80}chat))")
NO_REASONING = "none"  # a reasoning_effort
_TOO_LONG = re.compile(r"context.?(length|size|window)|maximum context|too long|too many tokens|prompt is too", re.I)
_FILTERED = re.compile(r"content.?(filter|policy|management)|safety system|flagged", re.I)
# What one batch takes, and which refusals of a batch mean that too much is waiting already.
MAX_REQUESTS, MAX_BYTES = 50_000, 190_000_000
_FULL = re.compile(r"enqueued|token_limit|limit reached|too many batches", re.I)
_NOT_DONE = ("batch_expired", "batch_cancelled")
_CHAT, _ENDPOINT, _MARK = "/chat/completions", "/v1/chat/completions", "potstill"
_OVER = ("completed", "expired", "cancelled")
_TOO_MANY = re.compile(r"logprobs of \d|max allowed", re.I)  # as vLLM says it
_SCHEMA = re.compile(r"response_format|json_schema|structured output|guided|grammar", re.I)


class OpenAIOptions(ChatOptions, BatchOptions):
    """Options of `openai:MODEL`, on top of those of every chat teacher.

    Attributes:
        base_url: where the server is; empty takes OPENAI_BASE_URL, then OpenAI.
        key_env: the environment variable that holds the key.
        reasoning_effort: of a reasoning model, such as "low" or "none"; empty leaves it out.
        chat_template_kwargs: for the model's chat template, such as {enable_thinking: false}; vLLM, SGLang and
            llama.cpp take them.
        top_logprobs: how many alternatives to ask for at each token.
    """

    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    reasoning_effort: str = ""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    top_logprobs: int = Field(default=20, ge=1, le=100)


def open_teacher(setup: TeacherSetup) -> ChatTeacher:
    """`openai:MODEL` on any OpenAI-compatible server.

    Raises:
        BadSpec: no model, an option that cannot be.
        MissingExtra: the SDK is not installed.
        TeacherError: no key where the server needs one.
        UnknownPrice: the model's price is not known.
    """
    options = read_options(OpenAIOptions, "teacher 'openai'", setup.options)
    model = setup.model.strip()
    if not model:
        raise BadSpec("The teacher 'openai' needs a model.", "Name it after a colon, such as openai:gpt-6-luna.")
    url = (options.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
    host = host_of(url)
    provider = provider_for_url(url)
    price = model_price(model, provider, setup.prices, is_loopback(url))
    reasons = provider == "openai" and bool(_REASONS.search(model)) and options.reasoning_effort != NO_REASONING
    limit = options.max_schema_labels
    if limit is None:
        limit = MAX_SCHEMA_LABELS if provider == "openai" else MAX_SCHEMA_LABELS_ELSEWHERE
    max_tokens = max_reply_tokens(options, REASONING_TOKENS if reasons else REPLY_TOKENS, setup.task)
    options = options.model_copy(update={"max_schema_labels": limit, "max_tokens": max_tokens})
    server = OpenAIServer(url, model, api_key_for(url, options.key_env, asks=setup.will_call), options)
    identity = ChatIdentity(
        model, host, options.reasoning_effort, options.top_logprobs, tuple(sorted(options.chat_template_kwargs.items()))
    )
    if options.batch:
        queued = batch_queue_price(model, provider, setup.prices, default_factor=0.5 if provider == "openai" else 1.0)
        return BatchChatTeacher(f"openai:{model}", setup, options, server, price, queued, identity)
    return ChatTeacher(f"openai:{model}", setup, options, server, price, identity)


class OpenAIServer:
    """One server and one model behind the SDK; safe to call from many threads. Drops features that are refused."""

    def __init__(self, url: str, model: str, key: str, options: OpenAIOptions) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise missing_extra("openai", "openai", "The teacher 'openai'") from None
        self.supports_schema = True
        self.supports_logprobs = True
        self.supports_n = True
        self.extra_tokens = 0
        self.bills_cache_writes = False
        self.max_requests = options.max_batch_requests or MAX_REQUESTS
        self.max_bytes = MAX_BYTES
        self._takes_temperature = True
        self._takes_effort = True
        self._top_logprobs = options.top_logprobs
        # OpenAI knows both names and prefers the new one; other servers may ignore it and generate without end.
        self._limit_name = "max_completion_tokens" if provider_for_url(url) == "openai" else "max_tokens"
        self._limit_swapped = False
        self._has_answered = False
        self._stripped = False
        self._model = model
        self._effort = options.reasoning_effort
        self._template_kwargs = options.chat_template_kwargs
        self._may_not_reason = options.reasoning_effort == NO_REASONING and bool(_REASONS.search(model))
        self._batch_timeout_s = options.batch_timeout_s
        self._missing = openai.NotFoundError
        self._sdk_client = SdkClient(openai, "OpenAI", url, key, options.timeout_s, options.key_env)
        self._client = self._sdk_client.client

    def send(self, request: ChatRequest) -> ChatResponse:
        """The replies to one request, sent once.

        Raises:
            RequestError: classified; `FeatureUnsupported` after a refused feature was dropped.
            TeacherError: wrong key, no such model, no credit.
        """
        optional = self._optional_fields(request)
        response = self._create(request, optional)
        self._has_answered = True
        replied = [choice for choice in response.choices if choice.text and not choice.refusal]
        if "logprobs" in optional and replied and not any(choice.token_logprobs for choice in replied):
            self.supports_logprobs = False
        return response

    def model_status(self) -> ModelStatus:
        """What the server's list of models says about this one."""
        return ask_model_status(self._sdk_client, self._model, "/models", read_list)

    def _optional_fields(self, request: ChatRequest) -> JsonDict:
        optional: JsonDict = {}
        if self._takes_temperature:
            optional["temperature"] = request.temperature
        if request.schema is not None and self.supports_schema:
            form = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            optional["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.logprobs and self.supports_logprobs:
            optional |= {"logprobs": True, "top_logprobs": self._top_logprobs}
        if self._effort and self._takes_effort:
            optional["reasoning_effort"] = self._effort
        return optional

    def _required_fields(self, request: ChatRequest) -> JsonDict:
        needs = {"model": self._model, "messages": list(request.messages), self._limit_name: request.max_tokens}
        needs |= {"chat_template_kwargs": self._template_kwargs} if self._template_kwargs else {}
        return needs | ({"n": request.n} if request.n > 1 and self.supports_n else {})

    def _create(self, request: ChatRequest, optional: RequestBody) -> ChatResponse:
        sent = {**self._required_fields(request), **optional}
        return self._sdk_client.post(
            _CHAT, sent, parse_chat_completion, lambda error: self._classify_error(error, sent)
        )

    # --- the batch queue ----------------------------------------------------------------------------------

    def request_body(self, request: ChatRequest) -> RequestBody:
        """The body of one request."""
        return {**self._required_fields(request), **self._optional_fields(request)}

    def upload(self, items: Iterable[BatchItem], client_id: str) -> str:
        """A file of requests, one a line; returns the file's id."""

        def call() -> str:
            with tempfile.TemporaryFile() as lines:
                for item in items:
                    line = {"custom_id": item.name, "method": "POST", "url": _ENDPOINT, "body": item.body}
                    lines.write(json.dumps(line).encode() + b"\n")
                lines.seek(0)
                named = (f"potstill-{client_id}.jsonl", lines)
                return str(self._client.files.create(file=named, purpose="batch", timeout=self._batch_timeout_s).id)

        return self._sdk_client.call(call, self._classify_batch_error)

    def create_batch(self, uploaded: str, client_id: str) -> str:
        """Begin the batch of an uploaded file; the mark goes along as metadata."""

        def call() -> str:
            batch = self._client.batches.create(
                input_file_id=uploaded, endpoint=_ENDPOINT, completion_window="24h", metadata={_MARK: client_id}
            )
            return str(batch.id)

        return self._sdk_client.call(call, self._classify_batch_error)

    def find_job(self, client_id: str, requests: int, exclude: Collection[str]) -> str | JobPending | None:
        """The batch that carries the mark."""

        def call() -> str | None:
            # Newest first. Not ended by time: the clock here may have been set.
            listed = islice(self._client.batches.list(limit=100), MAX_LISTED)
            return next((str(batch.id) for batch in listed if (batch.metadata or {}).get(_MARK) == client_id), None)

        return self._sdk_client.call(call, self._classify_batch_error)

    def get_progress(self, place: str) -> BatchProgress:
        """The state of the batch."""

        def call() -> BatchProgress:
            batch = self._client.batches.retrieve(place)
            counts = batch.request_counts
            done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
            rejected = None
            if batch.status == "failed":
                errors = list((batch.errors and batch.errors.data) or ())
                message = " ".join(f"{error.code}: {error.message}" for error in errors[:1]) or "no reason given"
                rejected = JobRejected(self._sdk_client.without_key(message), queue_full=bool(_FULL.search(message)))
            return BatchProgress(batch.status, done, total, batch.status in _OVER, rejected)

        return self._sdk_client.call(call, self._classify_batch_error)

    def results(self, place: str) -> Iterator[BatchItemResult]:
        """The lines of the output file and of the error file."""

        def call() -> list[BatchItemResult]:
            batch = self._client.batches.retrieve(place)
            files = [name for name in (batch.output_file_id, batch.error_file_id) if name]
            return [result for name in files for result in self._lines(name)]

        return iter(self._sdk_client.call(call, self._classify_batch_error))

    def clean_up(self, place: str) -> None:
        """Delete the batch's files: they hold the texts and the answers."""

        def call() -> None:
            batch = self._client.batches.retrieve(place)
            for name in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
                if name:
                    # One that is gone already does not keep the others.
                    with suppress(self._missing):
                        self._client.files.delete(name)

        self._sdk_client.call(call, self._classify_batch_error)

    def _lines(self, name: str) -> Iterator[BatchItemResult]:
        with self._client.files.with_streaming_response.content(name, timeout=self._batch_timeout_s) as response:
            for line in iter_lines(response):
                yield self._result(line)

    def _result(self, line: str) -> BatchItemResult:
        try:
            record = self._sdk_client.parse(line)
            name, response, error = str(record["custom_id"]), record.get("response"), record.get("error")
        except UNREADABLE:
            return BatchItemResult("", ResponseLost("a line of the batch's results cannot be read"))
        try:
            if not response:
                code = str((error or {}).get("code") or "")
                return BatchItemResult(
                    name, RateLimited(code) if code in _NOT_DONE else RequestFailed(f"the batch says: {code}")
                )
            if response["status_code"] == 200:
                return BatchItemResult(name, parse_chat_completion(response["body"]))
            error = response["body"]["error"]
            message = self._sdk_client.without_key(str(error.get("message") or ""))
            status, code = response["status_code"], str(error.get("code") or "")
            meaning = rate_limit_error_from_status(status, message, None) or _content_refusal(status, code, message)
            return BatchItemResult(name, meaning or failed_request(status, message))
        except UNREADABLE:
            return BatchItemResult(name, ResponseLost("a reply of the batch cannot be read"))

    def _classify_batch_error(self, error: Any) -> Exception:
        message = self._sdk_client.message_of(error)
        if error.status_code in (400, 429) and _FULL.search(f"{error.code} {message}"):
            return RateLimited(message)
        none = self._sdk_client.batch_not_found(error, "no batch API, or not this batch")
        return none or self._classify_error(error, None)

    # --- what a refusal means -----------------------------------------------------------------------------

    def _classify_error(self, error: Any, sent: RequestBody | None) -> RequestError | TeacherError:
        """The error behind an HTTP status; a TeacherError if no request of this run can succeed."""
        status, code, message = error.status_code, str(error.code or ""), self._sdk_client.message_of(error)
        no_credit = code in ("insufficient_quota", "billing_hard_limit_reached")
        hint = "; a base_url usually ends in /v1"
        meaning: RequestError | TeacherError | None = self._sdk_client.permanent_error(
            error, self._model, no_credit=no_credit, hint=hint
        )
        meaning = meaning or rate_limit_error(error, message) or _content_refusal(status, code, message)
        if meaning is None and sent is not None:
            meaning = self._wanted_refused(f"{error.param or ''} {message}", sent)
        if meaning is None and sent is not None:
            meaning = self._drop_feature(str(error.param or ""), message, sent)
        return meaning or failed_request(status, message)

    def _wanted_refused(self, about: str, sent: RequestBody) -> TeacherError | None:
        """The error where a refused option cannot be left out: the model would reason, and be billed for it."""
        wanted = ["chat_template_kwargs", *(["reasoning_effort"] if self._may_not_reason else [])]
        refused = next((name for name in wanted if name in sent and name in about), None)
        if refused is None:
            return None
        hint = "Leave it out, or give a value that the server documents."
        return unbilled_error(f"The server at {self._sdk_client.host} refuses {refused}: {about.strip()}", hint)

    def _drop_feature(self, blamed: str, message: str, sent: RequestBody) -> FeatureUnsupported | None:
        """Drop the feature a 400 is about, if it was sent."""
        about = f"{blamed} {message}"
        limit = next(name for name in _LIMIT_NAMES if name in sent)
        if "logprobs" in sent and "logprobs" in about:
            # Some servers list at most five alternatives.
            if sent["top_logprobs"] > FEW_LOGPROBS and ("top_logprobs" in about or _TOO_MANY.search(about)):
                self._top_logprobs = min(self._top_logprobs, FEW_LOGPROBS)
            else:
                self.supports_logprobs = False
        elif "response_format" in sent and _SCHEMA.search(about):
            self.supports_schema = False
        elif "temperature" in sent and "temperature" in about:
            self._takes_temperature = False
        elif "reasoning_effort" in sent and "reasoning" in about:
            self._takes_effort = False
        elif re.search(r"max_\w{0,40}tokens", about) and not (self._limit_swapped and self._limit_name == limit):
            # Another thread may have swapped the two names already.
            if self._limit_name == limit:
                self._limit_name = next(name for name in _LIMIT_NAMES if name != limit)
            self._limit_swapped = True
        elif "n" in sent and (blamed == "n" or re.search(r"\bn\b", message)):
            self.supports_n = False
        elif not self._has_answered and ("logprobs" in sent or "response_format" in sent):
            # A bare 400 from a server that never answered yet: try without the extras before blaming the text.
            self.supports_logprobs = self.supports_schema = False
            self._stripped = True
        else:
            if self._stripped and not self._has_answered:
                # It was the text after all.
                self.supports_logprobs = self.supports_schema = True
                self._stripped = False
            return None
        return FeatureUnsupported(message)


def _content_refusal(status: int, code: str, message: str) -> ContentRefused | None:
    """Why a text is not answered; None if it may be about a feature."""
    if status == 413 or code == "context_length_exceeded" or _TOO_LONG.search(message):
        return ContentRefused(f"too long: {message}")
    if code in ("content_filter", "content_policy_violation") or _FILTERED.search(message):
        return ContentRefused(f"filtered: {message}")
    return None


KIND = TeacherKind(open_teacher, CHAT_CAPABILITIES, OpenAIOptions)
