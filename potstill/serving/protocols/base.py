"""What every protocol is made of: operations that parse a request and render its answer, and one way to render errors.

Independent of HTTP libraries; the same table of operations gives the routes and the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from potstill.bundle.bundle import Text
from potstill.bundle.forms import GIVES
from potstill.data.task import OutputForm
from potstill.errors import PotstillError, RequestRefused
from potstill.serving.limits import ServingLimits
from potstill.serving.model import ModelAnswer
from potstill.serving.refusals import STATUS, invalid
from potstill.serving.served import AnyServedModel

JSON = "application/json"
OptionsT = TypeVar("OptionsT")
BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass(frozen=True)
class Incoming:
    """A request as a protocol sees it.

    Attributes:
        body: all of it.
        headers: by lower-case name.
        model: the name in the address; "" for the default one.
        takes_pairs: whether that model compares two texts.
        text_columns: the columns of the table it was trained on; empty if unknown.
    """

    body: bytes
    headers: Mapping[str, str]
    model: str
    takes_pairs: bool
    text_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question(Generic[OptionsT]):
    """The texts of a request.

    Attributes:
        texts: texts, or pairs of texts.
        options: what the protocol needs to render the answer.
        model: its name; "" for the default one.
        truncate: False if a text that is not read as a whole is an error.
        embedding: whether embeddings are asked for.
    """

    texts: Sequence[Text]
    options: OptionsT
    model: str = ""
    truncate: bool = True
    embedding: bool = False


@dataclass(frozen=True)
class RenderedReply:
    """A response: its body, status, content type and further headers."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Situation:
    """What a route about the server itself may look at: its models, whether it is ready, its limits, its version."""

    models: Sequence[AnyServedModel]
    default: str
    ready: bool
    limits: ServingLimits
    version: str


@dataclass(frozen=True)
class Operation(Generic[OptionsT]):
    """A route that answers texts.

    Attributes:
        path: of the default model, or with `{model}` of a named one.
        summary: one line of the documentation.
        parse: a request -> its texts.
        render: its answer -> the response.
        forms: the same of models of text-to-text tasks, by form; those that the protocol has no place for are missing.
        request: the body, for the documentation.
        response: an example of the response's body, for the documentation.
        accepts: the content types that are read; empty for any.
    """

    path: str
    summary: str
    parse: Callable[[Incoming], Question[OptionsT]]
    render: Callable[[Question[OptionsT], ModelAnswer], RenderedReply]
    request: type[BaseModel]
    response: Any
    accepts: tuple[str, ...] = (JSON,)
    forms: Mapping[OutputForm, Callable[[Question[OptionsT], Any], RenderedReply]] = field(default_factory=dict)

    def renderer(self, model: AnyServedModel) -> Callable[[Question[OptionsT], Any], RenderedReply]:
        """What renders the answers of a model.

        Raises:
            RequestRefused: it gives no labels, and the protocol has no place for what it gives.
        """
        if model.form is None:
            return self.render
        if model.form not in self.forms:
            raise RequestRefused(
                "task",
                f"{model.name} {GIVES[model.form]}, which {self.path} cannot give.",
                "POST /label, or the bare address.",
            )
        return self.forms[model.form]


@dataclass(frozen=True)
class Fact:
    """A route about the server or a model, without texts.

    Attributes:
        path: perhaps with `{model}`.
        summary: one line of the documentation.
        render: the situation and the model in the address, or the default one if it is loaded -> the response.
        public: whether no key is asked for, as by probes.
    """

    path: str
    summary: str
    render: Callable[[Situation, AnyServedModel | None], RenderedReply]
    public: bool = False


@dataclass(frozen=True)
class ServingProtocol:
    """A protocol: its name in the documentation, how its addresses begin, its routes, and the shape of its errors."""

    name: str
    prefixes: tuple[str, ...]
    operations: tuple[Operation[Any], ...]
    facts: tuple[Fact, ...]
    refuse: Callable[[RequestRefused], RenderedReply]


def parse_body(kind: type[BodyT], body: bytes) -> BodyT:
    """The body of a request.

    Raises:
        RequestRefused: it is not JSON, or of another shape.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> RenderedReply:
    """A response of JSON values."""
    return RenderedReply(to_json(value), status, headers=headers or {})


def status_of(refusal: RequestRefused) -> int:
    """The HTTP status of a refusal."""
    return STATUS[refusal.reason]


def as_refusal(error: PotstillError) -> RequestRefused:
    """An error of potstill as a refusal: what the caller asked cannot be had of this model."""
    return error if isinstance(error, RequestRefused) else RequestRefused("task", error.message, error.hint)
