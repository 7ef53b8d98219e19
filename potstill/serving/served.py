"""A bundle of any task as a served model: labels, entities or answers in words, by what the folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from potstill.bundle.load import form_of
from potstill.data.task import OutputForm
from potstill.serving.entity_model import EntityModelAnswer, ServedEntityModel
from potstill.serving.free_text_model import FreeTextModelAnswer, ServedFreeTextModel
from potstill.serving.model import ModelAnswer, ServedModel

AnyServedModel = ServedModel | ServedEntityModel | ServedFreeTextModel
AnyAnswer = ModelAnswer | EntityModelAnswer | FreeTextModelAnswer
KINDS: Mapping[OutputForm | None, type[AnyServedModel]] = {
    None: ServedModel,
    "entities": ServedEntityModel,
    "free": ServedFreeTextModel,
}


def load_served(name: str, folder: Path, threads: int | None = None) -> AnyServedModel:
    """Load and warm a bundle.

    Raises:
        RunNotFound: there is no bundle, it is damaged, or a newer potstill made it.
    """
    return KINDS[form_of(folder)].load(name, folder, threads)
