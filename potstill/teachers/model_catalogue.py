"""Asks a server for its catalogue of models. No text is sent and nothing is billed.

It is never an error that a server cannot be asked: the record says so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from potstill.data.printable import escape_controls
from potstill.errors import TeacherError
from potstill.teachers.model_status import ModelLife, ModelStatus
from potstill.teachers.rate_limit import NotFound, RequestError
from potstill.teachers.response_parsing import UNREADABLE
from potstill.teachers.sdk_adapter import SdkClient

MAX_NAMES, MAX_NAME = 3, 80  # of other models, in a sentence


# The model's place in a catalogue, and the names of other models in it.
Found = tuple[ModelLife | None, tuple[str, ...]]


def ask_model_status(client: SdkClient, model: str, path: str, read: Callable[[Any, str], Found]) -> ModelStatus:
    """What a server's catalogue says about a model.

    Args:
        client: the server.
        model: the model's name.
        path: where the catalogue, or the model's entry, is.
        read: finds the model in the reply's JSON; may raise one of `UNREADABLE`.
    """
    if not client.may_ask:
        return ModelStatus(model, client.host, problem=f"{client.variable} is not set")
    try:
        life, others = read(client.get(path), model)
    except NotFound:
        return ModelStatus(model, client.host)
    except RequestError as error:
        return ModelStatus(model, client.host, problem=error.reason.rstrip("."))
    except TeacherError as error:
        return ModelStatus(model, client.host, problem=error.message.rstrip("."))
    except UNREADABLE:
        return ModelStatus(model, client.host, problem="what it shows of its models cannot be read")
    return ModelStatus(
        model, client.host, life, others=tuple(escape_controls(name)[:MAX_NAME] for name in others[:MAX_NAMES])
    )


def read_list(listed: Any, model: str) -> Found:
    """From a list of models as OpenAI has it; `shutdown_date` is OpenAI's own field."""
    found = {str(entry["id"]): entry for entry in listed["data"]}
    if model not in found:
        return None, tuple(found)
    return ModelLife(_day(found[model].get("shutdown_date"))), ()


def read_entry(entry: Any, model: str) -> Found:
    """From an entry as Anthropic has it: its `lifecycle`, and when it `retires_at`."""
    return ModelLife(_day(entry.get("retires_at")), entry.get("lifecycle") == "retired"), ()


def _day(value: object) -> date | None:
    """The day of an ISO date or time; None without one. Raises ValueError for anything else."""
    return date.fromisoformat(str(value)[:10]) if value else None
