"""A plug-in engine: one call after the other, whatever is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from potstill.engines.base import Item, Result


class OneByOne:
    """Runs each call when its result is wanted."""

    def __init__(self, reporter: Callable[[str], None] | None = None) -> None:
        with Path(os.environ["PLUGIN_LOG"]).open("a", encoding="utf-8") as log:
            log.write("engine opened\n")

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        parallel: int = 1,
        *,
        greenlet_safe: bool = False,
    ) -> Generator[Result]:
        """See `Engine.map`."""
        for item in items:
            yield function(item)
