"""Registries: names resolved late, with the nearest one offered; and the one reader of options."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from potstill import registry
from potstill.errors import BadSpec, UnknownName
from potstill.registry import InvalidOption, NoOptions, Options, Registry, read_options


def test_nothing_is_imported_before_a_name_is_resolved():
    dishes = Registry("dish", {"soup": "json:dumps", "ghost": "no_such_module:thing"})
    assert list(dishes) == ["ghost", "soup"]
    assert dishes.resolve("soup")({}) == "{}"


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UnknownName, match="no dish called 'sop'") as refused:
        Registry("dish", {"soup": "json:dumps"}).resolve("sop")
    assert "'soup'" in refused.value.hint


@pytest.mark.parametrize("entry", ["no_such_module:thing", "json:no_such_thing"])
def test_an_entry_that_leads_nowhere_says_so(entry):
    with pytest.raises(BadSpec, match="does not exist"):
        Registry("dish", {"ghost": entry}).resolve("ghost")


def test_others_join_by_entry_point_but_cannot_replace_what_ships(monkeypatch):
    points = [EntryPoint("stew", "json:loads", "potstill.dishs"), EntryPoint("soup", "json:loads", "potstill.dishs")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "potstill.dishs" else [])
    dishes = Registry("dish", {"soup": "json:dumps"})
    assert dishes.resolve("stew")("[]") == []
    assert dishes.resolve("soup")([]) == "[]"


class Inner(Options):
    rounds: int = Field(default=1, ge=0)


class Outer(Options):
    temperature: Literal["fitted"] | Annotated[float, Field(gt=0)] = "fitted"
    write: Inner | None = Inner()
    shares: Annotated[tuple[Annotated[float, Field(ge=0.1, lt=1)], ...], Field(min_length=1)] = (0.5,)
    tables: dict[str, Inner] = Field(default_factory=dict)
    file: str

    @field_validator("file")
    @classmethod
    def _exists(cls, file: str) -> str:
        if not file:
            raise InvalidOption("it is empty", "Name a file.")
        if file == "-":
            raise ValueError("It is no file")
        return file


def read(**given):
    return read_options(Outer, "procedure 'soup'", given)


def test_options_are_read_with_their_nested_tables():
    assert read(file="a", write={"rounds": 2}) == Outer(file="a", write=Inner(rounds=2))


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"file": "a", "temprature": 2}, "The procedure 'soup' has no option 'temprature'.", "'temperature'"),
        (
            {"file": "a", "spend": 2},
            "has no option 'spend'.",
            "The options are: temperature, write, shares, tables, file.",
        ),
        ({"file": "a", "write": {"round": 2}}, "has no option 'write.round'.", "'rounds'"),
        ({}, "The procedure 'soup' needs the option 'file'.", "file = ... under [procedure]."),
        (
            {"file": "a", "write": {"rounds": -1}},
            "cannot take write.rounds = -1.",
            "Give a whole number of at least 0.",
        ),
        ({"file": "a", "temperature": "hot"}, 'cannot take temperature = "hot".', "Give 'fitted' or a number above 0."),
        (
            {"file": "a", "temperature": "fittd"},
            'take temperature = "fittd".',
            "Did you mean 'fitted'? Give 'fitted' or",
        ),
        ({"file": "a", "temperature": float("nan")}, "cannot take temperature = NaN.", "or a number above 0."),
        ({"file": "a", "shares": [0.5, 1]}, "cannot take shares = 1.", "Give a number of at least 0.1 and below 1."),
        ({"file": "a", "shares": []}, "cannot take shares = [].", "Give a list with at least 1 of them."),
        ({"file": "a", "shares": 3}, "cannot take shares = 3.", "Give a list in brackets."),
        (
            {"file": "a", "tables": {"file": {"rounds": "x"}}},
            'take tables.file.rounds = "x".',
            "Give a whole number of",
        ),
        ({"file": ""}, 'cannot take file = "": it is empty.', "Name a file."),
        ({"file": "-"}, 'cannot take file = "-": it is no file.', "Correct the value of 'file'."),
    ],
)
def test_a_wrong_option_is_one_sentence_with_a_hint(given, message, hint):
    with pytest.raises(BadSpec) as refused:
        read(**given)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_a_kind_without_options_says_so():
    with pytest.raises(BadSpec, match="It takes none"):
        read_options(NoOptions, "procedure 'soup'", {"spoons": 2})
