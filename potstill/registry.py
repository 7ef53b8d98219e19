"""Registries of kinds (name -> "module:attribute"), the one reader of a kind's options, and what is wrong with options.

A kind is imported when its name is resolved, not before. Other packages add kinds through entry points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from potstill.errors import BadSpec, did_you_mean, unknown_name

MAX_SHOWN_VALUE = 80  # characters of a rejected value that an error message repeats
_CHOICE = re.compile(r"'([^']+)'")
# What a type of pydantic's errors is about ("int_parsing", "int_type") -> what to give instead.
_OF_TYPE = ("_type", "_parsing", "_parsing_size", "_from_float", "_number")
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "a text in quotes",
    "path": "the path of a file in quotes",
    "tuple": "a list in brackets",
    "list": "a list in brackets",
    "dict": "a table",
    "model": "a table",
}
_BOUNDS = {"gt": "above", "ge": "of at least", "le": "of at most", "lt": "below"}


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
        found = OptionError.of(model, error)
        table = what.partition(" ")[0]
        if found.is_unknown:
            listed = f"The options are: {', '.join(found.known)}." if found.known else "It takes none."
            near = did_you_mean(found.name.rpartition(".")[2], found.known, otherwise="")
            raise BadSpec(f"The {what} has no option {found.name!r}.", f"{near} {listed}".strip()) from None
        if found.is_missing:
            raise BadSpec(
                f"The {what} needs the option {found.name!r}.",
                f"Set it in a potstill.toml: {found.name} = ... under [{table}].",
            ) from None
        value = json.dumps(found.given, default=str)[:MAX_SHOWN_VALUE]
        raise BadSpec(f"The {what} cannot take {found.name} = {value}{found.reason}.", found.mend) from None


class InvalidOption(ValueError):
    """Raised by a validator of options: what is wrong, as a part of a sentence, and how to mend it."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.mend = mend


@dataclass(frozen=True)
class OptionError:
    """The first thing that is wrong with options.

    Attributes:
        name: dotted, of the option; "" if it is about all of them.
        given: its value.
        reason: ": " and why it cannot be taken, as far as the mend does not say it; else empty.
        mend: a sentence: the choices and the nearest of them, or the range.
        known: the options that there are beside it.
        is_unknown, is_missing: there is no such option, or it was not given.
    """

    name: str
    given: object
    reason: str
    mend: str
    known: tuple[str, ...]
    is_unknown: bool
    is_missing: bool

    @classmethod
    def of(cls, model: type[BaseModel], error: ValidationError) -> OptionError:
        """Read pydantic's errors about a value: those of each member of a union are one."""
        errors = error.errors()
        first = errors[0]
        owner, name, field = _locate(model, first["loc"])
        same = [each for each in errors if _locate(model, each["loc"])[1] == name]
        short = [each for each in same if each["type"] == "too_short"]  # is also said of a list with a wrong entry
        phrases = (_expected(each, field) for each in same if each not in short or len(short) == len(same))
        expected = dict.fromkeys(filter(None, phrases))
        reason, cause = "", first.get("ctx", {}).get("error")
        if expected:
            choices = [choice for phrase in expected for choice in _CHOICE.findall(phrase)]
            given = first["input"] if isinstance(first["input"], str) else ""
            near = did_you_mean(given, choices, otherwise="") if given else ""
            mend = f"{near} Give {' or '.join(expected)}.".strip()
        else:
            text = first["msg"].removeprefix("Value error, ")
            reason = f": {text[:1].lower()}{text[1:]}"
            mend = cause.mend if isinstance(cause, InvalidOption) else f"Correct the value of {name!r}."
        missing, unknown = first["type"] == "missing", first["type"] == "extra_forbidden"
        return cls(name, first.get("input"), reason, mend, tuple(owner.model_fields), unknown, missing)


def _locate(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[type[BaseModel], str, FieldInfo | None]:  # fmt: skip
    """The (nested) model that a pydantic error points into, the dotted name of the option, and the option.

    What follows the last name in `location` (members of a union, positions in a list) is left out.
    """
    names: list[str] = []
    field, is_key = None, False
    for part in location:
        names.append(str(part))
        if is_key:  # of a table of tables, or a position in a list of them
            is_key = False
            continue
        field = model.model_fields.get(str(part))
        inner = None if field is None else _model_in(field.annotation)
        if field is None or inner is None:
            break
        model, is_key = inner, get_origin(field.annotation) in (dict, list, tuple)
    return model, ".".join(names), field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `Model | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)


def _expected(error: ErrorDetails, field: FieldInfo | None) -> str:
    """What could be given instead, as a phrase after "Give"; empty if the error's own message has to say it."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "too_short":
        return f"a list with at least {context['min_length']:,} of them"
    what = _EXPECTED.get(kind.partition("_")[0], "") if kind.endswith(_OF_TYPE) else ""
    bounds = {name: value for name, value in context.items() if name in _BOUNDS}
    if not bounds and "number" not in what:
        return what
    annotation = None if field is None else field.annotation
    for each in [] if field is None else [*field.metadata, *_metadata(annotation)]:
        bounds = {name: value for name in _BOUNDS if (value := getattr(each, name, None)) is not None} | bounds
    what = what or ("a whole number" if int in _types(annotation) and float not in _types(annotation) else "a number")
    limits = [f"{words} {_number(bounds[name])}" for name, words in _BOUNDS.items() if name in bounds]
    return f"{what} {' and '.join(limits)}".strip()


def _metadata(annotation: Any) -> Iterator[Any]:
    """What stands beside a type in `Annotated`, at any depth."""
    for each in get_args(annotation):
        yield from getattr(each, "metadata", ())
        yield from getattr(each, "__metadata__", ())
        yield from _metadata(each)


def _types(annotation: Any) -> set[Any]:
    return {annotation}.union(*map(_types, get_args(annotation))) if get_origin(annotation) is not Literal else set()


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else str(value)


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
