"""The planned cost of PGKD by its options; the replay teacher is a simulation whose prices are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.csv_tables import write_tickets

from potstill import api


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    write_tickets(tmp_path / "tickets.csv")
    known = [f"the words of card text number {i},card" for i in range(30)]
    known += [f"the words of transfer text number {i},transfer" for i in range(30)]
    (tmp_path / "known.csv").write_text("\n".join(["text,label", *known]), encoding="utf-8")
    return tmp_path / "potstill.toml"


def planned(spec: Path, **options: Any) -> Any:
    lines = [f"{key} = {value!r}".replace("'", '"').replace("True", "true") for key, value in options.items()]
    spec.write_text(
        'budget = 5\nstudent = "linear"\n[data]\nfile = "tickets.csv"\n'
        '[teacher]\nname = "replay"\nfile = "known.csv"\ngenerate_from = "known.csv"\nusd_per_million_tokens = 100.0\n'
        '[procedure]\nname = "pgkd"\n' + "\n".join(lines),
        encoding="utf-8",
    )
    return api.plan(spec).teacher


def test_relabelling_of_generated_texts_is_in_the_price(spec: Path) -> None:
    plain, agree, soft = planned(spec), planned(spec, agree="teacher"), planned(spec, soft_labels=True)
    assert plain.extra_calls == ""
    assert agree.high_usd > plain.high_usd
    assert agree.low_usd > plain.low_usd
    assert "160 to 320 texts besides (what it generated)" in agree.extra_calls
    assert "in the price" in agree.to_text()
    assert soft.high_usd == agree.high_usd
    # Both need the same answers about the same texts, which are paid once.
    assert planned(spec, agree="teacher", soft_labels=True).high_usd == agree.high_usd


def test_confirmation_by_the_student_costs_nothing_more(spec: Path) -> None:
    assert planned(spec, agree="student").high_usd == planned(spec).high_usd


def test_rounds_that_label_replace_rounds_that_generate(spec: Path) -> None:
    turns = planned(spec, query_strategy="margin", source_schedule="alternate")
    assert "asked about 160 texts besides (texts of the pool)" in turns.extra_calls
    by_gain = planned(spec, query_strategy="margin")
    assert "96 to 224 texts" in by_gain.extra_calls
    assert by_gain.low_usd <= turns.low_usd <= turns.high_usd <= by_gain.high_usd


def test_no_more_texts_are_labelled_than_there_are(spec: Path) -> None:
    plan = planned(spec, query_strategy="margin", source_schedule="alternate", texts_per_round=200)
    assert "asked about 400 texts" in plan.extra_calls


def test_no_round_costs_nothing(spec: Path) -> None:
    plan = planned(spec, rounds=0)
    assert plan.high_usd == 0
    assert plan.n_texts == 0
