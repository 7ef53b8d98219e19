"""The endpoint of an operation: a request's texts -> the model's answer -> the protocol's response, all of it counted.

An ASGI app of its own, without starlette's requests, responses and middleware: at thousands of requests a second they
would cost more than the model.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError, RequestRefused
from potstill.serving.exchange import CallerGone, answer_or_leave, check_media, read_body
from potstill.serving.protocols.base import (
    Incoming,
    Operation,
    Question,
    RenderedReply,
    ServingProtocol,
    as_refusal,
)
from potstill.serving.request_log import LoggedRequest, utc_now
from potstill.serving.served import AnyAnswer, AnyServedModel
from potstill.serving.service import Service

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}
_SECURITY_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
LEFT = 499  # nginx's status for a caller who closed the connection; it is never sent


@dataclass
class Exchange:
    """What is known of a request when it ends, for the counters and the log."""

    question: Question[Any] | None = None
    answer: AnyAnswer | None = None
    reason: str = ""


class OperationEndpoint:
    """An ASGI app that answers the requests of one operation.

    Args:
        service: the models, who may ask, the counters and the log.
        protocol: whose errors are sent.
        operation: parses requests and renders answers.
    """

    def __init__(self, service: Service, protocol: ServingProtocol, operation: Operation[Any]) -> None:
        self._service = service
        self._protocol = protocol
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started, exchange = time.perf_counter(), Exchange()
        extra: dict[str, str] = {}
        try:
            reply = await self._answer(scope, receive, exchange)
        except CallerGone:
            exchange.reason = "dropped"
            reply = RenderedReply(b"", LEFT)
        except PotstillError as error:
            refusal = as_refusal(error)
            exchange.reason = refusal.reason
            reply = self._protocol.refuse(refusal)
            if refusal.retry_after_s is not None:
                extra["retry-after"] = str(refusal.retry_after_s)
        except Exception as error:
            report_bug(error)
            exchange.reason = "bug"
            reply = self._protocol.refuse(RequestRefused("bug", "The server failed; its log has the place."))
        elapsed = time.perf_counter() - started
        self._record(exchange, reply.status, elapsed)
        extra["x-total-time"] = str(round(1000 * elapsed))
        await send_reply(send, reply, extra)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> RenderedReply:
        service, operation = self._service, self._operation
        headers = read_headers(scope)
        service.access.check(headers)
        check_media(headers, operation.accepts)
        body = await read_body(receive, headers, service.pool.limits)
        named: Mapping[str, str] = scope.get("path_params", {})
        bundle = addressed_model(service, named).bundle
        incoming = Incoming(body, headers, named.get("model", ""), bundle.takes_pairs, bundle.record.text_columns)
        question = exchange.question = operation.parse(incoming)
        render = operation.renderer(service.pool.find(question.model))
        batcher, ticket = service.pool.submit(
            question.model, question.texts, truncate=question.truncate, embedding=question.embedding
        )
        answer = await answer_or_leave(scope["potstill.call_if_lost"], batcher, ticket)
        reply = render(question, answer)
        exchange.answer = answer
        return reply

    def _record(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Count a request, and log it if there is a log."""
        service, question, answer = self._service, exchange.question, exchange.answer
        n_texts = 0 if question is None else len(question.texts)
        if answer is None:
            service.metrics.failed(exchange.reason)
        else:
            service.metrics.answered(answer, n_texts, seconds)
        if service.log is None:
            return
        milliseconds = round(1000 * seconds, 3)
        about = LoggedRequest(utc_now(), self._operation.path, status, texts=n_texts, milliseconds=milliseconds)
        if answer is not None:
            tokens = int(answer.computed.tokens.sum())
            about = replace(about, model=answer.model.name, version=answer.model.version, tokens=tokens)
        service.log.add(about, () if question is None else question.texts, answer)


def read_headers(scope: Scope) -> dict[str, str]:
    """The headers of a request by lower-case name; of one that comes several times the first."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def addressed_model(service: Service, named: Mapping[str, str]) -> AnyServedModel:
    """The model in the address, and the version if that names one; else the default one.

    Raises:
        RequestRefused: there is no such model or version, or it is not loaded yet.
    """
    model = service.pool.find(named.get("model", ""))
    version = named.get("version", model.version)
    if version != model.version:
        raise RequestRefused(
            "model", f"{model.name} has no version {version[:40]!r}.", f"It is served as version {model.version}."
        )
    return model


async def send_reply(send: Send, reply: RenderedReply, extra: Mapping[str, str]) -> None:
    """Send a response, with more headers than its own."""
    headers = [
        *_SECURITY_HEADERS,
        (b"content-type", reply.media_type.encode("latin-1")),
        (b"content-length", b"%d" % len(reply.body)),
    ]
    for each in (reply.headers, extra, status_headers(reply.status)):
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in each.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def status_headers(status: int) -> Mapping[str, str]:
    """The headers that belong to a status."""
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if status == 413:
        return {"connection": "close"}  # the rest of the body is not read
    return {}


def report_bug(error: Exception) -> None:
    """Write where an unexpected error came from to standard error; its message may hold a text and is left out."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    print(f"potstill serve: {type(error).__name__}\n{''.join(frames)}", end="", file=sys.stderr, flush=True)
