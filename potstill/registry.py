"""A menu: name -> 'module:attribute', resolved only when somebody orders. Third parties join through entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from potstill.errors import BadSpec, unknown_name


class Registry(Mapping[str, str]):
    """The kinds of one sort, by name.

    Args:
        what: the sort, as it reads in an error ("teacher").
        kinds: name -> "module:attribute" of the kinds that ship here.

    A package adds a kind by an entry point in the group `potstill.<what>s`. A name that ships here
    cannot be replaced from outside: a plug-in must not be able to change what `encoder` means.
    """

    def __init__(self, what: str, kinds: Mapping[str, str]) -> None:
        self.kind = what
        self._shipped = dict(kinds)

    @cached_property
    def _all(self) -> dict[str, str]:
        joined = {point.name: point.value for point in entry_points(group=f"potstill.{self.kind}s")}
        return joined | self._shipped

    def resolve(self, name: str) -> Any:
        """The kind called `name`, imported now.

        Raises:
            UnknownName: nothing here is called so; the message names the nearest.
            BadSpec: the entry does not lead to anything.
        """
        if name not in self._all:
            raise unknown_name(self.kind, name, self._all)
        module, _, attribute = self._all[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and not module.startswith(error.name or "\0"):
                raise
            raise BadSpec(
                f"The {self.kind} {name!r} leads to {self._all[name]!r}, which is not there.",
                "Reinstall or remove the package that offers it.",
            ) from error

    def __getitem__(self, name: str) -> str:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all))

    def __len__(self) -> int:
        return len(self._all)
