"""A bundle of either kind as a served model: labels or entities, by what the folder holds."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.load import form_of
from potstill.errors import BadSpec
from potstill.serving.entity_model import EntityModelAnswer, ServedEntityModel
from potstill.serving.model import ModelAnswer, ServedModel

AnyServedModel = ServedModel | ServedEntityModel
AnyAnswer = ModelAnswer | EntityModelAnswer


def load_served(name: str, folder: Path, threads: int | None = None) -> AnyServedModel:
    """Load and warm a bundle.

    Raises:
        RunNotFound: there is no bundle, it is damaged, or a newer potstill made it.
        BadSpec: it answers in words.
    """
    form = form_of(folder)
    if form == "free":
        raise BadSpec(
            f"{folder} answers in words, and a server gives only labels and entities so far.",
            "Take potstill predict, or potstill.load(...).predict(texts).",
        )
    kind: type[ServedModel] | type[ServedEntityModel] = ServedModel if form is None else ServedEntityModel
    return kind.load(name, folder, threads)
