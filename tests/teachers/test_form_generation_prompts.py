"""Prompts that ask for texts with their answers: what they show, how they are cut, and what is read of a reply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.answered import answered_texts, write_answered
from support.chat_server import FakeServer
from support.chat_teacher import OPENAI

from potstill.data.form_feedback import FormFeedback
from potstill.data.task import GenerationRequest, LabelledText, Output, StudentPrediction, Task
from potstill.errors import BadSpec
from potstill.evaluation.metrics import ClassScore
from potstill.evaluation.text2text.text_groups import GroupScore
from potstill.teachers.base import TeacherSetup
from potstill.teachers.form_generation_prompts import FormGenerationPrompt, fit_form_prompt
from potstill.teachers.generation_prompts import estimate_tokens
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.replay import open_by_task
from potstill.teachers.written_answers import encode_written_answer, read_written_answer, read_written_entities

ENTITIES = Task(("dish", "finance"), descriptions={"dish": "what is eaten"}, kind="text2text")
ANSWERS = Task((), kind="text2text", output=Output("free"), instruction="Name the topics.")


def named(*pairs: tuple[str, str]) -> str:
    return json.dumps({"entities": [{"text": words, "type": kind} for words, kind in pairs]})


def entity_request(n: int = 3, size: int = 1) -> GenerationRequest:
    soup = named(("soup", "dish"))
    error = StudentPrediction("a bank of soup", named(("bank", "finance"), ("soup", "dish")), soup, 0.93)
    feedback = FormFeedback(
        accuracy=0.5,
        report=(ClassScore("dish", 0.5, 0.25, 0.33, 9, 4), ClassScore("finance", 1.0, 1.0, 1.0, 3, 3)),
        correct=(StudentPrediction("one soup", soup, soup, 0.8),) * size,
        hard_negatives=(error,) * size,
        metric="entity F1",
        style="in haste",
    )
    return GenerationRequest("", n, (LabelledText("the soup", soup),) * size, seed=7, feedback=feedback)


def content(prompt: FormGenerationPrompt) -> str:
    return "\n".join(each["content"] for each in prompt.messages())


def test_a_prompt_for_entities_shows_types_scores_and_what_the_student_said() -> None:
    shown = content(FormGenerationPrompt(ENTITIES, entity_request()))
    assert "- dish: what is eaten\n- finance\n" in shown
    assert "entity F1 on validation texts is 50.0%" in shown
    assert "dish | 0.50 | 0.25 | 0.33 | 9" in shown
    assert '<text>the soup</text> entities: [{"text": "soup", "type": "dish"}]' in shown
    assert '"type": "dish"}]; the student says [{"text": "soup", "type": "dish"}], 93% sure' in shown
    assert shown.count("the student says") == 1
    assert "Write 3 new texts" in shown
    assert "This time: in haste." in shown


def test_a_prompt_for_words_shows_the_instruction_and_the_score_of_each_group() -> None:
    feedback = FormFeedback(accuracy=0.25, metric="token F1", groups=(GroupScore("who", 0.1, 8),))
    example = LabelledText("the soup", encode_written_answer('say "food"'))
    prompt = FormGenerationPrompt(ANSWERS, GenerationRequest("", 2, (example,), feedback=feedback))
    shown = content(prompt)
    assert "What is asked about each text: Name the topics." in shown
    assert "texts | token F1 | number\nwho | 0.10 | 8" in shown
    assert '<text>the soup</text> answer: "say \\"food\\""' in shown
    assert prompt.schema["properties"]["texts"]["items"]["required"] == ["text", "answer"]


def test_a_long_prompt_is_cut_where_it_is_least_useful_and_refused_where_nothing_is_left() -> None:
    whole = FormGenerationPrompt(ENTITIES, entity_request(size=16))
    size = estimate_tokens(whole.messages())
    smaller = fit_form_prompt(whole, size - 1)
    assert len(smaller.feedback.correct) < 16
    assert len(smaller.feedback.hard_negatives) == 16
    bare = fit_form_prompt(
        whole, estimate_tokens(FormGenerationPrompt(ENTITIES, GenerationRequest("", 3)).messages()) + 40
    )
    assert estimate_tokens(bare.messages()) < size / 2
    assert "dish: what is eaten" in content(bare)
    with pytest.raises(BadSpec, match="does not fit into 100 tokens"):
        fit_form_prompt(whole, 100)
    with pytest.raises(BadSpec, match="'dish' is a label"):
        fit_form_prompt(FormGenerationPrompt(ENTITIES, GenerationRequest("dish", 3)), 9999)


def test_entities_behind_the_cut_of_a_text_are_not_shown() -> None:
    text = "soup " + "the " * 300 + "bank"
    example = LabelledText(text, named(("soup", "dish"), ("bank", "finance")))
    prompt = FormGenerationPrompt(ENTITIES, GenerationRequest("", 1, (example,)), max_characters=200)
    assert 'entities: [{"text": "soup", "type": "dish"}]\n' in content(prompt)


@pytest.mark.parametrize("around", ["{}", "<think>so {{</think>\n{}", "```json\n{}\n```", "Here they are:\n{}"])
def test_a_reply_is_read_with_what_models_write_around_it(around: str) -> None:
    reply = json.dumps({"texts": [{"text": " a loan ", "entities": [{"text": "loan", "type": "FINANCE"}]}]})
    prompt = FormGenerationPrompt(ENTITIES, GenerationRequest("", 5))
    found = prompt.parse(around.replace("{{", "{").replace("{}", reply))
    assert found is not None
    (only,) = found
    assert only.text == "a loan"
    entities = read_written_entities(only.label)
    assert entities is not None
    assert [(each.words, each.type) for each in entities] == [("loan", "finance")]


def test_of_a_reply_that_was_cut_the_complete_texts_are_read_and_no_more_than_were_asked_for() -> None:
    items = [{"text": f"soup {i}", "entities": [{"text": "soup", "type": "dish"}]} for i in range(4)]
    reply = json.dumps({"texts": items})
    prompt = FormGenerationPrompt(ENTITIES, GenerationRequest("", 3))
    assert [each.text for each in prompt.parse(reply) or ()] == ["soup 0", "soup 1", "soup 2"]
    for end in range(len(reply) - 40, len(reply) - 2):
        found = prompt.parse(reply[:end]) or ()
        assert [each.text for each in found] == ["soup 0", "soup 1", "soup 2"]
        assert all(each.label for each in found)
    for nothing in ("", "No.", "{}", "[]", '{"texts": []}', '{"texts": [{"te', "[" * 9999):
        assert prompt.parse(nothing) is None
    assert prompt.unparsed("No  way\n.")[0] == LabelledText("No way .", "")


@pytest.mark.parametrize(
    ("answer", "read"),
    [("food", "food"), (" food ", "food"), (7, "7"), ("", ""), (None, None), (True, None), ([], None)],
)
def test_an_answer_in_words_is_text_or_a_number(answer: Any, read: str | None) -> None:
    prompt = FormGenerationPrompt(ANSWERS, GenerationRequest("", 1))
    (found,) = prompt.parse(json.dumps({"texts": [{"text": "soup", "answer": answer}]})) or ()
    assert (read_written_answer(found.label) if found.label else None) == read


def test_personal_data_is_removed_from_texts_and_answers_before_they_are_sent() -> None:
    mail = "ann@example.org"
    example = LabelledText(f"write to {mail} for soup", named((mail, "finance"), ("soup", "dish")))
    error = StudentPrediction(example.text, example.label, named((mail, "dish")), 0.9)
    feedback = FormFeedback(hard_negatives=(error,))
    answer = LabelledText(f"who is {mail}", encode_written_answer(f"{mail} it is"))
    with FakeServer(writes=json.dumps({"texts": []})) as server:
        OPENAI.teacher_at(server, (), ENTITIES, redact=True).generate(
            GenerationRequest("", 1, (example,), feedback=feedback)
        )
        OPENAI.teacher_at(server, (), ANSWERS, redact=True).generate(
            GenerationRequest("", 1, (answer,), feedback=FormFeedback())
        )
        sent = json.dumps(server.seen)
    assert "soup" in sent
    assert mail not in sent


def test_the_simulated_writer_serves_texts_near_the_errors_and_none_twice(tmp_path: Path) -> None:
    rows = answered_texts(200)
    write_answered(tmp_path / "known.jsonl", rows)
    options = {"file": "known.jsonl", "generate_from": "known.jsonl", "usd_per_million_tokens": 1, "accuracy": 1}
    setup = TeacherSetup(ANSWERS, options=options, prices=PriceOptions(), workspace=tmp_path)
    teacher = open_by_task(setup)
    error = StudentPrediction(
        "a tennis tennis a", encode_written_answer("sport sport"), encode_written_answer("food"), 1
    )
    request = GenerationRequest("", 5, seed=1, feedback=FormFeedback(hard_negatives=(error,)))
    first = teacher.generate(request)
    assert all("tennis" in each.text for each in first.texts)
    assert all(read_written_answer(each.label) == dict(rows)[each.text] for each in first.texts)
    assert teacher.generate(request) == first
    seen = {each.text for each in first.texts}
    for seed in range(2, 50):
        more = teacher.generate(GenerationRequest("", 20, seed=seed, feedback=FormFeedback())).texts
        assert not seen & {each.text for each in more}
        seen |= {each.text for each in more}
    assert len(seen) == 200
    assert teacher.generation_key != teacher.key
    wrong = open_by_task(TeacherSetup(ANSWERS, options={**options, "generation_accuracy": 0.01}, workspace=tmp_path))
    texts = wrong.generate(GenerationRequest("", 20, feedback=FormFeedback())).texts
    assert sum(read_written_answer(each.label) == dict(rows)[each.text] for each in texts) < 3
