"""Registries: names resolved late, with the nearest one offered; and the one reader of options."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Annotated, Literal

import pytest
from pydantic import Field

from potstill import registry
from potstill.errors import BadSpec, UnknownName
from potstill.registry import NoOptions, Options, Registry, read_options


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
    write: Inner = Inner()
    file: str


def read(**given):
    return read_options(Outer, "procedure 'soup'", given)


def test_options_are_read_with_their_nested_tables():
    assert read(file="a", write={"rounds": 2}) == Outer(file="a", write=Inner(rounds=2))


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"file": "a", "temprature": 2}, "The procedure 'soup' has no option 'temprature'.", "'temperature'"),
        ({"file": "a", "spend": 2}, "has no option 'spend'.", "The options are: temperature, write, file."),
        ({"file": "a", "write": {"round": 2}}, "has no option 'write.round'.", "'rounds'"),
        ({}, "The procedure 'soup' needs the option 'file'.", "file = ... under [procedure]."),
        ({"file": "a", "write": {"rounds": -1}}, "cannot take write.rounds = -1: input should be", "'write.rounds'"),
        ({"file": "a", "temperature": "hot"}, 'cannot take temperature = "hot": ', "'temperature'"),
        ({"file": "a", "temperature": float("nan")}, "cannot take temperature = NaN: ", "'temperature'"),
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
