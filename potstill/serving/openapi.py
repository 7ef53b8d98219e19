"""The OpenAPI 3.1 document of a server, from the tables of its protocols and pydantic's schemas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from potstill.serving.protocols.base import ServingProtocol
from potstill.serving.refusals import STATUS

Json = dict[str, Any]  # a JSON object that is being built
SCHEMA = "#/components/schemas/{model}"
REFUSED = "Refused; the body says why, in the protocol's shape. The status is one of: " + ", ".join(
    map(str, sorted(set(STATUS.values())))
)


def openapi_document(protocols: Sequence[ServingProtocol], version: str, *, key: bool) -> Json:
    """The document.

    Args:
        protocols: whose routes are described.
        version: of potstill.
        key: whether the server asks for one.
    """
    bodies = {operation.request for protocol in protocols for operation in protocol.operations}
    ordered = sorted(bodies, key=lambda body: body.__name__)
    _, schemas = models_json_schema([(body, "validation") for body in ordered], ref_template=SCHEMA)
    paths: dict[str, Json] = {}
    for protocol in protocols:
        for operation in protocol.operations:
            body = {"schema": {"$ref": SCHEMA.format(model=operation.request.__name__)}}
            paths.setdefault(operation.path, {})["post"] = {
                **_described(protocol.name, operation.summary, operation.path, operation.response, key=key),
                "requestBody": {"required": True, "content": {"application/json": body}},
            }
        for fact in protocol.facts:
            paths.setdefault(fact.path, {})["get"] = _described(
                protocol.name, fact.summary, fact.path, None, key=key and not fact.public
            )
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "potstill serve", "version": version},
        "tags": [{"name": protocol.name} for protocol in protocols],
        "paths": paths,
        "components": {"schemas": schemas.get("$defs", {})},
    }
    if key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _described(tag: str, summary: str, path: str, example: Any, *, key: bool) -> Json:
    answered: Json = {"description": "Answered."}
    if example is not None:
        answered["content"] = {"application/json": {"schema": {}, "example": example}}
    names = re.findall(r"{(\w+)}", path)
    described: Json = {
        "tags": [tag],
        "summary": summary,
        "responses": {"200": answered, "default": {"description": REFUSED}},
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names],
    }
    return {**described, "security": [{"key": []}]} if key else described
