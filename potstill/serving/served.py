"""A bundle of either kind as a served model: labels or entities, by what the folder holds."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.load import finds_entities
from potstill.serving.entity_model import EntityModelAnswer, ServedEntityModel
from potstill.serving.model import ModelAnswer, ServedModel

AnyServedModel = ServedModel | ServedEntityModel
AnyAnswer = ModelAnswer | EntityModelAnswer


def load_served(name: str, folder: Path, threads: int | None = None) -> AnyServedModel:
    """Load and warm a bundle.

    Raises:
        RunNotFound: there is no bundle, it is damaged, or a newer potstill made it.
    """
    kind: type[ServedModel] | type[ServedEntityModel] = ServedEntityModel if finds_entities(folder) else ServedModel
    return kind.load(name, folder, threads)
