"""The served models as a starlette app: the routes of all protocols, made from their tables, and the pages."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError, RequestRefused, missing_extra
from potstill.serving.exchange import CallerGone, answer_or_leave, check_media, read_body
from potstill.serving.pages import front_page, page_routes
from potstill.serving.protocols.base import (
    Fact,
    Incoming,
    Operation,
    Question,
    RenderedReply,
    ServingProtocol,
    as_refusal,
)
from potstill.serving.protocols.tei import render_health
from potstill.serving.request_log import LoggedRequest, utc_now
from potstill.serving.served import AnyAnswer, AnyServedModel
from potstill.serving.service import Service

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}
LEFT = 499  # nginx's status for a caller who closed the connection; it is never sent
Endpoint = Callable[["Request"], Awaitable["Response"]]


@dataclass
class Exchange:
    """What is known of a request when it ends, for the counters and the log."""

    question: Question[Any] | None = None
    answer: AnyAnswer | None = None
    reason: str = ""


def create_app(service: Service) -> ASGIApp:
    """The app.

    Raises:
        MissingExtra: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
    except ModuleNotFoundError as error:
        raise missing_extra("starlette", "web", "Serving a bundle") from error

    async def refuse_address(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        reason = {404: "route", 405: "method"}.get(status, "shape")
        what = "There is no such address." if status == 404 else "The address is read with another method."
        refusal = RequestRefused(reason, what, "GET /docs lists all addresses.")
        return _response(service.protocol_of(request.url.path).refuse(refusal))

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, PotstillError)
        return _response(service.protocol_of(request.url.path).refuse(as_refusal(error)))

    handlers: Mapping[Any, Any] = {HTTPException: refuse_address, PotstillError: refuse}
    return Starlette(routes=_routes(service), exception_handlers=handlers)


def _routes(service: Service) -> list[Route]:
    from starlette.routing import Route

    async def front(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return front_page(service)
        return _response(render_health(service.situation(), None))

    routes = []
    for protocol in service.protocols:
        for operation in protocol.operations:
            routes.append(Route(operation.path, _answering(service, protocol, operation), methods=["POST"]))
        for fact in protocol.facts:
            routes.append(Route(fact.path, _facts(service, protocol, fact), methods=["GET"]))
    return [*routes, Route("/", front, methods=["GET"]), *page_routes(service)]


def _answering(service: Service, protocol: ServingProtocol, operation: Operation[Any]) -> Endpoint:
    """The endpoint of an operation."""

    async def endpoint(request: Request) -> Response:
        started, exchange = time.perf_counter(), Exchange()
        try:
            reply = await _answer(service, operation, request, exchange)
        except CallerGone:
            exchange.reason = "dropped"
            reply = RenderedReply(b"", LEFT)
        except PotstillError as error:
            refusal = as_refusal(error)
            exchange.reason = refusal.reason
            reply = protocol.refuse(refusal)
            if refusal.retry_after_s is not None:
                reply = _with_headers(reply, {"retry-after": str(refusal.retry_after_s)})
        except Exception as error:
            report_bug(error)
            exchange.reason = "bug"
            reply = protocol.refuse(RequestRefused("bug", "The server failed; its log has the place."))
        elapsed = time.perf_counter() - started
        _record(service, operation, exchange, reply.status, elapsed)
        return _response(_with_headers(reply, {"x-total-time": str(round(1000 * elapsed))}))

    return endpoint


async def _answer(service: Service, operation: Operation[Any], request: Request, exchange: Exchange) -> RenderedReply:
    headers = request.headers
    service.access.check(headers)
    check_media(headers, json_only=operation.json_only)
    body = await read_body(request.receive, headers, service.pool.limits)
    model = _addressed(service, request)
    bundle = model.bundle
    incoming = Incoming(
        body, headers, request.path_params.get("model", ""), bundle.takes_pairs, bundle.record.text_columns
    )
    question = exchange.question = operation.parse(incoming)
    render = operation.renderer(service.pool.find(question.model))
    batcher, ticket = service.pool.submit(question.model, question.texts, truncate=question.truncate)
    answer = await answer_or_leave(request.receive, batcher, ticket)
    reply = render(question, answer)
    exchange.answer = answer
    return reply


def _addressed(service: Service, request: Request) -> AnyServedModel:
    """The model in the address, and the version if that names one; else the default one."""
    model = service.pool.find(request.path_params.get("model", ""))
    version = request.path_params.get("version", model.version)
    if version != model.version:
        raise RequestRefused(
            "model", f"{model.name} has no version {version[:40]!r}.", f"It is served as version {model.version}."
        )
    return model


def _record(service: Service, operation: Operation[Any], exchange: Exchange, status: int, seconds: float) -> None:
    """Count a request, and log it if there is a log."""
    question, answer = exchange.question, exchange.answer
    n_texts = 0 if question is None else len(question.texts)
    if answer is None:
        service.metrics.failed(exchange.reason)
    else:
        service.metrics.answered(answer, n_texts, seconds)
    if service.log is None:
        return
    about = LoggedRequest(utc_now(), operation.path, status, texts=n_texts, milliseconds=round(1000 * seconds, 3))
    if answer is not None:
        tokens = int(answer.computed.tokens.sum())
        about = replace(about, model=answer.model.name, version=answer.model.version, tokens=tokens)
    service.log.add(about, () if question is None else question.texts, answer)


def _facts(service: Service, protocol: ServingProtocol, fact: Fact) -> Endpoint:
    """The endpoint of a fact."""

    async def endpoint(request: Request) -> Response:
        try:
            if not fact.public:
                service.access.check(request.headers)
            named = "model" in request.path_params
            model = _addressed(service, request) if named or service.pool.loaded else None
            return _response(fact.render(service.situation(), model))
        except PotstillError as error:
            return _response(protocol.refuse(as_refusal(error)))

    return endpoint


def _with_headers(reply: RenderedReply, headers: Mapping[str, str]) -> RenderedReply:
    return RenderedReply(reply.body, reply.status, reply.media_type, {**reply.headers, **headers})


def _response(reply: RenderedReply) -> Response:
    from starlette.responses import Response

    headers = {**SECURITY_HEADERS, **reply.headers}
    if reply.status == 401:
        headers["www-authenticate"] = "Bearer"
    if reply.status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    return Response(reply.body, reply.status, headers, reply.media_type)


def report_bug(error: Exception) -> None:
    """Write where an unexpected error came from to standard error; its message may hold a text and is left out."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    print(f"potstill serve: {type(error).__name__}\n{''.join(frames)}", end="", file=sys.stderr, flush=True)
