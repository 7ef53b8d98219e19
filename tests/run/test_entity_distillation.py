"""Distilling entities: a teacher marks the pool, the student learns it; the plan, the report, the budget, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import FakeServer, Fault
from support.marked_texts import marked_texts, write_marked
from support.tinybert import write_tinybert

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api import distill, plan
from potstill.errors import BadData, BadSpec, TeacherError
from potstill.evaluation.text2text.entities import Entities
from potstill.ledger.store import RunStore
from potstill.reports import render_html, render_terminal
from potstill.run.entity_verbs import ask_entities
from potstill.run.few_shot import select_examples
from potstill.run.inputs import read_inputs
from potstill.run.run import Run

N_TEXTS = 200
TOML = """
budget = {budget}
data = {{ train = "marked.jsonl", pool = "pool.jsonl", test = "test.jsonl" }}
prices.m = {{ usd_per_million_input = 1, usd_per_million_output = 2 }}
student = {{ name = "tagger:{weights}", epochs = 10, lr = 1e-2, max_length = 32 }}
[teacher]
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("weights"), layers=1)  # a layer is seconds of the exporter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = marked_texts(N_TEXTS)
    write_marked(tmp_path / "marked.jsonl", texts[:40])
    write_marked(tmp_path / "test.jsonl", texts[40:80])
    pool = "".join(json.dumps({"text": text}) + "\n" for text, _ in texts[80:])
    (tmp_path / "pool.jsonl").write_text(pool, encoding="utf-8")
    write_marked(tmp_path / "known.jsonl", texts)
    return tmp_path


def spec(folder: Path, weights: Path, teacher: str, budget: float = 1) -> Path:
    path = folder / "potstill.toml"
    path.write_text(TOML.format(weights=weights, budget=budget) + teacher, encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_chat_model_marks_the_pool_and_the_student_is_reported_beside_it(folder: Path, weights: Path) -> None:
    reply = (
        '{"entities": [{"text": "soup", "type": "dish"}, {"text": "gold", "type": "dish"}, {"text": "a", "type": "x"}]}'
    )
    with FakeServer(by_word={"soup bread the": Fault("said", said=reply)}) as server:
        toml = spec(folder, weights, f'name = "openai:m"\nbase_url = "{server.url}"')
        planned = plan(toml).teacher
        assert planned is not None
        assert server.seen == []
        made = distill(toml, out=folder / "run", yes=True)
        n_sent = len(server.seen)
        again = distill(toml, out=folder / "run", yes=True)
        assert len(server.seen) == n_sent
    found = made.report
    assert again.report == found
    assert found.settings.procedure == "kd"
    assert found.teacher is not None
    assert found.teacher.evaluation is not None
    assert found.teacher.evaluation.main_score.value > 0.8
    assert found.student.evaluation is not None
    assert found.student.evaluation.main_score.value > 0.8
    assert found.answers is not None
    assert found.answers.asked == 120
    assert any("not in the text" in note and "of no type of the task" in note for note in found.notes), found.notes
    assert found.egress.startswith("120 texts of the pool")
    assert all(sample.teacher for sample in found.samples)
    assert "openai:m" in render_terminal(found)
    assert "openai:m" in render_html(found)
    store = RunStore(folder / "run", write=False)
    charged = (
        sum(call.charged for call in store.calls() if call.teacher == "openai:m" and call.purpose == "teach") / 1e6
    )
    store.close()
    assert planned.low_usd <= charged <= planned.high_usd


def test_the_plan_names_texts_and_a_small_budget_ends_asking(folder: Path, weights: Path) -> None:
    with FakeServer() as server:
        toml = spec(folder, weights, f'name = "openai:m"\nbase_url = "{server.url}"', budget=0.03)
        planned = plan(toml).teacher
        assert planned is not None
        assert "about 120 texts" in planned.to_text()
        assert planned.low_texts < 120
        inputs = read_inputs(toml, None, {})
        with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run, run.reserve_training():
            found = ask_entities(run, run.teacher(), run.pool.subset("pool").texts)
        n_sent = len(server.seen)
        with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:
            again = ask_entities(run, run.teacher(), found.marked.texts)
            assert run.ledger.totals().charged <= run.ledger.limit
        assert len(server.seen) == n_sent
    assert 0 < found.state_counts["unasked"] < 120
    assert again.entities == tuple(found.marked.entities)


def test_a_replayed_teacher_is_called_a_simulation(folder: Path, weights: Path) -> None:
    toml = spec(folder, weights, 'name = "replay"\nfile = "known.jsonl"\nusd_per_million_tokens = 1\naccuracy = 0.9')
    inputs = read_inputs(toml, None, {})
    with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:
        found = ask_entities(run, run.teacher(), run.pool.subset("pool").texts)
        assert run.simulated_teachers == {"replay"}
    assert set(found.states) == {"ok"}
    known = dict(marked_texts(N_TEXTS))
    wrong = [text for text, own in zip(found.texts, found.entities, strict=True) if own != known[text]]
    assert 0 < len(wrong) < 60


def test_a_teacher_that_never_writes_json_stops_after_a_dozen_texts(folder: Path, weights: Path) -> None:
    with FakeServer(by_word={" ": Fault("said", said="No entities today.")}) as server:
        toml = spec(folder, weights, f'name = "openai:m"\nbase_url = "{server.url}"\nparallel = 1')
        with pytest.raises(TeacherError, match="can be read"):
            distill(toml, out=folder / "run", yes=True)
        assert len(server.seen) <= 2 * 13


def test_examples_show_each_type_and_a_text_without_any(folder: Path, weights: Path) -> None:
    rows: list[tuple[str, Entities]] = [*marked_texts(40), ("nothing here", ()), ("nor here", ())]
    write_marked(folder / "marked.jsonl", rows)
    inputs = read_inputs(spec(folder, weights, 'name = "openai:m"'), None, {})
    train: Any = inputs.pool.subset("train")
    shown = select_examples(train, inputs.spec, inputs.task)
    types = {kind for each in shown for _, _, kind in json.loads(each.label)}
    assert types == {"dish", "finance"}
    assert any(each.label == "[]" for each in shown)
    assert len(shown) <= 3
    assert shown == select_examples(train, inputs.spec, inputs.task)


def test_options_about_scores_and_teachers_that_cannot_are_refused_before_anything_is_spent(
    folder: Path, weights: Path
) -> None:
    toml = spec(folder, weights, 'name = "replay"\nfile = "known.jsonl"\nusd_per_million_tokens = 1')
    toml.write_text(
        toml.read_text(encoding="utf-8") + '\n[procedure]\nname = "kd"\ntemperature = 2.0\n', encoding="utf-8"
    )
    with pytest.raises(BadSpec, match="temperature is about scores"):
        distill(toml, out=folder / "run")
    with pytest.raises(BadSpec, match="'linear' cannot learn a task of the kind 'text2text'"):
        distill(spec(folder, weights, 'name = "trained:linear"'), out=folder / "other")
    with pytest.raises(BadSpec, match="is not estimated in a task of the kind 'text2text'"):
        plan(spec(folder, weights, f'name = "trained:tagger:{weights}"'))
    with pytest.raises(BadData, match="unlabelled texts"):
        distill(folder / "known.jsonl", budget=1, out=folder / "r", procedure="kd", teacher="local")
