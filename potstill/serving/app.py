"""The served models as a starlette app: the routes of all protocols, made from their tables."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from potstill import __version__
from potstill.errors import PotstillError, RequestRefused, missing_extra
from potstill.serving.access import Access
from potstill.serving.exchange import CallerGone, answer_or_leave, check_media, read_body
from potstill.serving.pool import ModelPool
from potstill.serving.protocols.base import (
    Fact,
    Incoming,
    Operation,
    RenderedReply,
    ServingProtocol,
    Situation,
    as_refusal,
)
from potstill.serving.protocols.tei import TEI

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
Endpoint = Callable[["Request"], Awaitable["Response"]]


@dataclass(frozen=True)
class ServedProtocols:
    """The protocols of a server; the first one renders errors of addresses that none of them has."""

    protocols: tuple[ServingProtocol, ...] = (TEI,)

    def of_path(self, path: str) -> ServingProtocol:
        """The protocol whose routes begin like this path."""
        for protocol in self.protocols:
            if any(path.startswith(each) for each in protocol.prefixes):
                return protocol
        return self.protocols[0]


@dataclass(frozen=True)
class Service:
    """What the routes share.

    Attributes:
        pool: the models.
        access: who may ask.
        protocols: the protocols that are served.
    """

    pool: ModelPool
    access: Access = Access()  # noqa: RUF009 - frozen
    protocols: ServedProtocols = field(default_factory=ServedProtocols)

    def situation(self) -> Situation:
        """What routes about the server may look at."""
        return Situation(tuple(self.pool), self.pool.default, self.pool.ready, self.pool.limits, __version__)


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
        return _response(service.protocols.of_path(request.url.path).refuse(refusal))

    return Starlette(routes=_routes(service), exception_handlers={HTTPException: refuse_address})


def _routes(service: Service) -> list[Route]:
    from starlette.routing import Route

    routes = []
    for protocol in service.protocols.protocols:
        for operation in protocol.operations:
            routes.append(Route(operation.path, _answering(service, protocol, operation), methods=["POST"]))
        for fact in protocol.facts:
            routes.append(Route(fact.path, _telling(service, protocol, fact), methods=["GET"]))
    return routes


def _answering(service: Service, protocol: ServingProtocol, operation: Operation[Any]) -> Endpoint:
    """The endpoint of an operation."""

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        try:
            reply = await _answer(service, operation, request)
        except CallerGone:
            reply = RenderedReply(b"", 499)
        except PotstillError as error:
            reply = protocol.refuse(as_refusal(error))
            if isinstance(error, RequestRefused) and error.retry_after_s is not None:
                reply = _with_headers(reply, {"retry-after": str(error.retry_after_s)})
        except Exception as error:
            report_bug(error)
            reply = protocol.refuse(RequestRefused("bug", "The server failed; its log has the place."))
        elapsed = time.perf_counter() - started
        return _response(_with_headers(reply, {"x-total-time": str(round(1000 * elapsed))}))

    return endpoint


async def _answer(service: Service, operation: Operation[Any], request: Request) -> RenderedReply:
    headers = request.headers
    service.access.check(headers)
    check_media(headers, json_only=operation.json_only)
    body = await read_body(request.receive, headers, service.pool.limits)
    name = request.path_params.get("model", "")
    takes_pairs = service.pool.find(name).bundle.takes_pairs
    question = operation.parse(Incoming(body, headers, name, takes_pairs))
    batcher, ticket = service.pool.submit(question.model, question.texts, truncate=question.truncate)
    return operation.render(question, await answer_or_leave(request.receive, batcher, ticket))


def _telling(service: Service, protocol: ServingProtocol, fact: Fact) -> Endpoint:
    """The endpoint of a fact."""

    async def endpoint(request: Request) -> Response:
        try:
            if not fact.public:
                service.access.check(request.headers)
            name = request.path_params.get("model", "")
            model = service.pool.find(name) if name or service.pool.ready else None
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
