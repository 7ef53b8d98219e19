"""Registries of kinds (name -> "module:attribute") and the one reader of a kind's options.

A kind is imported when its name is resolved, not before. Other packages add kinds through entry points.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from potstill.errors import BadSpec, did_you_mean, unknown_name

MAX_SHOWN_VALUE = 80  # characters of a rejected value that an error message repeats


class Options(BaseModel):
    """Base of every kind's options: frozen, finite numbers only, no keys but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


OptionsT = TypeVar("OptionsT", bound=Options)


class NoOptions(Options):
    """The options of a kind that has none."""


def read_options(model: type[OptionsT], what: str, given: Mapping[str, object]) -> OptionsT:
    """Validate the options of a kind.

    Args:
        model: the kind's options.
        what: the kind as an error names it: "teacher 'local'", "procedure 'kd'", "student 'encoder'".
        given: option -> value, as in the spec.

    Raises:
        BadSpec: an unknown option (the hint names the nearest, and all), a missing one, or an invalid value.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        owner, name = _locate(model, first["loc"])
        table = what.partition(" ")[0]
        if first["type"] == "extra_forbidden":
            unknown = str(first["loc"][-1])
            listed = f"The options are: {', '.join(owner.model_fields)}." if owner.model_fields else "It takes none."
            near = did_you_mean(unknown, owner.model_fields, otherwise="")
            raise BadSpec(f"The {what} has no option {name!r}.", f"{near} {listed}".strip()) from None
        if first["type"] == "missing":
            raise BadSpec(
                f"The {what} needs the option {name!r}.", f"Set it in a potstill.toml: {name} = ... under [{table}]."
            ) from None
        value = json.dumps(first.get("input"), default=str)[:MAX_SHOWN_VALUE]
        reason = first["msg"][:1].lower() + first["msg"][1:]
        raise BadSpec(
            f"The {what} cannot take {name} = {value}: {reason}.", f"Correct the value of {name!r}."
        ) from None


def _locate(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The (nested) model that a pydantic error points into, and the dotted name of the option.

    What follows the last option name in `location` (members of a union, positions in a list) is left out.
    """
    names: list[str] = []
    for part in location:
        names.append(str(part))
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return model, ".".join(names)


class Registry(Mapping[str, str]):
    """The kinds of one sort, by name.

    Args:
        what: the sort, as an error names it ("teacher").
        kinds: name -> "module:attribute" of the kinds that ship with potstill.

    A package adds a kind by an entry point in the group `potstill.<what>s`. A name that ships with potstill
    cannot be replaced from outside: a plug-in must not be able to change what `encoder` means.
    """

    def __init__(self, what: str, kinds: Mapping[str, str]) -> None:
        self.kind = what
        self._shipped = dict(kinds)

    @cached_property
    def _all(self) -> dict[str, str]:
        plugins = {point.name: point.value for point in entry_points(group=f"potstill.{self.kind}s")}
        return plugins | self._shipped

    def resolve(self, name: str) -> Any:
        """Import the kind called `name` and return it.

        Raises:
            UnknownName: no kind has this name; the hint names the nearest.
            BadSpec: the registered "module:attribute" does not exist.
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
                f"The {self.kind} {name!r} is registered as {self._all[name]!r}, which does not exist.",
                "Reinstall or remove the package that registers it.",
            ) from error

    def __getitem__(self, name: str) -> str:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all))

    def __len__(self) -> int:
        return len(self._all)
