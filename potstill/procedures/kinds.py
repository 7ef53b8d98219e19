"""The recipe of a name."""

from __future__ import annotations

from typing import Any

from potstill.procedures import REGISTRY
from potstill.procedures.base import ANY_TASK, AnyOptions, Recipe


def recipe_kind(name: str) -> Recipe[Any]:
    """The recipe called `name`.

    A plug-in may register a bare function `Run -> Student`. Its options are not checked, it may do any kind of task,
    and what it buys is unknown.

    Raises:
        UnknownName: no recipe has this name.
        BadSpec: what is registered under it does not exist.
    """
    found = REGISTRY.resolve(name)
    if isinstance(found, Recipe):
        return found
    return Recipe(name, found, AnyOptions, task_kinds=ANY_TASK)


def recipe_validates(name: str) -> bool:
    """Whether the recipe called `name` needs validation texts; raises what `recipe_kind` raises."""
    return recipe_kind(name).validates
