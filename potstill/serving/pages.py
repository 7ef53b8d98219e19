"""The pages of a server for people: try a text, and the list of all addresses. They hold nothing of the models.

Both are sent without a key. The first one asks with the key that is typed into it.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from potstill import __version__
from potstill.annotation.web.app import POLICY
from potstill.reports.environment import jinja_environment
from potstill.serving.openapi import Json, openapi_document

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from potstill.serving.service import Service


def page_routes(service: Service) -> list[Route]:
    """`/docs`, `/openapi.json`, `/recent` and `/metrics`."""
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
    from starlette.routing import Route

    key = bool(service.access.keys)
    document = openapi_document(service.protocols, __version__, key=key)

    async def docs(_: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        groups = [
            {"name": tag["name"], "rows": [row for row in _rows(document) if row["tag"] == tag["name"]]}
            for tag in document["tags"]
        ]
        html = jinja_environment().get_template("serve_docs.html.j2").render(nonce=nonce, groups=groups, key=key)
        return HTMLResponse(html, headers=page_headers(nonce))

    async def openapi(_: Request) -> Response:
        return JSONResponse(document)

    async def recent(request: Request) -> Response:
        service.access.check(request.headers)
        if service.log is None or not service.log.texts:
            return JSONResponse({"logged": False, "texts": []})
        return JSONResponse({"logged": True, "texts": [asdict(each) for each in service.log.recent]})

    async def metrics(request: Request) -> Response:
        service.access.check(request.headers)
        return PlainTextResponse(service.metrics.render(service.pool), media_type="text/plain; version=0.0.4")

    return [
        Route("/docs", docs),
        Route("/openapi.json", openapi),
        Route("/api-doc/openapi.json", openapi),
        Route("/recent", recent),
        Route("/metrics", metrics),
    ]


def front_page(service: Service) -> Response:
    """The page to try a text on."""
    from starlette.responses import HTMLResponse

    nonce = secrets.token_urlsafe(16)
    template = jinja_environment().get_template("serve.html.j2")
    html = template.render(nonce=nonce, key=bool(service.access.keys))
    return HTMLResponse(html, headers=page_headers(nonce))


def page_headers(nonce: str) -> dict[str, str]:
    """What a page may do: run its own script, ask its own server, stand in no frame."""
    return {
        "content-security-policy": POLICY.format(nonce),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }


def _rows(document: Json) -> list[Json]:
    """Method, address, summary, tag, body and example of each operation of a document."""
    rows = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            body = next((each["schema"]["$ref"].rpartition("/")[2] for each in content.values()), "")
            answered = operation["responses"]["200"].get("content", {})
            rows.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation["summary"],
                    "tag": operation["tags"][0],
                    "schema": document["components"]["schemas"].get(body),
                    "example": next((each["example"] for each in answered.values()), None),
                }
            )
    return rows
