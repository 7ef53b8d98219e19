"""The scoring protocol of MLflow 3: `/invocations` with frames, instances or inputs in JSON, or a table as CSV.

TEI on SageMaker and MLflow both use the address `/invocations` and the key `inputs`, with other meanings; a flag of the
server says which is meant.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from potstill.bundle.bundle import Text
from potstill.errors import RequestRefused
from potstill.serving.exchange import media_type
from potstill.serving.model import ModelAnswer, as_text
from potstill.serving.protocols.base import (
    JSON,
    Fact,
    Incoming,
    Operation,
    Question,
    RenderedReply,
    ServingProtocol,
    Situation,
    json_reply,
    parse_body,
    status_of,
)
from potstill.serving.protocols.label import LabelQuery, Share, labelled_texts
from potstill.serving.refusals import wrong_shape
from potstill.serving.served import AnyServedModel

CSV = "text/csv"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
ERROR_CODES = {401: "UNAUTHENTICATED", 404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED"}


class SplitFrame(BaseModel):
    """A frame as columns and rows."""

    columns: list[str]
    data: list[list[Any]]


class InvocationParameters(BaseModel):
    """The parameters of a call, as those of `/label`."""

    precision: Share | None = None
    coverage: Share | None = None


class InvocationRequest(BaseModel):
    """The body of `/invocations`: one of the four forms."""

    dataframe_split: SplitFrame | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: Annotated[list[Any] | dict[str, Any] | None, Field(description="Texts, or columns of texts.")] = None
    inputs: Annotated[str | list[Any] | dict[str, Any] | None, Field(description="The same.")] = None
    params: InvocationParameters | None = None


def parse_invocation(incoming: Incoming) -> Question[LabelQuery]:
    """The texts of a frame's column, or of a list.

    Raises:
        RequestRefused: not JSON or CSV, another shape, none or several of the four forms, or no column of texts.
    """
    if media_type(incoming.headers) == CSV:
        texts = [_text(row, each, incoming) for row, each in enumerate(_csv_rows(incoming.body))]
        return Question(texts, LabelQuery(None, None), incoming.model)
    given = parse_body(InvocationRequest, incoming.body)
    forms = [form for form in FORMS if getattr(given, form) is not None]
    if len(forms) != 1:
        raise RequestRefused("shape", f"The body has {len(forms)} of {', '.join(FORMS)}; expected one.")
    rows = _rows(getattr(given, forms[0]))
    texts = [_text(row, each, incoming) for row, each in enumerate(rows)]
    parameters = given.params or InvocationParameters()
    return Question(texts, LabelQuery(parameters.precision, parameters.coverage), incoming.model)


def _csv_rows(body: bytes) -> list[dict[str, str]]:
    """The rows of a table with a header, as pandas reads it for MLflow: commas, quotes, UTF-8, no empty lines."""
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        rows = [row for row in lines if row]
    except UnicodeDecodeError:
        raise RequestRefused("shape", "The CSV is not UTF-8.") from None
    except csv.Error as error:
        raise RequestRefused("shape", f"The CSV cannot be read: {error}.") from None
    names = rows[0] if rows else []
    wrong = next((number for number, row in enumerate(rows) if len(row) != len(names)), None)
    if wrong is not None:
        raise RequestRefused("shape", f"Row {wrong} of the CSV has {len(rows[wrong])} cells, its header {len(names)}.")
    return [dict(zip(names, row, strict=True)) for row in rows[1:]]


def _rows(value: Any) -> Sequence[Any]:
    """Texts, arrays of cells, or objects."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, SplitFrame):
        if any(len(row) != len(value.columns) for row in value.data):
            raise RequestRefused("shape", "A row of dataframe_split has another length than its columns.")
        return [dict(zip(value.columns, row, strict=True)) for row in value.data]
    if isinstance(value, dict):
        columns = {name: cells if isinstance(cells, list) else [cells] for name, cells in value.items()}
        if len({len(cells) for cells in columns.values()}) > 1:
            raise RequestRefused("shape", "The columns are not equally long.")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return list(value)


def _text(row: int, value: Any, incoming: Incoming) -> Text:
    if isinstance(value, Mapping):
        value = [value[name] for name in _columns(value, incoming)]
    text = as_text(value)
    if text is None:
        raise wrong_shape(f"row {row}", "a text, or two for a pair", value)
    return text


def _columns(row: Mapping[str, Any], incoming: Incoming) -> Sequence[str]:
    """The columns that the model was trained on, or those that can be no others."""
    wanted = 2 if incoming.takes_pairs else 1
    usual = ("text", "text_pair")[:wanted]
    for names in (incoming.text_columns, usual):
        if names and set(names) <= row.keys():
            return names
    if len(row) == wanted:
        return tuple(row)
    named = " and ".join(map(repr, incoming.text_columns or usual))
    raise RequestRefused("shape", f"The frame has no {named}; it has {', '.join(map(repr, list(row)[:20]))}.")


def render_invocation(question: Question[LabelQuery], answer: ModelAnswer) -> RenderedReply:
    """A record a text with `label` and `score`, as MLflow's text classification pipelines give it, and more."""
    bundle = answer.model.bundle
    records = []
    for each in labelled_texts(answer, question.options):
        record: dict[str, Any] = {"label": each.label, "score": each.probability}
        if bundle.multilabel:
            record["labels"] = each.labels
        records.append({**record, "confident": each.confident, "in_scope": each.in_scope})
        if each.label_set is not None:
            records[-1]["label_set"] = each.label_set
    return json_reply({"predictions": records})


def render_version(situation: Situation, _: AnyServedModel | None) -> RenderedReply:
    """`/version`, in plain text."""
    return RenderedReply(situation.version.encode(), media_type="text/plain; charset=utf-8")


def refuse(refusal: RequestRefused) -> RenderedReply:
    """The shape of an error in MLflow."""
    status = status_of(refusal)
    fault = "INTERNAL_ERROR" if status >= 500 or status == 424 else "BAD_REQUEST"
    return json_reply({"error_code": ERROR_CODES.get(status, fault), "message": str(refusal)}, status)


EXAMPLE = {"predictions": [{"label": "billing", "score": 0.98, "confident": True, "in_scope": True}]}
SUMMARY = "Frames, instances or inputs, or a table as text/csv, as an MLflow model server reads them."
MLFLOW = ServingProtocol(
    "MLflow",
    ("/invocations", "/version"),
    tuple(
        Operation(path, SUMMARY, parse_invocation, render_invocation, InvocationRequest, EXAMPLE, accepts=(JSON, CSV))
        for path in ("/invocations", "/models/{model}/invocations")
    ),
    (Fact("/version", "The version of potstill.", render_version, public=True),),
    refuse,
)
