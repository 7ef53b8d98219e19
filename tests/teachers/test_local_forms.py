"""`local` names entities or answers in words: its contract on a stand-in for llama.cpp, and real replies of SmolLM2."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.chat_server_answers import answer_in
from support.chat_server_entities import entities_in
from support.marked_texts import TYPES

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.form_feedback import FormFeedback
from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import GenerationRequest, LabelledText, Output, Task
from potstill.errors import BadInput, BadSpec
from potstill.teachers import local
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.llamacpp import LlamaCpp
from potstill.testing import EntityTeacherContract, FreeTextTeacherContract

TASK = Task(TYPES, kind="text2text")
FREE = Task((), kind="text2text", output=Output("free"))


class StandIn:
    """The library's server: names the words of `marked_texts`, and cuts a reply that is longer than asked."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.writes = "hello"

    def handle_completions(self, body: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(body)
        prompts = [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]
        choices = []
        prompts *= body.get("n", 1)
        for index, prompt in enumerate(prompts):
            asked = {"messages": [{"content": prompt}]}
            reply = entities_in(asked) or answer_in(asked) or self.writes
            is_cut = "cut me" in prompt.rsplit("<text>", 1)[-1]
            finish = "length" if is_cut else "stop"
            choices.append(
                {"index": index, "text": reply[: len(reply) // 2] if is_cut else reply, "finish_reason": finish}
            )
        return {"choices": choices[::-1], "usage": {"completion_tokens": 8}}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    server = StandIn()
    monkeypatch.setattr(LlamaCpp, "_load", lambda self, context: server)
    return server


def opened(weights: Path, examples: Sequence[LabelledText] = (), task: Task = TASK, **options: Any) -> Teacher:
    return local.open_by_task(TeacherSetup(task, str(weights), examples, {"threads": 1, **options}))


class TestContract(EntityTeacherContract):
    """On the stand-in; the GGUF file gives its template and its context alone."""

    generates = True
    free_units = ("labels",)

    @pytest.fixture(autouse=True)
    def _weights(self, smollm2: Path, stand_in: StandIn) -> None:
        self.weights = smollm2

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return opened(self.weights, examples, task)


class TestFreeTextContract(FreeTextTeacherContract):
    """The same, for answers in words."""

    generates = True
    free_units = ("labels",)

    @pytest.fixture(autouse=True)
    def _weights(self, smollm2: Path, stand_in: StandIn) -> None:
        self.weights = smollm2

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return opened(self.weights, examples, task)


def test_pytorch_does_not_answer_in_words_and_the_option_is_refused(smollm2: Path) -> None:
    with pytest.raises(BadSpec, match=r"llama\.cpp") as caught:
        opened(smollm2, generation_runtime="torch")
    assert "generation_runtime" in caught.value.hint


def test_a_shortlist_of_labels_is_refused(smollm2: Path) -> None:
    with pytest.raises(BadSpec, match="shortlist is about labels"):
        opened(smollm2, shortlist=5)


def test_several_texts_are_asked_at_once_by_the_schema_and_a_cut_reply_is_no_answer(
    smollm2: Path, stand_in: StandIn
) -> None:
    teacher = opened(smollm2, generation_slots=3)
    assert teacher.batch_size == 3
    texts = ["the soup", "the bank, cut me", "a word " * 20_000]
    answers = teacher.answer(texts).answers
    assert [each.state for each in answers] == ["ok", "unparsable", "refused"]
    assert isinstance(answers[0], EntityAnswer)
    assert answers[0].named == (NamedEntity("soup", "dish"),)
    (body,) = stand_in.seen
    assert body["json_schema"]["properties"]["entities"]["items"]["properties"]["type"]["enum"] == list(TYPES)
    assert body["temperature"] == 0
    assert len(body["prompt"]) == 2
    assert re.search(r"- dish\n- finance", body["prompt"][0])


def test_texts_are_written_with_their_answers_in_several_replies_at_once(smollm2: Path, stand_in: StandIn) -> None:
    item = {"text": "a soup", "entities": [{"text": "soup", "type": "dish"}]}
    stand_in.writes = json.dumps({"texts": [item, item, item]})
    teacher = opened(smollm2, generation_slots=4, temperature=0.7)
    request = GenerationRequest("", 7, seed=3, feedback=FormFeedback(accuracy=0.5, metric="entity F1"))
    bound = teacher.max_generation_usage(request)
    generated = teacher.generate(request)
    assert teacher.price.cost_micros(generated.usage) <= teacher.price.cost_micros(bound)
    assert [each.text for each in generated.texts] == ["a soup"] * 7
    assert json.loads(generated.texts[0].label) == {"entities": item["entities"]}
    body = stand_in.seen[-1]
    assert (body["n"], body["temperature"]) == (4, 0.7)
    assert body["json_schema"]["properties"]["texts"]["minItems"] == 2
    assert "entity F1 on validation texts is 50.0%" in body["prompt"]
    other = opened(smollm2, temperature=0.9)
    assert other.key == opened(smollm2, temperature=0.7).key
    assert other.generation_key != opened(smollm2, temperature=0.7).generation_key
    stand_in.writes = "no"
    assert {each.label for each in teacher.generate(request).texts} == {""}
    with pytest.raises(BadInput, match="leave no room for a prompt"):
        opened(smollm2, generation_max_tokens=2048, generation_slots=1).generate(request)


def test_a_folder_of_weights_and_a_prompt_for_a_label_are_refused(smollm2: Path, tiny_folder: Path) -> None:
    with pytest.raises(BadSpec, match="GGUF"):
        opened(tiny_folder)
    with pytest.raises(BadSpec, match="is about labels"):
        opened(smollm2, generation_prompt="label")
    with pytest.raises(BadSpec, match="'dish' is a label"):
        opened(smollm2).generate(GenerationRequest("dish", 1))


@pytest.mark.parametrize(
    "options",
    [
        *({"prompt_format": "plain"}, {"template": "Say: {text}"}, {"match_prior": False}, {"n_prompts": 2}),
        *({"label_words": {"dish": "food"}}, {"embedding": "potion-8m"}, {"max_text_tokens": 9}),
        *({"dtype": "float32"}, {"batch_size": 3}, {"device": "cuda"}),
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_option_that_nothing_would_read_is_refused(smollm2: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BadSpec, match=f"{next(iter(options))}.* is about labels") as caught:
        opened(smollm2, **options)
    assert caught.value.hint == "Leave it out."


def test_an_option_at_its_default_is_not_refused(smollm2: Path) -> None:
    same = {"prompt_format": "auto", "shortlist": 0, "device": "cpu", "dtype": "auto", "generation_prompt": "whole"}
    assert opened(smollm2, **same).key == opened(smollm2).key


def test_a_real_model_answers_in_json_of_the_schema(smollm2: Path) -> None:
    pytest.importorskip("xllamacpp")
    example = LabelledText("the bread", json.dumps([[4, 9, "dish"]]))
    teacher = opened(smollm2, [example], generation_slots=1)
    (answer,) = teacher.answer(["a soup"]).answers
    assert answer.state in ("ok", "unparsable")
    assert answer.raw.startswith("{")
    assert isinstance(answer, EntityAnswer)
    assert {each.type for each in answer.named} <= set(TYPES)


def test_an_answer_in_words_is_the_reply_and_a_cut_one_is_none(smollm2: Path, stand_in: StandIn) -> None:
    shown = [LabelledText("a cheese goal and", "food sport")]
    teacher = opened(smollm2, shown, FREE, generation_slots=2)
    answers = teacher.answer(["the soup bank", "a loan, cut me"]).answers
    assert answers[0] == FreeTextAnswer("ok", raw="food money", text="food money")
    assert answers[1].state == "unparsable"
    (body,) = stand_in.seen
    assert "food sport" in body["prompt"][0]
    assert "stop" not in body  # its chat template ends a turn
    assert body["max_tokens"] == 32
    assert teacher.capabilities.output_forms == {"free"}


def test_a_real_model_answers_in_words(smollm2: Path) -> None:
    pytest.importorskip("xllamacpp")
    shown = [LabelledText("the colour of snow", "white"), LabelledText("the colour of grass", "green")]
    teacher = opened(smollm2, shown, FREE, generation_slots=1)
    (answer,) = teacher.answer(["the colour of coal"]).answers
    assert isinstance(answer, FreeTextAnswer)
    assert answer.state in ("ok", "unparsable")
