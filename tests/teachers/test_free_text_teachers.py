"""Teachers that answer in words: the contract of each, what is sent, what is read of a reply, what it may cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.answered import answered_texts, write_answered
from support.chat_server import FakeServer, Fault
from support.chat_teacher import OPENAI, PRICES, ChatProvider, Served

from potstill.data.free_text.answers import FreeTextAnswer, check_free_text_answer, read_free_text_answer
from potstill.data.task import Answer, LabelledText, Output, Task
from potstill.errors import BadData, BadSpec
from potstill.ledger.prices import Usage
from potstill.teachers import anthropic
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.replay import open_by_task
from potstill.testing import FreeTextTeacherContract

TASK = Task((), kind="text2text", output=Output("free"), instruction="Name the topics.")
TEXT = "the soup bank please"
SHOWN = LabelledText("a cheese goal and", "food sport")


class TestOpenAI(Served, FreeTextTeacherContract):
    """The reply as it is."""

    generates = True


class TestAnthropic(Served, FreeTextTeacherContract):
    """The same, from the Messages API."""

    provider = ChatProvider(anthropic.open_teacher, PRICES)
    generates = True


class TestReplay(FreeTextTeacherContract):
    """The answers of a file."""

    simulated = True

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        write_answered(tmp_path / "known.jsonl", [(text, "food") for text in self.texts])

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        options = {"file": "known.jsonl", "usd_per_million_tokens": 1, "accuracy": 1}
        return open_by_task(TeacherSetup(task, "", examples, options, workspace=self.folder))


class TestReplayThatWrites(TestReplay):
    """Texts of a file with their answers."""

    generates = True

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        options = {"file": "known.jsonl", "generate_from": "known.jsonl", "usd_per_million_tokens": 1, "accuracy": 1}
        return open_by_task(TeacherSetup(task, "", examples, options, workspace=self.folder))


def ask(server: FakeServer, text: str = TEXT, examples: Sequence[LabelledText] = (), **options: Any) -> Answer:
    teacher = OPENAI.teacher_at(server, examples, TASK, **options)
    bound = teacher.max_usage([text])
    reply = teacher.answer([text])
    assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(bound)
    return reply.answers[0]


def test_instruction_examples_and_text_are_sent_and_the_reply_is_the_answer() -> None:
    with FakeServer() as server:
        answer = ask(server, examples=[SHOWN])
        (body,) = server.seen
    assert answer == FreeTextAnswer("ok", raw="food money", text="food money")
    system, *turns = [message["content"] for message in body["messages"]]
    assert system.startswith("Name the topics.")
    assert turns == [f"<text>\n{SHOWN.text}\n</text>", "food sport", f"<text>\n{TEXT}\n</text>"]
    assert "response_format" not in body
    assert body["temperature"] == 0


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("<think>The soup is food.</think>\nfood money", "food money"),
        ("  food\nmoney <|im_end|>", "food\nmoney"),
        ('"food money"', '"food money"'),
    ],
)
def test_thinking_and_end_marks_are_cut_and_nothing_else(said: str, text: str) -> None:
    with FakeServer(by_word={"soup": Fault("said", said=said)}) as server:
        answer = ask(server)
    assert isinstance(answer, FreeTextAnswer)
    assert answer.text == text


def test_an_empty_reply_and_one_that_was_cut_are_no_answers() -> None:
    with FakeServer(by_word={"soup": Fault("said", said="<think>what</think> ")}) as server:
        assert ask(server).state == "unparsable"
    with FakeServer(by_word={"soup": Fault("length")}) as server:
        answer = ask(server)
    assert answer.state == "failed"
    assert "set max_tokens" in answer.raw


def test_a_reply_has_room_by_the_examples_and_the_task_and_the_user_sets_another() -> None:
    long = LabelledText("the soup", "food " * 200)
    limited = Task((), kind="text2text", output=Output("free", max_tokens=300))
    sizes = []
    with FakeServer() as server:
        for task, examples, options in (
            (TASK, [], {}),
            (TASK, [SHOWN], {}),
            (TASK, [long], {}),
            (limited, [SHOWN], {}),
            (TASK, [SHOWN], {"max_tokens": 77}),
        ):
            teacher = OPENAI.teacher_at(server, examples, task, **options)
            sizes.append(teacher.max_usage([TEXT]).output_tokens / teacher._question.max_requests)  # type: ignore[attr-defined]
    assert sizes[1] < sizes[0] < sizes[2]
    assert sizes[3] > 900
    assert sizes[4] == 77


def test_redacted_words_are_neither_sent_nor_shown_in_examples_or_their_answers() -> None:
    shown = LabelledText("write to ann@example.org for soup", "ann@example.org")
    with FakeServer() as server:
        ask(server, "or to bob@example.org", [shown], redact=True)
        sent = json.dumps(server.seen)
    assert "@example.org" not in sent


@pytest.mark.parametrize(
    ("options", "what"),
    [({"samples": 3}, "Samples are votes"), ({"aliases": {"a": "b"}}, "Aliases are other names")],
)
def test_options_of_labels_are_refused(options: dict[str, Any], what: str) -> None:
    with FakeServer() as server, pytest.raises(BadSpec, match=what):
        OPENAI.teacher_at(server, (), TASK, **options)


def replay(folder: Path, **options: Any) -> Teacher:
    asked = {"file": "known.jsonl", "usd_per_million_tokens": 1, **options}
    return open_by_task(TeacherSetup(TASK, options=asked, prices=PriceOptions(), workspace=folder))


def test_replay_is_right_as_often_as_it_is_said_to_be(tmp_path: Path) -> None:
    rows = answered_texts(200)
    write_answered(tmp_path / "known.jsonl", rows)
    teacher = replay(tmp_path, accuracy=0.8)
    reply = teacher.answer([text for text, _ in rows])
    right = [check_free_text_answer(one).text == answer for one, (_, answer) in zip(reply.answers, rows, strict=True)]
    assert 130 < sum(right) < 190
    assert teacher.answer(["another text"]).answers[0].state == "unparsable"
    assert reply.usage != Usage()
    with pytest.raises(BadData, match="has no answered text"):
        replay(tmp_path / write_answered(tmp_path / "empty.jsonl", [("the soup", "")]).parent, file="empty.jsonl")


def test_what_is_stored_is_read_again_and_nothing_else() -> None:
    for answer in (FreeTextAnswer("ok", text="food"), FreeTextAnswer("failed", raw="no")):
        assert read_free_text_answer(answer.to_json()) == answer
    for record in (None, {}, {"state": "ok", "text": "", "raw": ""}, {"state": "failed", "text": "a", "raw": ""}):
        assert read_free_text_answer(record) is None
    assert check_free_text_answer(Answer("ok", (0.0,))).state == "failed"
    assert check_free_text_answer(FreeTextAnswer("ok", text=" ")).state == "failed"
    assert check_free_text_answer(FreeTextAnswer("failed", text="a")).text == ""
