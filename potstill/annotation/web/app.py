"""The annotation page as an app: one page, and four questions it asks. What happens is up to `annotation/session.py`.

A label is on the disk before its reply is sent. Every piece of text reaches the page as JSON and is set as text.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from potstill.annotation import AnnotationSession
from potstill.annotation.web.guard import AsgiApp
from potstill.errors import BadInput, BadSpec, missing_extra
from potstill.reports.environment import jinja_environment

POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(desk: AnnotationSession) -> AsgiApp:
    """The app for one run's labels.

    Raises:
        MissingExtra: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, JSONResponse, Response
        from starlette.routing import Route
    except ModuleNotFoundError as error:
        raise missing_extra("starlette", "web", "The annotation page") from error

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        html = _template().render(nonce=nonce, title=desk.task.name, task=_task(desk))
        return HTMLResponse(html, headers={"content-security-policy": POLICY.format(nonce)})

    async def state(request: Request) -> Response:
        return await answer(partial(desk.state, request.query_params.get("annotator", "")))

    def asked(step: Callable[[AnnotationSession, Mapping[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def reply(request: Request) -> Response:
            try:
                body = json.loads(await request.body())
            except ValueError:
                body = None
            if not isinstance(body, dict):
                return JSONResponse({"error": "Not a JSON object."}, status_code=400)
            return await answer(partial(step, desk, body))

        return reply

    async def answer(step: Callable[[], dict[str, Any]]) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(step))
        except BadInput as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/state", state),
            Route("/label", asked(_label), methods=["POST"]),
            Route("/skip", asked(_skip), methods=["POST"]),
            Route("/undo", asked(_undo), methods=["POST"]),
        ]
    )


def _template() -> Any:
    return jinja_environment().get_template("annotate.html.j2")


def _task(desk: AnnotationSession) -> dict[str, Any]:
    task = desk.task
    labels = [{"name": label, "about": task.descriptions.get(label, "")} for label in task.labels]
    return {"name": task.name, "instruction": task.instruction, "labels": labels, "pair": task.kind == "pair"}


def _label(desk: AnnotationSession, body: Mapping[str, Any]) -> dict[str, Any]:
    seconds = body.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds < float("inf"):
        seconds = 0.0
    label = "" if body.get("label") is None else _word(body, "label")
    outcome = desk.label(_word(body, "annotator"), _word(body, "id"), label, float(seconds))
    return {"outcome": outcome, **desk.state(_word(body, "annotator"))}


def _skip(desk: AnnotationSession, body: Mapping[str, Any]) -> dict[str, Any]:
    desk.skip(_word(body, "annotator"), _word(body, "id"))
    return desk.state(_word(body, "annotator"))


def _undo(desk: AnnotationSession, body: Mapping[str, Any]) -> dict[str, Any]:
    undone = desk.undo(_word(body, "annotator"))
    state = desk.state(_word(body, "annotator"))
    if undone is None:
        return {"undone": None, **state}
    return {**state, "undone": undone["label"], "text": {"id": undone["id"], "parts": undone["parts"]}}


def _word(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BadSpec(f"{name!r} is missing.", "Load the page again.")
    return value
