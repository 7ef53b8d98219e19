"""`allocate` in text-to-text tasks: gold, sold by simulated people, beside a teacher's answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.pgkd_text2text import opened, write_toml, write_world
from support.toy_data import notes

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api import plan
from potstill.errors import BadData, BadSpec
from potstill.procedures.allocate.decisions import Decision
from potstill.procedures.allocate.form_sources import FormSources
from potstill.procedures.allocate.label_sources import AllocateOptions
from potstill.procedures.kinds import recipe_kind
from potstill.procedures.pgkd.form_tasks import EntityTask
from potstill.run.entity_verbs import entity_pool
from potstill.run.notes import Allocated
from potstill.run.run import Run

World = Callable[[str], Path]
RIGHT = 'name = "replay", file = "known.jsonl", usd_per_million_tokens = 1, accuracy = 1'
WRONG = RIGHT.replace("accuracy = 1", "accuracy = 0.05")
SOLD = 'annotator = { simulate_from = "pool" }, pilot_labels = 16, pilot_seeds = 1'


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {form: write_world(tmp_path_factory.mktemp(form), form) for form in ("entities", "free")}


@pytest.fixture
def world(worlds: dict[str, Path], tmp_path: Path) -> World:
    """A copy of a form's world."""

    def copied(form: str) -> Path:
        return shutil.copytree(worlds[form], tmp_path / form)

    return copied


def write(folder: Path, form: str, teacher: str, options: str, *, label_usd: float, budget: float = 1) -> Path:
    """A potstill.toml with the texts to write from as the pool, whose gold is held back."""
    path = write_toml(folder, form, teacher, budget=budget, options=options)
    text = path.read_text(encoding="utf-8").replace('name = "pgkd"', 'name = "allocate"')
    text = text.replace('test = "test.jsonl"', 'test = "test.jsonl", pool = "more.jsonl"')
    path.write_text(text + f"prices.usd_per_label = {label_usd}\n", encoding="utf-8")
    return path


def decisions(run: Run) -> list[Decision]:
    return [note.record for note in run.notes() if isinstance(note.record, Decision)]


def train(run: Run) -> Any:
    return recipe_kind("allocate").train(run)


def test_gold_is_bought_where_the_teacher_is_mostly_wrong_and_a_resumed_run_buys_nothing(world: World) -> None:
    toml = write(world("entities"), "entities", WRONG, f"{SOLD}, max_steps = 2", label_usd=0.002)
    planned = plan(toml)
    assert planned.teacher is not None
    assert planned.teacher.n_texts == 120
    with opened(toml) as run:
        student = train(run)
        key, n_calls = run.student_key(student), len(run.store.calls())
        bought = [call for call in run.store.calls() if call.category == "human"]
        (end,) = notes(run, Allocated)
        made = decisions(run)
        assert run.ledger.totals().charged <= run.ledger.limit
    actions = [each.to_json()["action"] for each in made]
    assert actions[0] == "buy_labels"
    assert (
        sum(call.n_texts for call in bought) == end.n_labels >= 4 + 16
    )  # up to the pilot's sixteen, then as many more
    assert sum(call.charged for call in bought) == 2000 * end.n_labels
    assert end.candidate == max(end.candidate_scores, key=lambda name: end.candidate_scores[name])
    assert all(0 <= point.mean <= 1 for each in made for point in each.basis.curve)
    assert [point.n for point in made[0].basis.curve] == [2, 4, 8, 16]
    with opened(toml) as run:
        assert run.student_key(train(run)) == key
        assert len(run.store.calls()) == n_calls


def test_the_answers_of_a_good_teacher_are_learnt_beside_gold_that_costs_much(world: World) -> None:
    toml = write(world("entities"), "entities", RIGHT, f"{SOLD}, max_steps = 2", label_usd=0.2, budget=4)
    with opened(toml) as run:
        student = train(run)
        (end,) = notes(run, Allocated)
        asked = [call for call in run.store.calls() if call.category == "llm"]
        assert run.teacher_record is not None
        assert student.find_entities(["the bank"])
    assert sum(call.n_texts for call in asked) >= 100
    assert end.candidate_scores["answers"] > end.candidate_scores["labels only"]
    assert end.candidate == "answers"


def test_without_people_the_price_of_gold_is_compared_and_what_it_would_gain_is_said(world: World) -> None:
    toml = write(world("entities"), "entities", RIGHT, "pilot_labels = 8, pilot_seeds = 1", label_usd=0.001)
    lines = toml.read_text(encoding="utf-8").splitlines()
    toml.write_text("\n".join(line for line in lines if not line.startswith("teacher")), encoding="utf-8")
    with opened(toml) as run:
        assert train(run).find_entities(["the soup"])
        (decision,) = decisions(run)
        (end,) = notes(run, Allocated)
        assert {call.category for call in run.store.calls()} == {"compute"}
    assert [each.strategy for each in decision.basis.strategies] == ["annotate"]
    assert decision.to_json()["action"] == "stop"
    assert "gold that you answer yourself is: 'annotate' is expected to reach" in decision.reason
    assert end.candidate_scores.keys() == {"labels only"}


@pytest.mark.nightly
def test_answers_in_words_have_the_same_two_sources(world: World) -> None:
    toml = write(world("free"), "free", RIGHT, f"{SOLD}, max_steps = 1", label_usd=0.02)
    with opened(toml) as run:
        assert train(run).generate(["the soup bank please"])
        (decision,) = decisions(run)
        (end,) = notes(run, Allocated)
    assert {each.strategy for each in decision.basis.strategies} == {"annotate", "llm"}
    assert end.candidate_scores.keys() == {"labels only", "answers"}
    assert all(0 <= score <= 1 for score in end.candidate_scores.values())


def test_what_is_about_labels_and_too_little_gold_are_refused_in_one_sentence(world: World) -> None:
    folder = world("entities")
    for option in ('large_model = "encoder:mpnet"', 'query_strategy = "margin"', "generation = { rounds = 2 }"):
        toml = write(folder, "entities", RIGHT, option, label_usd=0.1)
        named = option.partition(" ")[0]
        with opened(toml, named) as run, pytest.raises(BadSpec, match=f"{named} is about labels, and this task is of"):
            train(run)
    toml = write(folder, "entities", RIGHT, "pilot_labels = 100", label_usd=0.1)
    with opened(toml, "little") as run, pytest.raises(BadData, match="There are 12 training texts with an answer"):
        train(run)
    toml = write(folder, "entities", 'name = "trained"', "pilot_labels = 8", label_usd=0.1)
    with opened(toml, "trained") as run, pytest.raises(BadSpec, match="is trained first"):
        train(run)


def test_people_named_as_the_teacher_are_no_teacher_of_answers(world: World) -> None:
    toml = write(world("entities"), "entities", 'name = "human"', "pilot_labels = 8", label_usd=0.1)
    with opened(toml, "people") as run:
        sources = FormSources.open(run, EntityTask(run.task, entity_pool(run)), AllocateOptions(pilot_labels=8))
    assert sources.teacher is None
    assert sources.usd_per_label == 0.1
