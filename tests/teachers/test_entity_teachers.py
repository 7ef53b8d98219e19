"""Teachers that name entities: the contract of each, what is sent, what is read of a reply, what it may cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.chat_server import FakeServer, Fault
from support.chat_teacher import OPENAI, PRICES, ChatProvider, Served
from support.marked_texts import TYPES, marked_texts, write_marked

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.entities.build import encode_entities
from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadData, BadSpec, TeacherError
from potstill.evaluation.text2text.entities import Entity
from potstill.ledger.prices import Usage
from potstill.teachers import anthropic
from potstill.teachers.base import BatchJob, Teacher, TeacherSetup
from potstill.teachers.batch_api import BatchChatTeacher
from potstill.teachers.entity_prompt import EntityPrompt
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.replay import open_by_task, open_form_teacher
from potstill.testing import EntityTeacherContract

TASK = Task(TYPES, descriptions={"dish": "what is eaten"}, kind="text2text")
TEXT = "the soup bread please bank"
SHOWN = LabelledText("a loan", encode_entities((Entity(2, 6, "finance"),)))
NONE_SHOWN = LabelledText("the", encode_entities(()))


class TestOpenAI(Served, EntityTeacherContract):
    """JSON by a schema."""

    generates = True


class TestAnthropic(Served, EntityTeacherContract):
    """The same, from the Messages API."""

    provider = ChatProvider(anthropic.open_teacher, PRICES)
    generates = True


class TestOpenAIByBatch(Served, EntityTeacherContract):
    """What is asked directly of a teacher that could leave a batch."""

    options: ClassVar[dict[str, Any]] = {"batch": True}
    generates = True


class TestReplay(EntityTeacherContract):
    """The entities of a file."""

    simulated = True

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        spans = (("soup bread", "dish"), ("soup", "dish"), ("bank", "finance"), ("market", "finance"))
        named = [
            (text, tuple(sorted(Entity(text.index(w), text.index(w) + len(w), kind) for w, kind in spans if w in text)))
            for text in self.texts[1:]
        ]
        write_marked(tmp_path / "known.jsonl", [(self.texts[0], (Entity(4, 14, "dish"),)), *named])

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        options = {"file": "known.jsonl", "usd_per_million_tokens": 1, "accuracy": 1}
        return open_by_task(TeacherSetup(task, "", examples, options, workspace=self.folder))


class TestReplayThatWrites(TestReplay):
    """Texts of a file with their entities."""

    generates = True

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        options = {"file": "known.jsonl", "generate_from": "known.jsonl", "usd_per_million_tokens": 1, "accuracy": 1}
        return open_by_task(TeacherSetup(task, "", examples, options, workspace=self.folder))


def ask(server: FakeServer, text: str = TEXT, examples: Sequence[LabelledText] = (), **options: Any) -> EntityAnswer:
    teacher = OPENAI.teacher_at(server, examples, TASK, **options)
    bound = teacher.max_usage([text])
    reply = teacher.answer([text])
    assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(bound)
    answer = reply.answers[0]
    return answer if isinstance(answer, EntityAnswer) else EntityAnswer(answer.state, raw=answer.raw)


# --- what is sent -----------------------------------------------------------------------------------------


def test_types_examples_and_the_text_are_sent_with_a_schema_of_the_types() -> None:
    with FakeServer() as server:
        answer = ask(server, examples=[SHOWN, NONE_SHOWN])
        (body,) = server.seen
    assert answer.named == (NamedEntity("soup bread", "dish"), NamedEntity("bank", "finance"))
    system, *turns = [message["content"] for message in body["messages"]]
    assert "- dish: what is eaten\n- finance\n" in system
    assert json.loads(turns[1]) == {"entities": [{"text": "loan", "type": "finance"}]}
    assert json.loads(turns[3]) == {"entities": []}
    assert f"<text>\n{TEXT}\n</text>" in turns[4]
    item = body["response_format"]["json_schema"]["schema"]["properties"]["entities"]["items"]
    assert item["properties"]["type"]["enum"] == list(TYPES)
    assert "logprobs" not in body
    assert body["temperature"] == 0


def test_a_longer_text_has_room_for_a_longer_reply_and_the_user_sets_another() -> None:
    with FakeServer() as server:
        for text in ("bank", "the bank " * 40):
            ask(server, text)
        ask(server, max_tokens=77)
        sizes = [
            body["max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"] for body in server.seen
        ]
    assert sizes[0] < sizes[1]
    assert sizes[2] == 77


def test_redacted_words_are_neither_sent_nor_shown_in_examples() -> None:
    text = "write to ann@example.org for soup"
    shown = LabelledText(text, encode_entities((Entity(9, 24, "finance"), Entity(29, 33, "dish"))))
    with FakeServer() as server:
        answer = ask(server, text, [shown], redact=True)
        sent = json.dumps(server.seen)
    assert "ann@example.org" not in sent
    assert answer.named == (NamedEntity("soup", "dish"),)
    assert '\\"soup\\", \\"type\\": \\"dish\\"' in json.dumps(sent) or '"soup"' in sent.replace("\\", "")


def test_the_same_question_has_the_same_key_and_other_types_examples_or_limits_another() -> None:
    with FakeServer() as server:
        opened = [
            OPENAI.teacher_at(server, examples, task, **options)
            for examples, task, options in (
                ((), TASK, {}),
                ((), TASK, {"parallel": 3}),
                ((SHOWN,), TASK, {}),
                ((), Task(TYPES, kind="text2text"), {}),
                ((), TASK, {"max_tokens": 50}),
            )
        ]
    keys = [teacher.key for teacher in opened]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_options_of_tasks_of_labels_are_refused() -> None:
    with FakeServer() as server:
        for options in ({"samples": 3}, {"shortlist": 5}, {"examples": "nearest"}, {"candidates": True}):
            with pytest.raises(BadSpec):
                given = {"base_url": server.url, **options}
                OPENAI.open_teacher(TeacherSetup(TASK, "m", (), given, PriceOptions.parse(PRICES)))
        assert server.seen == []


# --- what is read of a reply ------------------------------------------------------------------------------

NAMED = (NamedEntity("soup", "dish"), NamedEntity("bank", "finance"))


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ('{"entities": [{"text": "soup", "type": "dish"}, {"type": "Finance", "text": "bank"}]}', NAMED),
        ('```json\n{"entities": [{"text": "soup", "type": "dish"}, {"text": "bank", "type": "money"}]}\n```', NAMED),
        (
            '<think>soup [is] a {dish}</think>[{"text": "soup", "type": "DISH"}, {"text": "bank", "type": "finance"}]',
            NAMED,
        ),
        ('Here they are: {"dish": ["soup"], "finance": ["bank"]} as you asked.', NAMED),
        ('{"entities": {"dish": "soup", "finance": ["bank"]}}', NAMED),
        ('{"entities": []}', ()),
        ("[]<|im_end|>", ()),
        ('{"dish": [], "finance": []}', ()),
        ('{"entities": [{"text": "soup", "type": "place"}]}', (NamedEntity("soup", "place"),)),
        ("There are none.", None),
        ("", None),
        ('{"entities": [{"text": "soup"', None),
        ('{"entities": [{"text": "soup"}]}', None),
        ('{"entities": ["soup"]}', None),
        ('{"entities": [{"text": 3, "type": "dish"}]}', None),
        ("{}", None),
        ("[" * 5000, None),
        ('{"error": "overloaded"}', (NamedEntity("overloaded", "error"),)),
    ],
)
def test_replies_of_every_form_are_read_or_are_none(reply: str, named: tuple[NamedEntity, ...] | None) -> None:
    assert EntityPrompt(TASK, aliases={"money": "finance"}).read(reply) == named


def test_an_unreadable_reply_is_asked_about_again_and_a_second_one_is_unparsable() -> None:
    odd = Fault("said", said="I see soup.", times=1)
    with FakeServer(by_number={0: odd}) as server:
        assert ask(server).state == "ok"
        assert len(server.seen) == 2
        assert "That cannot be read." in server.seen[1]["messages"][-1]["content"]
    with FakeServer(by_word={"soup": Fault("said", said="I see soup.")}) as server:
        answer = ask(server)
        assert (answer.state, answer.raw, len(server.seen)) == ("unparsable", "I see soup.", 2)


def test_a_reply_that_was_cut_is_no_answer_and_says_which_option_helps() -> None:
    with FakeServer(by_word={"soup": Fault("length")}) as server:
        answer = ask(server)
    assert answer.state == "failed"
    assert "set max_tokens" in answer.raw
    with FakeServer(by_word={"soup": Fault("refusal")}) as server:
        assert ask(server).state == "refused"


def test_a_server_without_schemas_is_asked_the_same_without_one() -> None:
    with FakeServer(refuses=frozenset({"response_format"})) as server:
        assert ask(server).state == "ok"
        assert "response_format" not in server.seen[-1]


# --- money ------------------------------------------------------------------------------------------------


def test_the_estimate_counts_output_tokens_by_the_replies_to_gold_examples() -> None:
    text = "soup in a text that goes on and on, as some do, without any more of it, until it ends with a bank"
    busy = LabelledText(text, encode_entities((Entity(0, 4, "dish"), Entity(len(text) - 4, len(text), "finance"))))
    idle = LabelledText(text, encode_entities(()))
    with FakeServer() as server:
        teachers = [OPENAI.teacher_at(server, [shown], TASK) for shown in (busy, idle)]
        much, little = (teacher.estimate_usage([TEXT * 10]) for teacher in teachers)
        bound = teachers[0].max_usage([TEXT * 10])
    assert 0 < little.low.output_tokens < much.low.output_tokens
    assert much.low.output_tokens < much.high.output_tokens <= bound.output_tokens
    assert little.high.output_tokens < much.high.output_tokens


def test_a_batch_is_read_without_the_texts_at_hand() -> None:
    with FakeServer() as server:
        teacher = OPENAI.teacher_at(server, (), TASK, batch=True)
        assert isinstance(teacher, BatchChatTeacher)
        assert teacher.samples == 1
        done = server._completion(teacher._question.request(TEXT).__dict__ | {"model": "m"}, None)
        from potstill.teachers.batch_api import BatchItemResult
        from potstill.teachers.response_parsing import parse_chat_completion

        results = [BatchItemResult("0" * 32 + "-0-0", parse_chat_completion(done))]
        found = teacher._job_results(BatchJob("0" * 32, 2, 0.0), results, 0)
    assert found.answers[0] == EntityAnswer(
        "ok", raw=found.answers[0].raw if found.answers[0] else "", named=NAMED_IN_TEXT
    )
    assert found.answers[1] is None
    assert teacher.max_job_usage(TEXT) != Usage()


NAMED_IN_TEXT = (NamedEntity("soup bread", "dish"), NamedEntity("bank", "finance"))


# --- replay -----------------------------------------------------------------------------------------------


def replay(folder: Path, **options: Any) -> Any:
    asked = {"file": "known.jsonl", "usd_per_million_tokens": 1, **options}
    return open_form_teacher(TeacherSetup(TASK, options=asked, prices=PriceOptions(), workspace=folder))


def test_replayed_entities_are_right_as_often_as_stated(tmp_path: Path) -> None:
    texts = marked_texts(400)
    write_marked(tmp_path / "known.jsonl", texts)
    teacher = replay(tmp_path, accuracy=0.8)
    answers = teacher.answer([text for text, _ in texts]).answers
    right = wrong = missed = 0
    for (_, gold), answer in zip(texts, answers, strict=True):
        named = {each.start: each.type for each in answer.named}
        right += sum(named.get(each.start) == each.type for each in gold)
        wrong += sum(named.get(each.start) not in (None, each.type) for each in gold)
        missed += sum(each.start not in named for each in gold)
    total = right + wrong + missed
    assert right / total == pytest.approx(0.8, abs=0.05)
    assert wrong / total == pytest.approx(0.1, abs=0.04)
    assert teacher.answer(["something else"]).answers[0].state == "unparsable"
    assert {each.state for each in replay(tmp_path, failure_rate=1).answer([texts[0][0]]).answers} == {"failed"}


def test_a_replayed_file_without_marks_or_of_other_types_is_refused(tmp_path: Path) -> None:
    (tmp_path / "known.jsonl").write_text(
        '{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n', encoding="utf-8"
    )
    with pytest.raises(BadData, match="holds no marks"):
        replay(tmp_path)
    write_marked(tmp_path / "known.jsonl", [("the bank", (Entity(4, 8, "place"),))])
    with pytest.raises(BadData, match="'place'"):
        replay(tmp_path)
    write_marked(tmp_path / "known.jsonl", [("the bank", (Entity(4, 8, "finance"),))])
    with pytest.raises(TeacherError, match="generates no texts"):
        replay(tmp_path).generate(GenerationRequest("", 1))
