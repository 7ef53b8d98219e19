"""The engine of a name."""

from __future__ import annotations

from collections.abc import Callable

from potstill.engines import REGISTRY
from potstill.engines.base import Engine, OpenEngine


def open_engine(name: str, reporter: Callable[[str], None] | None = None) -> Engine:
    """Open the engine called `name`; `reporter` is given sentences for the user.

    Raises:
        UnknownName: no engine has this name.
        BadSpec: what is registered under it does not exist.
    """
    kind: OpenEngine = REGISTRY.resolve(name)
    return kind(reporter)
