"""A menu: names resolved late, with the nearest one offered."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from potstill import registry as menu
from potstill.errors import BadSpec, UnknownName
from potstill.registry import Registry


def test_nothing_is_imported_before_somebody_orders():
    dishes = Registry("dish", {"soup": "json:dumps", "ghost": "no_such_module:thing"})
    assert list(dishes) == ["ghost", "soup"]
    assert dishes.resolve("soup")({}) == "{}"


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UnknownName, match="no dish called 'sop'") as refused:
        Registry("dish", {"soup": "json:dumps"}).resolve("sop")
    assert "'soup'" in refused.value.hint


@pytest.mark.parametrize("entry", ["no_such_module:thing", "json:no_such_thing"])
def test_an_entry_that_leads_nowhere_says_so(entry):
    with pytest.raises(BadSpec, match="is not there"):
        Registry("dish", {"ghost": entry}).resolve("ghost")


def test_others_join_by_entry_point_but_cannot_replace_what_ships(monkeypatch):
    points = [EntryPoint("stew", "json:loads", "potstill.dishs"), EntryPoint("soup", "json:loads", "potstill.dishs")]
    monkeypatch.setattr(menu, "entry_points", lambda group: points if group == "potstill.dishs" else [])
    dishes = Registry("dish", {"soup": "json:dumps"})
    assert dishes.resolve("stew")("[]") == []
    assert dishes.resolve("soup")([]) == "[]"
