"""The annotation page as a starlette app: one page and four JSON routes over `annotation/session.py`.

A GET changes nothing: the next text is reserved for one annotator for a while, so asking for it is a POST, too. A label
is on the disk before its response is sent. All text reaches the page as JSON and is set as text, never as HTML.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, StrictStr, ValidationError

from potstill.annotation.session import MAX_SECONDS, AnnotationSession
from potstill.data.form_annotations import MAX_ANSWER_CHARACTERS
from potstill.data.task import Task
from potstill.errors import BadInput, PotstillError, missing_extra
from potstill.reports.environment import jinja_environment

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Reply = dict[str, Any]  # a JSON object for the page


def _finite_seconds(value: object) -> float:
    """A measured time of at most `MAX_SECONDS`; 0 for everything that is not a number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value < float("inf"):
        return 0.0
    return float(min(max(value, 0), MAX_SECONDS))  # before it becomes a float, which 10**400 cannot


def _whole_characters(value: str) -> str:
    """The string, if it can be stored as UTF-8: JSON can write half a character, a lone surrogate."""
    value.encode()
    return value


Text = Annotated[StrictStr, AfterValidator(_whole_characters)]


class NextBody(BaseModel):
    """The body of POST /next."""

    annotator: Text

    def apply(self, session: AnnotationSession) -> Reply:
        """The annotator's next text, which is reserved, and the progress."""
        return asdict(session.state(self.annotator))


class LabelBody(BaseModel):
    """The body of POST /label: a label, or an answer as `FormAnnotations.read` reads it; null for unsure."""

    annotator: Text
    id: Text
    label: Text | None = None
    seconds: Annotated[float, BeforeValidator(_finite_seconds)] = 0.0

    def apply(self, session: AnnotationSession) -> Reply:
        """Store the label."""
        outcome = session.label(self.annotator, self.id, self.label, self.seconds)
        return {"outcome": outcome, **asdict(session.state(self.annotator))}


class SkipBody(BaseModel):
    """The body of POST /skip."""

    annotator: Text
    id: Text

    def apply(self, session: AnnotationSession) -> Reply:
        """Show the text again after all others."""
        session.skip(self.annotator, self.id)
        return asdict(session.state(self.annotator))


class UndoBody(BaseModel):
    """The body of POST /undo; the id is that of the text whose label is to be undone."""

    annotator: Text
    id: Text

    def apply(self, session: AnnotationSession) -> Reply:
        """Undo the annotator's newest label and show its text again."""
        undone = session.undo(self.annotator, self.id)
        state = session.state(self.annotator)
        if undone is None:
            return {"undone": None, **asdict(state)}
        return {**asdict(state), "undone": undone.label, "text": asdict(undone.text)}


def create_app(session: AnnotationSession) -> ASGIApp:
    """The app for one run's labels.

    Raises:
        MissingExtra: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import HTMLResponse, JSONResponse
        from starlette.routing import Route
    except ModuleNotFoundError as error:
        raise missing_extra("starlette", "web", "The annotation page") from error

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        template = jinja_environment().get_template("annotate.html.j2")
        html = template.render(nonce=nonce, title=session.task.name, task=_task_view(session.task))
        return HTMLResponse(html, headers={"content-security-policy": POLICY.format(nonce)})

    def post(body_type: type[NextBody | LabelBody | SkipBody | UndoBody]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                body = body_type.model_validate_json(await request.body())
            except ValidationError as error:
                return JSONResponse({"error": _validation_message(error)}, status_code=400)
            return await respond(partial(body.apply, session))

        return endpoint

    async def respond(compute: Callable[[], Reply]) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(compute))
        except PotstillError as error:  # a full disk is no fault of the request: the page repeats it
            return JSONResponse({"error": str(error)}, status_code=400 if isinstance(error, BadInput) else 503)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/next", post(NextBody), methods=["POST"]),
            Route("/label", post(LabelBody), methods=["POST"]),
            Route("/skip", post(SkipBody), methods=["POST"]),
            Route("/undo", post(UndoBody), methods=["POST"]),
        ]
    )


def _validation_message(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}. Load the page again." if field else "The request is not a JSON object."


@dataclass(frozen=True)
class LabelView:
    """A label as the page lists it."""

    name: str
    description: str


@dataclass(frozen=True)
class TaskView:
    """The task as the page shows it: `form` is "labels", or that of the answers, whose types are the labels."""

    instruction: str
    labels: tuple[LabelView, ...]
    form: str
    max_characters: int = MAX_ANSWER_CHARACTERS


def _task_view(task: Task) -> Reply:
    labels = tuple(LabelView(label, task.descriptions.get(label, "")) for label in task.labels)
    return asdict(TaskView(task.instruction, labels, task.form or "labels"))
