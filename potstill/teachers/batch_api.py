"""A chat model behind a provider's batch queue: half the price, within a day.

A text is one request of a batch (or one per sample, if the provider gives one reply per request), named by the job's
client id and the text's number, so that replies in any order are matched to their text. Replies are parsed as strictly
as direct ones; a batch has no second try, so such a reply stays unparsable. A `BatchServer` implements the provider.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from pydantic import Field

from potstill.data.task import Answer
from potstill.errors import TeacherError
from potstill.ledger.prices import ExactPrice, Usage
from potstill.registry import Options
from potstill.teachers.base import (
    BatchJob,
    JobGone,
    JobPending,
    JobRejected,
    JobResults,
    JobWording,
    TeacherMetadata,
    TeacherSetup,
)
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.messages import (
    ChatIdentity,
    ChatOptions,
    ChatRequest,
    ChatResponse,
    ChatServer,
    dearest_usage,
    drop_refusals,
    multiply_usage,
    shorten,
)
from potstill.teachers.prompts import RequestBody
from potstill.teachers.rate_limit import (
    CallUsage,
    ContentRefused,
    FeatureUnsupported,
    NotFound,
    RateLimited,
    RequestError,
    ResponseLost,
    ServerUnavailable,
    unbilled_error,
)

T = TypeVar("T")

MAX_LISTED = 5000  # batches of an account that are looked through for one of ours, the newest first
# Seconds for which one step (an upload, a status request) is retried.
STEP_TIMEOUT_S = 60.0
RETRY_LATER = "Run the same command again later; the submitted batches stay."


class BatchOptions(Options):
    """The options of a teacher that can be asked by batch.

    Attributes:
        batch: submit the texts to the provider's batch queue, and fetch the answers later.
        max_batch_requests: requests in one batch at most; None is the provider's limit.
        batch_timeout_s: seconds for one upload or download.
    """

    batch: bool = False
    max_batch_requests: int | None = Field(default=None, ge=1)
    batch_timeout_s: float = Field(default=600.0, gt=0)


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch: its name and its body."""

    name: str
    body: RequestBody


@dataclass(frozen=True)
class BatchItemResult:
    """The outcome of one request: a response or an error; `RateLimited` and `FeatureUnsupported` may be sent again."""

    name: str
    outcome: ChatResponse | RequestError


@dataclass(frozen=True)
class BatchProgress:
    """The state of a batch. `finished`: its results can be read; `rejected` is set if it never began."""

    state: str
    done: int
    total: int
    finished: bool = False
    rejected: JobRejected | None = None


class BatchServer(ChatServer, Protocol):
    """A server with a batch queue. Its methods send once; they raise a RequestError or a TeacherError.

    Attributes:
        max_requests, max_bytes: limits of one batch.
    """

    max_requests: int
    max_bytes: int

    def request_body(self, request: ChatRequest) -> RequestBody:
        """The body of one request of a batch."""

    def upload(self, items: Iterable[BatchItem], client_id: str) -> Any:
        """Upload the requests, which costs nothing yet; returns the argument of `create_batch`."""

    def create_batch(self, uploaded: Any, client_id: str) -> str:
        """Begin the batch; returns its id. It may have begun after a ResponseLost."""

    def find_job(self, client_id: str, requests: int, exclude: Collection[str]) -> str | JobPending | None:
        """The id of the batch with this client id; JobPending while it is unknown which it is."""

    def get_progress(self, place: str) -> BatchProgress:
        """The state of the batch."""

    def results(self, place: str) -> Iterator[BatchItemResult]:
        """The outcomes of its requests, in any order; unprocessed ones may be left out."""

    def clean_up(self, place: str) -> None:
        """Delete the remains of a finished batch, such as its files."""


class BatchChatTeacher(ChatTeacher):
    """A ChatTeacher that can also be asked by batch; see `base.DeferredTeacher`.

    Args:
        name: as for ChatTeacher.
        setup: as for ChatTeacher.
        options: as for ChatTeacher.
        server: sends requests, and has a queue.
        price: as for ChatTeacher.
        job_price: the price of the queue.
        identity: as for ChatTeacher.
    """

    job_wording = JobWording()

    def __init__(
        self,
        name: str,
        setup: TeacherSetup,
        options: ChatOptions,
        server: BatchServer,
        price: ExactPrice,
        job_price: ExactPrice,
        identity: ChatIdentity,
    ) -> None:
        super().__init__(name, setup, options, server, price, identity)
        self._queue = server
        self.job_price = job_price

    @property
    def metadata(self) -> TeacherMetadata:
        """As for ChatTeacher, with the price of the queue."""
        facts = super().metadata
        return replace(facts, extra={**facts.extra, "batch": True, "batch_price": self.job_price.source})

    @property
    def samples(self) -> int:
        """Replies a new job asks for each text."""
        return self._question.samples

    # --- submitting ---------------------------------------------------------------------------------------

    def max_job_usage(self, text: str) -> Usage:
        """An upper bound of one text in a batch: every sample with all of its prompt and of `max_tokens`."""
        bound = self._max_request(text)
        writes = self._server.bills_cache_writes
        each = dearest_usage(self.job_price, writes, bound.input_tokens, bound.output_tokens)
        return multiply_usage(each, self.samples)

    def _items(self, text: str, number: int, client_id: str) -> list[BatchItem]:
        samples = self.samples
        per_request = samples if self._server.supports_n else 1
        request = self._question.request(text, per_request if samples > 1 else 0)
        body = self._queue.request_body(request)
        return [BatchItem(f"{client_id}-{number}-{sample}", body) for sample in range(samples // per_request)]

    def job_capacity(self, texts: Iterable[str]) -> int:
        """How many of the first `texts` fit into one batch; at least one, which the queue then accepts or rejects."""
        requests = size = n = 0
        for text in texts:
            items = self._items(text, n, "0" * 32)
            requests += len(items)
            # The body, its name and the rest of the line.
            size += sum(len(json.dumps(item.body)) + 256 for item in items)
            if n and (requests > self._queue.max_requests or size > self._queue.max_bytes):
                break
            n += 1
        return n

    def submit_job(self, job: BatchJob, texts: Sequence[str]) -> str | JobRejected:
        """Upload the texts and begin the batch. See `base.DeferredTeacher`."""
        items = [item for number, text in enumerate(texts) for item in self._items(text, number, job.client_id)]
        try:
            uploaded = self._retry(lambda: self._queue.upload(items, job.client_id))
        except NotFound as error:
            raise _no_batches(error) from None
        except TeacherError as error:
            error.billed = False
            raise
        self._builder.count_redactions(texts)
        try:
            return self._queue.create_batch(uploaded, job.client_id)
        except (ResponseLost, ServerUnavailable) as error:
            # It may have begun: the job stays, and `find_job` looks for it.
            raise TeacherError(f"A batch was sent to {self.name}, and {error.reason}.", RETRY_LATER) from None
        except NotFound as error:
            raise _no_batches(error) from None
        except RateLimited as error:
            return JobRejected(error.reason, queue_full=True)
        except RequestError as error:
            raise unbilled_error(
                f"{self.name} takes no batch: {error.reason}.", "Ask directly, without batch."
            ) from None

    def find_job(self, job: BatchJob, exclude: Collection[str]) -> str | JobPending | JobGone | None:
        """Find a job that may have been submitted. See `base.DeferredTeacher`."""
        each = 1 if self._server.supports_n else job.samples
        try:
            return self._retry(lambda: self._queue.find_job(job.client_id, job.n_texts * each, exclude))
        except NotFound as error:
            return JobGone(error.reason)

    # --- fetching -----------------------------------------------------------------------------------------

    def fetch_job(self, job: BatchJob) -> JobPending | JobRejected | JobGone | JobResults:
        """The state of a batch, and its results. See `base.DeferredTeacher`."""
        try:
            return self._fetch(job)
        except NotFound as error:
            return JobGone(error.reason)

    def _fetch(self, job: BatchJob) -> JobPending | JobRejected | JobResults:
        progress = self._retry(lambda: self._queue.get_progress(job.job_id))
        if progress.rejected is not None:
            return progress.rejected
        if not progress.finished:
            return JobPending(progress.state, progress.done, progress.total)
        results = self._retry(lambda: list(self._queue.results(job.job_id)))
        # A processed request without a result is charged, and may be submitted again.
        return self._job_results(job, results, max(0, progress.done - len(results)))

    def clean_up(self, job: BatchJob) -> None:
        """Delete the batch's files; if that fails, the provider deletes them in time."""
        with suppress(RequestError, TeacherError):
            self._queue.clean_up(job.job_id)

    def _job_results(self, job: BatchJob, results: Sequence[BatchItemResult], n_unreported: int) -> JobResults:
        by_text: dict[int, dict[str, ChatResponse | RequestError]] = {}
        for result in results:
            number = _number_of(result.name, job)
            if number is None:
                # A reply to none of the job's requests: it may be billed, so it is charged.
                n_unreported += isinstance(result.outcome, ChatResponse | ResponseLost)
            else:
                by_text.setdefault(number, {}).setdefault(result.name, result.outcome)
        usages: list[Usage] = []
        for outcomes in by_text.values():
            for outcome in outcomes.values():
                if isinstance(outcome, ResponseLost) or (isinstance(outcome, ChatResponse) and outcome.usage is None):
                    n_unreported += 1
                elif isinstance(outcome, ChatResponse) and outcome.usage is not None:
                    usages.append(outcome.usage)
        answers = [self._answer_of(list(by_text.get(i, {}).values()), job.samples) for i in range(job.n_texts)]
        return JobResults(tuple(answers), tuple(usages), n_unreported)

    def _answer_of(self, outcomes: Sequence[ChatResponse | RequestError], samples: int) -> Answer | None:
        """The answer of one text's outcomes; None if it may be submitted again."""
        choices = [choice for outcome in outcomes if isinstance(outcome, ChatResponse) for choice in outcome.choices]
        try:
            if choices:
                return self._question.read(drop_refusals(choices), samples)
        except ContentRefused as error:
            return Answer("refused", raw=shorten(error.reason))
        for outcome in outcomes:
            if isinstance(outcome, ContentRefused):
                return Answer("refused", raw=shorten(outcome.reason))
            if isinstance(outcome, RequestError) and not isinstance(outcome, RateLimited | FeatureUnsupported):
                return Answer("failed", raw=shorten(outcome.reason))
        return None

    # --- retries ------------------------------------------------------------------------------------------

    def _retry(self, step: Callable[[], T]) -> T:
        """The result of `step`, which costs nothing and is retried.

        Raises:
            NotFound: the provider does not have it.
            TeacherError: it cannot succeed for another reason.
        """
        try:
            return self._limiter.send(step, CallUsage(0, STEP_TIMEOUT_S), Usage(), 0)
        except NotFound:
            raise
        except RequestError as error:
            raise TeacherError(f"{self.name} cannot be asked for its batches: {error.reason}.", RETRY_LATER) from None


def _no_batches(error: NotFound) -> TeacherError:
    return unbilled_error(f"{error.reason}.", "Ask directly, without batch.")


def _number_of(name: str, job: BatchJob) -> int | None:
    """The number of the text of a request of this job; None for another job's."""
    client_id, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    is_number = number.isascii() and number.isdigit() and len(number) <= len(str(job.n_texts))
    if client_id != job.client_id or not is_number:
        return None
    return int(number) if int(number) < job.n_texts else None
