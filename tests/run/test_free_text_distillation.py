"""Distilling answers in words: a teacher answers the pool, the student learns it; the plan, the report, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.answered import answered_texts, write_answered
from support.chat_server import FakeServer
from support.tinylm import write_tinycausal

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api import distill, plan
from potstill.errors import BadSpec
from potstill.procedures.kinds import recipe_kind
from potstill.reports.evaluate_free_text import FREE_TEXT_EVALUATION
from potstill.run.few_shot import select_examples
from potstill.run.free_text_verbs import ask_free_text, free_text_pool
from potstill.run.inputs import read_inputs
from potstill.run.run import Run

TEXT = "the soup bank please"
TOML = """
budget = {budget}
data = {{ train = "answered.jsonl", pool = "pool.jsonl", test = "test.jsonl" }}
prices.m = {{ usd_per_million_input = 1, usd_per_million_output = 2 }}
student = {{ name = "causal:weights", mode = "full", epochs = 4, lr = 1e-2, max_length = 24 }}
task = {{ form = "free", instruction = "Name the topics." }}
[teacher]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = answered_texts(220)
    write_answered(tmp_path / "answered.jsonl", rows[:30])
    write_answered(tmp_path / "test.jsonl", rows[30:60])
    pool = "".join(json.dumps({"text": text}) + "\n" for text, _ in rows[60:])
    (tmp_path / "pool.jsonl").write_text(pool, encoding="utf-8")
    write_answered(tmp_path / "known.jsonl", rows)
    write_tinycausal(tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spec(folder: Path, teacher: str, budget: float = 1) -> Path:
    path = folder / "potstill.toml"
    path.write_text(TOML.format(budget=budget) + teacher, encoding="utf-8")
    return path


def test_a_chat_model_answers_the_pool_and_the_student_learns_it(folder: Path) -> None:
    with FakeServer() as server:
        toml = spec(folder, f'name = "openai:m"\nbase_url = "{server.url}"')
        planned = plan(toml).teacher
        assert planned is not None
        assert server.seen == []
        inputs = read_inputs(toml, None, {})
        with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:
            student: Any = recipe_kind(inputs.spec.procedure.name).train(run)
            found = student.generate(free_text_pool(run).subset("test").texts)
            measures = FREE_TEXT_EVALUATION.measure(run, found)
            charged = run.store.calls()
        n_sent = len(server.seen)
        with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:
            again: Any = recipe_kind("kd").train(run)
            assert again.generate([TEXT]) == student.generate([TEXT])
        assert len(server.seen) == n_sent == 160 + 30
    assert inputs.spec.procedure.name == "kd"
    assert measures.teacher is not None
    assert measures.teacher.evaluation is not None
    assert measures.teacher.evaluation.accuracy.value == 1
    assert measures.result is not None
    assert measures.result.main_score.value > 0.5
    assert all(sample.teacher for sample in measures.samples)
    usd = sum(call.charged for call in charged if call.teacher == "openai:m" and call.purpose == "teach") / 1e6
    assert planned.low_usd <= usd <= planned.high_usd


def test_a_small_budget_ends_asking_and_examples_are_gold_answers(folder: Path) -> None:
    with FakeServer() as server:
        toml = spec(folder, f'name = "openai:m"\nbase_url = "{server.url}"', budget=0.03)
        inputs = read_inputs(toml, None, {})
        with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run, run.reserve_training():
            gold = free_text_pool(run).subset("train")
            shown = select_examples(gold, inputs.spec, inputs.task)
            found = ask_free_text(run, run.teacher(shown), free_text_pool(run).subset("pool").texts)
            assert run.ledger.totals().charged <= run.ledger.limit
    known = dict(answered_texts(220))
    assert len(shown) == 4
    assert all(known[each.text] == each.label for each in shown)
    assert 0 < found.state_counts["unasked"] < 160
    assert all(known[text] == own[0] for text, own in zip(found.answered.texts, found.answered.references, strict=True))


def test_options_about_scores_and_teachers_that_cannot_are_refused_before_anything_is_spent(folder: Path) -> None:
    replay = 'name = "replay"\nfile = "known.jsonl"\nusd_per_million_tokens = 1\n'
    toml = spec(folder, replay + '[procedure]\nname = "kd"\ntemperature = 2.0\n')
    with pytest.raises(BadSpec, match="temperature is about scores of labels, and this task is of answers in words"):
        distill(toml, out=folder / "run")
    with pytest.raises(BadSpec, match="'tagger' cannot learn a task of the kind 'text2text' and the form 'free'"):
        distill(spec(folder, 'name = "trained:tagger"'), out=folder / "other")


def test_a_larger_student_that_is_trained_first_teaches(folder: Path) -> None:
    options = 'mode = "full"\nepochs = 12\nlr = 1e-2\nmax_length = 24'
    toml = spec(folder, f'name = "trained:causal:weights"\n{options}')
    inputs = read_inputs(toml, None, {})
    with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:
        recipe_kind("kd").train(run)
        assert run.teacher_record is not None
        teacher, answers = run.teacher_record.teacher, run.teacher_record.answers
        assert len(run.student_keys) == 2
        assert len(answers.texts) == 160
        assert answers.states.count("ok") > 100
        assert teacher.category == "compute"
        assert run.ledger.totals().by_category["llm"] == 0


TRAINED = 'name = "trained:causal:weights"\nmode = "full"\nepochs = 10\nlr = 1e-2\nmax_length = 24\n'
TOKEN = '[procedure]\nname = "kd"\nlevel = "token"\ngold_weight = 0\n'


def test_at_token_level_the_student_learns_the_probabilities_of_the_teacher(folder: Path) -> None:
    inputs = read_inputs(spec(folder, TRAINED + TOKEN), None, {})
    with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:
        student: Any = recipe_kind("kd").train(run)
        assert run.teacher_record is not None
        teacher: Any = run.teacher_record.teacher
        asked: Any = run.teacher_record.answers
        test = free_text_pool(run).subset("test").texts
        both = list(zip(asked.answered.texts, asked.answered_tokens, strict=True))
        calls = len(run.store.calls())
        assert answers_alike(student, teacher.student, test) > 0.8
    assert all(tokens is not None and tokens.top_ids.shape == (len(tokens.ids), 16) for _, tokens in both)
    assert len(both) > 100
    with Run.open(folder / "run", inputs.spec, inputs.task, inputs.pool) as run:  # nothing is asked or trained again
        again: Any = recipe_kind("kd").train(run)
        assert len(run.store.calls()) == calls
        assert again.generate([TEXT]) == student.generate([TEXT])
        assert run.teacher_record is not None
        stored: Any = run.teacher_record.answers
        assert stored.tokens == asked.tokens


def answers_alike(one: Any, other: Any, texts: Any) -> float:
    """The share of the texts that both answer alike."""
    pairs = zip(one.generate(texts), other.generate(texts), strict=True)
    return float(np.mean([mine.text == theirs.text for mine, theirs in pairs]))


def test_token_level_is_refused_where_tokens_cannot_be_compared_before_anything_is_spent(folder: Path) -> None:
    write_tinycausal(folder / "large")
    tokenizer = json.loads((folder / "large" / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "large" / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    replay = 'name = "replay"\nfile = "known.jsonl"\nusd_per_million_tokens = 1\n'
    refused = [
        (
            TRAINED.replace("weights", "large") + TOKEN,
            "'causal:weights' has another tokenizer than its teacher",
            "family",
        ),
        (replay + TOKEN, "'replay' does not give them", "--teacher trained:causal:WEIGHTS"),
        (replay + TOKEN.replace("token", "sequence") + "temperature = 2.0\n", "temperature is about scores", "Leave"),
    ]
    for nth, (teacher, what, mend) in enumerate(refused):
        inputs = read_inputs(spec(folder, teacher), None, {})
        with Run.open(folder / f"run{nth}", inputs.spec, inputs.task, inputs.pool) as run:
            with pytest.raises(BadSpec, match=what) as caught:
                recipe_kind("kd").train(run)
            assert mend in caught.value.hint
            assert not run.store.calls()
