"""What a chat teacher is asked of one text: shortlists, nearest examples, candidate sets, nothing that gives away."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from support.batch_queue_run import BOTH, OPENAI, Shop, right, texts, until_done
from support.chat_server import FakeServer, Fault, last_text
from support.chat_teacher import PRICES, TASK, Served, likeliest

from potstill.data.task import Answer, GenerationRequest, LabelledText, Task
from potstill.errors import BadSpec, MissingExtra
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.prompts import Prompt
from potstill.teachers.shortlist import ShortlistIndex

# 335 labels of words, so that each is like some others.
FRUIT = ("apple", "banana", "cherry", "damson", "elder", "fig", "grape")
DEEDS = ("buying", "eating", "growing", "juicing", "mailing", "naming", "peeling", "rating")
PLACES = ("attic", "barn", "cellar", "den", "estate", "farm")
MANY = Task(tuple(f"{deed} {fruit} {place}" for fruit in FRUIT for deed in DEEDS for place in PLACES)[:335])
CODES = Prompt(MANY, shortlisted=True).codes
NOT_THERE = json.dumps({"label": CODES[-1]})


class TestContractByShortlist(Served):
    """Two labels at a time."""

    options: ClassVar[dict[str, Any]] = {"shortlist": 2, "shortlist_rounds": 2}


class TestContractByShortlistAndVotes(Served):
    """Two labels at a time, five samples each."""

    options: ClassVar[dict[str, Any]] = {"shortlist": 2, "logprobs": False, "samples": 5}


class TestContractWithCandidates(Served):
    """Sets of labels, from which what gives a person away is taken out, beside the nearest examples."""

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return at(self.server, examples, task, candidates=True, redact=True, examples="nearest", n_nearest=2)


def at(server: FakeServer | str, gold: Sequence[LabelledText] = (), task: Task = TASK, **options: Any) -> ChatTeacher:
    url = server if isinstance(server, str) else server.url
    return open_teacher(TeacherSetup(task, "m", gold, {"base_url": url, **options}, PriceOptions.parse(PRICES)))


def one(teacher: ChatTeacher, text: str) -> Answer:
    """The answer about a text, within its bound."""
    bound = teacher.max_usage([text])
    reply = teacher.answer([text])
    assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(bound)
    return reply.answers[0]


def top(answer: Answer, task: Task = MANY) -> str:
    assert answer.scores is not None, answer
    return task.labels[max(range(task.n_labels), key=answer.scores.__getitem__)]


# --- shortlists --------------------------------------------------------------------------------------------------


def test_of_335_labels_each_text_is_offered_twenty_and_none_of_these() -> None:
    with FakeServer() as server:
        teacher = at(server, task=MANY)
        for label in (MANY.labels[0], MANY.labels[77], MANY.labels[-1]):
            answer = one(teacher, f"where is the {label} ?")
            assert top(answer) == label
            assert answer.how == "logprobs"
            assert answer.scores is not None
            assert math.fsum(map(math.exp, answer.scores)) == pytest.approx(1)
    assert len(server.seen) == 3
    offered = [re.findall(r"^(\d+): (.+)$", body["messages"][-1]["content"], re.MULTILINE) for body in server.seen]
    assert [len(each) for each in offered] == [21, 21, 21]
    assert all(each[-1] == (CODES[-1], "none of these") for each in offered)
    # One label has one code before all texts, and the form of a reply is the same: a server prepares it once.
    assert all(CODES[MANY.index(name)] == code for each in offered for code, name in each[:-1])
    assert len({json.dumps(body["response_format"]) for body in server.seen}) == 1
    assert len({body["messages"][0]["content"] for body in server.seen}) == 1


def test_if_none_fits_the_next_labels_are_offered() -> None:
    text = "banana ?"
    third = ShortlistIndex(MANY, ()).similarities(text).ranked_labels()[45]
    said = Fault("said", said=json.dumps({"label": CODES[third]}))
    with FakeServer(by_number={0: Fault("said", said=NOT_THERE), 1: Fault("said", said=NOT_THERE), 2: said}) as server:
        answer = one(at(server, task=MANY, logprobs=False, one_hot_confidence=0.9), text)
    assert len(server.seen) == 3
    assert top(answer) == MANY.labels[third]
    # Nearly the confidence that is stated for one bare label: the lists before it took a little.
    assert answer.scores is not None
    assert math.exp(max(answer.scores)) == pytest.approx(0.9, abs=0.015)
    lists = [set(re.findall(r"^(\d+):", body["messages"][-1]["content"], re.MULTILINE)) for body in server.seen]
    assert set.intersection(*lists) == {CODES[-1]}


def test_if_no_shortlist_fits_the_text_stays_unanswered() -> None:
    said = Fault("said", said=NOT_THERE)
    for samples in (1, 3):
        with FakeServer(by_word={"banana": said}) as server:
            answer = one(at(server, task=MANY, shortlist_rounds=2, logprobs=False, samples=samples), "banana ?")
        assert (answer.state, answer.raw) == ("unparsable", "none of the 40 labels offered")
        assert len(server.seen) == 2


def test_votes_for_none_lead_to_the_next_shortlist() -> None:
    with FakeServer(by_number={0: Fault("said", said=NOT_THERE)}) as server:
        answer = one(at(server, task=MANY, logprobs=False, samples=4), "peeling a damson in the barn ?")
    assert [body["n"] for body in server.seen] == [4, 4]
    assert (answer.state, answer.how) == ("ok", "votes")


def test_a_label_that_was_not_offered_is_unparsable() -> None:
    text = "banana ?"
    last = ShortlistIndex(MANY, ()).similarities(text).ranked_labels()[-1]
    for name in (CODES[last], MANY.labels[last]):
        with FakeServer(by_word={"banana": Fault("said", said=json.dumps({"label": name}))}) as server:
            assert one(at(server, task=MANY), text).state == "unparsable"
        assert len(server.seen) == 2


def test_the_last_shortlist_has_no_none_of_these() -> None:
    with FakeServer(by_number={0: Fault("said", said='{"label": "D"}')}, ignores=frozenset({"logprobs"})) as server:
        answer = one(at(server, shortlist=2), "world and sports, no business")
    assert len(server.seen) == 2
    assert "none of these" not in server.seen[1]["messages"][-1]["content"]
    assert answer.state == "ok"


@pytest.mark.parametrize("kind", ["garbage", "said"])
@pytest.mark.parametrize("options", [{}, {"logprobs": False, "samples": 3}, {"shortlist": 9, "shortlist_rounds": 9}])
def test_whatever_goes_wrong_stays_within_the_bound(kind: str, options: dict[str, Any]) -> None:
    with FakeServer(by_word={"banana": Fault(kind, said="what?")}) as server:
        assert one(at(server, task=MANY, **options), "banana ?").state in ("failed", "unparsable")


def test_the_recall_of_the_shortlist_is_in_the_metadata() -> None:
    gold = [LabelledText(f"the {label} question", label) for label in MANY.labels]
    teacher = at("http://127.0.0.1:9/v1", gold, MANY)
    assert teacher.metadata.extra["labels_offered"] == 20
    assert re.fullmatch(r"shortlist recall at 20: \d+% on 300 gold texts", teacher.metadata.extra["shortlist_recall"])
    assert "at 60" in teacher.metadata.extra["shortlist_recall_all_rounds"]
    assert "not measured" in at("http://127.0.0.1:9/v1", task=MANY).metadata.extra["shortlist_recall"]


def test_shortlists_begin_where_the_list_is_too_long_for_schema_or_prompt() -> None:
    def offered(task: Task, **options: Any) -> int:
        return int(
            at("http://127.0.0.1:9/v1", task=task, **options).metadata.extra.get("labels_offered", task.n_labels)
        )

    assert offered(MANY) == 20
    assert offered(MANY, max_schema_labels=500) == 335
    assert offered(MANY, shortlist=0) == 335
    assert offered(MANY, shortlist=400) == 335
    assert offered(TASK) == 3
    assert offered(TASK, shortlist=2) == 2
    wordy = Task(MANY.labels[:90], descriptions=dict.fromkeys(MANY.labels[:90], "so much to say of it " * 10))
    assert offered(wordy) == 20
    with pytest.raises(BadSpec, match="shortlist = 1"):
        offered(TASK, shortlist=1)


# --- examples ----------------------------------------------------------------------------------------------------

GOLD = [
    LabelledText("a match and a goal", "sports"),
    LabelledText("shares and bonds", "business"),
    LabelledText("a war", "world"),
]


def test_each_text_is_shown_the_examples_most_like_it_after_the_constant_part() -> None:
    with FakeServer() as server:
        teacher = at(server, GOLD, examples="nearest", n_nearest=1)
        first, second = (teacher.answer([text]).usage for text in ("the goal of sports", "bonds of business"))
    for body, example in zip(server.seen, GOLD, strict=False):
        assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
        assert example.text in body["messages"][1]["content"]
    assert server.seen[0]["messages"][0] == server.seen[1]["messages"][0]
    assert first.output_tokens == second.output_tokens


def test_above_twenty_labels_the_nearest_examples_are_the_default() -> None:
    task = Task(MANY.labels[:30])
    gold = [LabelledText(f"all about {label}", label) for label in task.labels]
    for options, shown in (
        ({}, 8),
        ({"n_nearest": 2}, 2),
        ({"examples": "fixed"}, 30),
        ({"shortlist": 400, "examples": "fixed"}, 8),
    ):
        with FakeServer() as server:
            at(server, gold, task, **options).answer(["growing an apple in the den"])
        assert sum(message["role"] == "assistant" for message in server.seen[0]["messages"]) == shown, options


def test_a_gold_text_is_never_shown_its_own_label() -> None:
    with FakeServer() as server:
        at(server, GOLD, examples="nearest").answer([GOLD[0].text])
    before = "".join(message["content"] for message in server.seen[0]["messages"][:-1])
    assert GOLD[0].text not in before
    assert GOLD[1].text in before


def test_a_shortlist_shows_examples_of_the_labels_it_offers() -> None:
    gold = [LabelledText(f"{label} it is", label) for label in MANY.labels]
    with FakeServer() as server:
        one(at(server, gold, MANY, n_nearest=3), "eating a fig in the den ?")
    content = server.seen[0]["messages"][-1]["content"]
    assert last_text(server.seen[0]) == "eating a fig in the den ?"
    assert len(re.findall(r"<text>\n.* it is\n</text>\n\d+$", content, re.MULTILINE)) == 3
    assert f"<text>\neating fig den it is\n</text>\n{CODES[MANY.index('eating fig den')]}" in content


# --- candidates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        ('{"candidates": [{"label": "A", "weight": 60}, {"label": "B", "weight": 20}]}', (0.675, 0.225, 0.1)),
        ('{"candidates": [{"label": "A", "weight": 1}, {"label": "C", "weight": 1}]}', (0.45, 0.1, 0.45)),
        ("A=70, B=20, C=10", (0.7, 0.2, 0.1)),
    ],
)
def test_a_set_of_labels_with_weights_is_a_soft_label(said: str, shares: tuple[float, ...]) -> None:
    with FakeServer(by_word={"sports": Fault("said", said=said)}) as server:
        answer = one(at(server, candidates=True, one_hot_confidence=0.9), "sports ?")
    assert answer.how == "stated"
    assert answer.scores is not None
    assert [math.exp(score) for score in answer.scores] == pytest.approx(shares)
    assert "logprobs" not in server.seen[0]
    assert "weight" in server.seen[0]["messages"][0]["content"]
    form = server.seen[0]["response_format"]["json_schema"]["schema"]["properties"]["candidates"]["items"]
    assert form["properties"]["label"]["enum"] == ["A", "B", "C"]


def test_a_single_label_keeps_its_confidence() -> None:
    for said in ('{"candidates": [{"label": "B", "weight": 100}]}', "B", '{"label": "B"}', "B=90"):
        with FakeServer(by_word={"sports": Fault("said", said=said)}) as server:
            answer = one(at(server, candidates=True), "sports ?")
        assert (likeliest(answer), answer.how) == ("sports", "one-hot")


@pytest.mark.parametrize(
    "said",
    [
        '{"candidates": [{"label": "A", "weight": 60}, {"label": "Q", "weight": 20}]}',
        '{"candidates": [{"label": "A", "weight": 60}, {"label": "A", "weight": 20}]}',
        '{"candidates": [{"label": "A", "weight": -1}]}',
        '{"candidates": [{"label": "A", "weight": NaN}]}',
        '{"candidates": [{"label": "A", "weight": true}]}',
        '{"candidates": [{"label": "A", "weight": 0}]}',
        '{"candidates": [{"label": "A"}]}',
        '{"candidates": []}',
        '{"candidates": "A"}',
        "A=60, Q=40",
        "A, B",
        "A=60 or so",
        "A=0, B=0",
    ],
)
def test_a_set_with_one_invalid_part_is_unparsable(said: str) -> None:
    with FakeServer(by_word={"sports": Fault("said", said=said)}) as server:
        assert one(at(server, candidates=True), "sports ?").state == "unparsable"
    assert len(server.seen) == 2
    assert "weight" in server.seen[1]["messages"][-1]["content"]


def test_a_set_is_unparsable_without_candidates() -> None:
    with FakeServer(by_word={"sports": Fault("said", said="A=70, B=30")}) as server:
        assert one(at(server), "sports ?").state == "unparsable"


def test_candidates_and_samples_cannot_be_combined() -> None:
    with pytest.raises(BadSpec, match="samples"):
        at("http://127.0.0.1:9/v1", candidates=True, samples=3)


# --- what gives a person away ------------------------------------------------------------------------------------

PLANTED = ("jo@example.com", "4111 1111 1111 1111", "DE89370400440532013000", "+49 170 1234567", "10.1.2.3")
PRIVATE = f"sports for {', '.join(PLANTED)}"


@pytest.mark.parametrize(
    "options", [{}, {"examples": "nearest"}, {"shortlist": 2}, {"candidates": True}, {"logprobs": False, "samples": 2}]
)
def test_personal_data_never_reach_the_server(options: dict[str, Any]) -> None:
    gold = [LabelledText(f"world {each}", "world") for each in PLANTED]
    with FakeServer(by_number={0: Fault(500), 1: Fault("said", said="hm")}) as server:
        teacher = at(server, gold, redact=True, **options)
        assert teacher.metadata.redactions == {"email": 1, "card": 1, "iban": 1, "phone": 1, "ipv4": 1}
        assert one(teacher, PRIVATE).state == "ok"
        teacher.generate(GenerationRequest("sports", 1, gold, [LabelledText(PRIVATE, "sports")]))
    sent = json.dumps(server.seen)
    assert not [each for each in PLANTED if each in sent]
    assert "[EMAIL]" in sent
    assert teacher.metadata.redactions == {"email": 2, "card": 2, "iban": 2, "phone": 2, "ipv4": 2}
    assert teacher.metadata.host in server.url


def test_nothing_is_redacted_by_default() -> None:
    with FakeServer() as server:
        teacher = at(server)
        teacher.answer([PRIVATE])
    assert PRIVATE in server.seen[0]["messages"][-1]["content"]
    assert teacher.metadata.redactions is None


def test_presidio_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with pytest.raises(MissingExtra):
        at("http://127.0.0.1:9/v1", redact="presidio")


# --- by batch ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("options", [{"shortlist": 2}, {"examples": "nearest"}, {"candidates": True}], ids=str)
def test_a_batch_has_the_same_prompts_and_no_personal_data(shop: Shop, options: dict[str, Any]) -> None:
    shop.options = {**options, "redact": True}
    asked = [f"{text} from jo{i}@example.com" for i, text in enumerate(texts(6))]
    answers = until_done(shop, asked)
    assert right(answers)
    bodies = [body for batch in shop.queue.batches.values() for body in batch.requests.values()]
    assert len(bodies) == 5
    assert "@example.com" not in json.dumps([*bodies, *shop.server.seen])
    if "shortlist" in options:
        assert all("none of these" in json.dumps(body) for body in bodies)


@OPENAI
def test_a_text_that_fits_none_of_the_first_labels_stays_unanswered_in_a_batch(shop: Shop) -> None:
    shop.options = {"shortlist": 2, "logprobs": False}
    shop.server.by_word = {"odd": Fault("said", said='{"label": "D"}')}
    asked = [*texts(3), "an odd one"]
    answers = until_done(shop, asked)
    assert right(answers[:3])
    assert answers[3] is not None
    assert (answers[3].state, answers[3].raw) == ("unparsable", "none of the labels offered")


# --- the key -----------------------------------------------------------------------------------------------------


def test_the_key_depends_on_everything_that_changes_the_prompt() -> None:
    url = "http://127.0.0.1:9/v1"
    plain = [at(url, GOLD, **each).key for each in ({}, {"n_nearest": 3}, {"shortlist_rounds": 2}, {"shortlist": 0})]
    assert len(set(plain)) == 1
    options: list[dict[str, Any]] = [
        {"redact": True},
        {"candidates": True},
        {"examples": "nearest"},
        {"examples": "nearest", "n_nearest": 3},
        {"shortlist": 2},
        {"shortlist": 2, "shortlist_rounds": 1},
        {"shortlist": 2, "n_nearest": 3},
    ]
    keys = {at(url, GOLD, **each).key for each in options}
    keys |= {at(url, GOLD[:2], examples="nearest").key, plain[0]}
    assert len(keys) == len(options) + 2
