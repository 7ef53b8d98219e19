"""The served models as an ASGI app: the routes of all protocols, made from their tables, and the pages.

The addresses of the default model's operations are found in a dictionary; starlette routes all others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError, RequestRefused, missing_extra
from potstill.serving.endpoint import SECURITY_HEADERS, OperationEndpoint, addressed_model, status_headers
from potstill.serving.pages import front_page, page_routes
from potstill.serving.protocols.base import Fact, RenderedReply, ServingProtocol, as_refusal
from potstill.serving.protocols.tei import render_health
from potstill.serving.service import Service

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[["Request"], Awaitable["Response"]]


def create_app(service: Service) -> ASGIApp:
    """The app. Its server sets `potstill.call_if_lost` in the scope of each request (`server.ArrivalMarks`).

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

    operations = {
        operation.path: OperationEndpoint(service, protocol, operation)
        for protocol in service.protocols
        for operation in protocol.operations
    }
    handlers: Mapping[Any, Any] = {HTTPException: refuse_address, PotstillError: refuse}
    routed = Starlette(routes=_routes(service, operations), exception_handlers=handlers)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found = operations.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (routed if found is None else found)(scope, receive, send)

    return app


def _routes(service: Service, operations: Mapping[str, OperationEndpoint]) -> list[Route]:
    from starlette.routing import Route

    async def front(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return front_page(service)
        return _response(render_health(service.situation(), None))

    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in operations.items()]
    for protocol in service.protocols:
        for fact in protocol.facts:
            routes.append(Route(fact.path, _facts(service, protocol, fact), methods=["GET"]))
    return [*routes, Route("/", front, methods=["GET"]), *page_routes(service)]


def _facts(service: Service, protocol: ServingProtocol, fact: Fact) -> Endpoint:
    """The endpoint of a fact."""

    async def endpoint(request: Request) -> Response:
        try:
            if not fact.public:
                service.access.check(request.headers)
            named = "model" in request.path_params
            model = addressed_model(service, request.path_params) if named or service.pool.loaded else None
            return _response(fact.render(service.situation(), model))
        except PotstillError as error:
            return _response(protocol.refuse(as_refusal(error)))

    return endpoint


def _response(reply: RenderedReply) -> Response:
    from starlette.responses import Response

    headers = {**SECURITY_HEADERS, **reply.headers, **status_headers(reply.status)}
    return Response(reply.body, reply.status, headers, reply.media_type)
