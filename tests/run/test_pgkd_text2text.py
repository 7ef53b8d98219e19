"""PGKD in text-to-text tasks: the teacher writes texts with their answers; what is counted, the plan, resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import FakeServer
from support.pgkd_text2text import REPLAY, opened, texts_of, train, write_toml, write_world
from support.toy_data import finished_rounds, notes

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.api import distill, plan
from potstill.data.form_feedback import FormFeedback
from potstill.errors import BadSpec, PotstillError
from potstill.procedures.pgkd.form_tasks import EntityTask, FreeTextTask
from potstill.reports import render_html
from potstill.run.entity_verbs import entity_pool
from potstill.run.free_text_verbs import free_text_pool
from potstill.run.notes import RoundFacts, RoundSamples, RoundsFinished

World = Callable[[str], Path]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {form: write_world(tmp_path_factory.mktemp(form), form) for form in ("entities", "free")}


@pytest.fixture
def world(worlds: dict[str, Path], tmp_path: Path) -> World:
    """A copy of a form's world."""

    def copied(form: str) -> Path:
        return shutil.copytree(worlds[form], tmp_path / form)

    return copied


def served(url: str) -> str:
    return f'name = "openai:m", base_url = "{url}"'


def reply(*items: Any) -> str:
    return json.dumps({"texts": list(items)})


# --- the rounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["entities", "free"])
def test_written_texts_are_learnt_and_the_best_student_is_returned(world: World, form: str) -> None:
    folder = world(form)
    toml = write_toml(folder, form, options="rounds = 2, texts_per_round = 40, roll_back = true")
    with opened(toml) as run:
        student, requests = train(run)
        facts, (end,) = notes(run, RoundFacts), notes(run, RoundsFinished)
        key, n_calls = run.student_key(student), len(run.store.calls())
    assert [each.round for each in facts] == [0, 1, 2]
    assert {each.metric for each in facts} == {"entity F1" if form == "entities" else "token F1"}
    assert facts[end.best_round].accuracy == max(each.accuracy for each in facts)
    assert end.n_generated == 80
    assert end.n_accepted == sum(each.acquired.n_accepted for each in facts) > 40
    assert facts[1].n_train == 12 + facts[1].acquired.n_accepted
    assert [each.n for each in requests] == [20, 20, 20, 20]  # one request asks for at most 32 texts
    assert len({each.seed for each in requests}) == 4
    shown = json.dumps([[str(each), str(each.feedback)] for each in requests])
    assert any(text in shown for text in texts_of(folder, "train.jsonl"))
    for name in ("validation.jsonl", "test.jsonl"):
        assert not [text for text in texts_of(folder, name) if f"'{text}'" in shown]
    with opened(toml) as run:
        again, _ = train(run)
        assert run.student_key(again) == key
        assert len(run.store.calls()) == n_calls


def test_a_request_has_scores_examples_and_the_surest_wrong_answers(world: World) -> None:
    with opened(write_toml(world("entities"), "entities", options="rounds = 1, cv_folds = 3")) as run:
        _, (request,) = train(run)
        with_parts = request.feedback
    assert isinstance(with_parts, FormFeedback)
    assert [each.label for each in with_parts.report] == ["dish", "finance"]
    assert with_parts.accuracy is not None
    assert len(request.examples) == 12
    wrong = (*with_parts.hard_negatives, *with_parts.incorrect)
    assert wrong
    assert all(each.predicted != each.label for each in wrong)
    assert all(each.predicted == each.label for each in with_parts.correct)
    confidences = [each.confidence for each in with_parts.hard_negatives]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 < each <= 1 for each in confidences)


@pytest.mark.nightly
def test_the_report_shows_the_rounds_by_the_metric_of_the_form(world: World) -> None:
    toml = write_toml(world("entities"), "entities", options="rounds = 1, texts_per_round = 20")
    made = distill(toml, out=toml.parent / "run").report
    assert made.rounds is not None
    assert made.rounds.metric == "entity F1"
    assert {label for label, _, _ in made.rounds.changes} == {"dish", "finance"}
    assert any("[dish]" in each for each in made.rounds.accepted_samples)
    assert any("had the highest entity F1" in note for note in made.notes)
    page = render_html(made)
    assert "Entity F1 on the validation texts over the money charged" in page
    assert '<th scope="col" class="n">Loss' not in page
    assert "imulation" in made.simulation


# --- what does not pass ------------------------------------------------------------------------------------


def test_entities_that_cannot_be_marked_are_counted_by_reason(world: World) -> None:
    folder = world("entities")

    def item(text: str, *named: tuple[str, str]) -> Any:
        return {"text": text, "entities": [{"text": words, "type": kind} for words, kind in named]}

    good = item("a cheese bread for the market of two towns", ("cheese bread", "dish"), ("market", "finance"))
    bad = [
        item("the bank was closed today", ("banks", "finance")),
        item("a profit from the loan", ("profit", "money")),
        item("an apple soup bread here", ("apple soup", "dish"), ("soup bread", "dish")),
        {"text": "no entities are given"},
        {"text": 7, "entities": []},
        {"text": "", "entities": []},
        "a loan",
        good,
        item(texts_of(folder, "validation.jsonl")[0]),
    ]
    cut = reply(good, *bad)[:-2] + ', {"text": "the soup of the day", "entities": [{"text": "soup", "type": "di'
    with FakeServer(writes=cut) as server:
        toml = write_toml(folder, "entities", served(server.url), options="rounds = 1, texts_per_round = 12")
        with opened(toml) as run:
            train(run)
            (facts,), (samples,) = finished_rounds(run), notes(run, RoundSamples)
        assert len(server.seen) == 1
    assert facts.acquired.rejected_by_reason == {
        "unreadable": 2,
        "an entity not in the text": 1,
        "an entity of no type of the task": 1,
        "an entity on words that another entity has": 1,
        "duplicate": 1,
        "copies validation": 1,
        "missing": 4,
    }
    assert facts.acquired.n_accepted == 1
    assert samples.accepted[0].label == "cheese bread [dish], market [finance]"


def test_answers_without_a_word_and_replies_without_json_are_counted(world: World) -> None:
    folder = world("free")
    items = [
        {"text": "one tennis loan for us", "answer": "sport money"},
        {"text": "please a goal here", "answer": "  "},
        {"text": "please a bank here", "answer": None},
        {"text": "a bread for you and me", "answer": 12},
    ]
    replies = ["I cannot do that.", "Still not.", reply(*items)]
    with FakeServer() as server:

        def say(done: Any) -> None:
            done["choices"][0]["message"]["content"] = replies[min(len(server.seen), 3) - 1]

        server.mutate = say
        toml = write_toml(folder, "free", served(server.url), options="rounds = 2, texts_per_round = 6")
        with opened(toml) as run:
            train(run)
            first, second = finished_rounds(run)
    assert first.acquired.rejected_by_reason == {"unreadable": 1, "missing": 5}
    assert second.acquired.rejected_by_reason == {"no answer": 1, "unreadable": 1, "missing": 2}
    assert second.acquired.n_accepted == 2


def test_top_up_asks_again_for_what_was_rejected(world: World) -> None:
    folder = world("entities")
    toml = write_toml(folder, "entities", options="rounds = 1, texts_per_round = 5, top_up = 2")
    with opened(toml) as run:
        pool = entity_pool(run)
        shown = EntityTask(run.task, pool).gold
        generate, asked = run.generate, []

        def copies_first(teacher: Any, request: Any) -> Any:
            asked.append(request.n)
            texts = generate(teacher, request)
            return [type(texts[0])(shown.texts[0], texts[0].label), *texts[1:]] if len(asked) == 1 else texts

        run.generate = copies_first  # type: ignore[method-assign, assignment]
        train(run)
        (facts,) = finished_rounds(run)
    assert asked[:2] == [5, 1]
    assert sum(facts.acquired.rejected_by_reason.values()) >= 1
    assert facts.acquired.n_accepted == 5


# --- money, and what is refused ----------------------------------------------------------------------------


def test_the_plan_counts_output_tokens_and_holds_what_is_paid(world: World) -> None:
    folder = world("free")
    written = [{"text": f"{a} tennis and {b} bread", "answer": "sport food"} for a in "abcd" for b in "xyz"]
    with FakeServer(writes=reply(*written)) as server:
        toml = write_toml(folder, "free", served(server.url), options="rounds = 2, texts_per_round = 12")
        planned = plan(toml).teacher
        assert planned is not None
        assert server.seen == []
        with opened(toml) as run:
            train(run)
            calls = [call for call in run.store.calls() if call.mode == "generate"]
            charged = sum(call.charged for call in calls) / 1e6
    assert len(calls) == 2
    assert planned.generates
    assert planned.n_texts == 24
    assert 0 < planned.low_output_tokens < planned.high_output_tokens
    assert f"{planned.low_output_tokens:,} to {planned.high_output_tokens:,} tokens" in planned.to_text()
    assert planned.low_usd <= charged <= planned.high_usd


def test_when_the_money_ends_the_best_student_is_returned(world: World) -> None:
    teacher = REPLAY.replace("usd_per_million_tokens = 1", "usd_per_million_tokens = 100")
    toml = write_toml(world("entities"), "entities", teacher, budget=0.4, options="rounds = 9, texts_per_round = 10")
    with opened(toml) as run:
        student, _ = train(run)
        (end,) = notes(run, RoundsFinished)
        totals = run.ledger.totals()
        assert student.find_entities(["the bank"])
    assert end.budget_exhausted
    assert 0 < end.n_rounds < 9
    assert totals.charged <= totals.limit


def test_a_run_that_is_cut_after_any_call_ends_with_the_same_student_and_bill(world: World) -> None:
    toml = write_toml(world("entities"), "entities", options="rounds = 2, texts_per_round = 8")

    class Killed(BaseException):
        pass

    def attempt(name: str, cut_after: int) -> tuple[str, int, int]:
        with opened(toml, name) as run:
            settle, n = run.store.settle, 0

            def counted(*args: Any, **more: Any) -> None:
                nonlocal n
                settle(*args, **more)
                n += 1
                if n == cut_after:
                    raise Killed

            run.store.settle = counted  # type: ignore[method-assign]
            student, _ = train(run)
            charged = sum(call.charged for call in run.store.calls() if call.category == "llm")
            return run.student_key(student), charged, n

    whole = attempt("whole", 0)
    for cut in (1, 2, whole[2] - 1):
        with pytest.raises(Killed):
            attempt(f"cut{cut}", cut)
        assert attempt(f"cut{cut}", 0)[:2] == whole[:2]


@pytest.mark.parametrize("form", ["entities", "free"])
def test_what_means_nothing_without_labels_is_one_sentence_before_anything_is_spent(world: World, form: str) -> None:
    folder, of = world(form), "of entities" if form == "entities" else "of answers in words"
    refused = {
        'label_allocation = "error"': f"label_allocation shares the texts out among labels, and this task is {of}",
        "labels_per_request = 3": "labels_per_request chooses labels",
        'agree = "student"': "agree compares labels",
        "soft_labels = true": "soft_labels is about probabilities",
        "noisy_labels = true": "noisy_labels is about probabilities",
        "warm_start = true": "warm_start starts from the weights",
        'query_strategy = "margin"': "query_strategy labels texts",
    }
    for option, sentence in refused.items():
        toml = write_toml(folder, form, options=option)
        for attempt in (lambda toml=toml: plan(toml), lambda toml=toml: distill(toml, out=folder / "run")):
            with pytest.raises(BadSpec, match=sentence) as caught:
                attempt()
            assert caught.value.hint == f"Leave {option.partition(' ')[0]} out."
    for teacher in ('name = "replay", file = "known.jsonl", usd_per_million_tokens = 1', 'name = "trained"'):
        with pytest.raises(PotstillError, match="cannot generate texts"):
            distill(write_toml(folder, form, teacher), out=folder / "run")
    assert not (folder / "run").exists()


# --- the students' answers ---------------------------------------------------------------------------------


def test_partly_right_answers_below_the_mean_count_as_wrong(world: World) -> None:
    toml = write_toml(world("free"), "free")
    with opened(toml) as run:
        form = FreeTextTask(run.task, free_text_pool(run))

        class Canned:
            def generate(self, texts: Any) -> Any:
                from potstill.models.greedy_decoding import GeneratedAnswer

                said = [form.gold.answers[0][0], "nothing", f"{form.gold.answers[2][0]} really not it"]
                return [GeneratedAnswer(each, 0.5) for each in said[: len(texts)]]

        rows = form.gold.select(__import__("numpy").arange(3))
        found = form.predict(Canned(), rows)  # type: ignore[arg-type]
    assert found.scores.tolist() == pytest.approx([1.0, 0.0, 4 / 7])
    assert found.right.tolist() == [True, False, False]
    assert found.wrong.tolist() == [False, True, False]
