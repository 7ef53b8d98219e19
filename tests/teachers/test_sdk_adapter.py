"""A request that the SDK made once is sent again with another body: nobody must see the difference."""

from __future__ import annotations

from typing import Any

import pytest
from support.chat_server import FakeServer, Fault
from support.chat_teacher import KEY, TASK

from potstill.errors import TeacherError
from potstill.teachers import REGISTRY
from potstill.teachers import rate_limit as pace
from potstill.teachers.base import TeacherSetup
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.price_options import PriceOptions

FIGURES = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2}}
FAULTS = [
    Fault(400, code="content_filter", message="filtered"),
    Fault(400, message="no idea"),
    Fault(401, message=f"the key {KEY} is wrong"),
    Fault(402, message="no money"),
    Fault(404, message="no such model"),
    Fault(413, message="payload"),
    Fault(429, times=2, retry_after="0.01"),
    Fault(500, times=1),
    Fault(503),
    Fault("cut"),
    Fault("garbage"),
    Fault("hang", times=1),
    Fault("filter"),
]


@pytest.fixture(params=["openai", "anthropic"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which SDK, with keys that must not show and waits that are short."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setattr(pace, "MAX_BACKOFF_S", 0.01)
    return request.param


class Forgetful(dict[str, Any]):
    """Keeps nothing, so that the SDK makes every request."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Not kept."""


def teacher_at(server: FakeServer, kind: str, **options: Any) -> ChatTeacher:
    """A new teacher of that kind."""
    opened: ChatTeacher = REGISTRY.resolve(kind)(
        TeacherSetup(TASK, "m", (), {"base_url": server.url, **options}, PriceOptions.parse(FIGURES))
    )
    return opened


def outcome(teacher: ChatTeacher) -> tuple[str, ...]:
    """What becomes of a text about which something goes wrong, in words."""
    try:
        answer = teacher.answer(["bad sports"]).answers[0]
    except TeacherError as error:
        return (str(error), str(error.billed))
    return answer.state, answer.how, answer.raw


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind} {fault.code or fault.message}")
def test_errors_are_the_same_whether_the_sdk_or_the_client_sent_the_request(fault: Fault, kind: str) -> None:
    told = []
    for made in ({}, Forgetful()):
        with FakeServer(by_word={"bad": fault}) as server:
            teacher = teacher_at(server, kind, timeout_s=1.0)
            teacher._server._sdk_client._prepared = made  # type: ignore[attr-defined]
            assert teacher.answer(["some sports"]).answers[0].state == "ok"
            said = str(outcome(teacher)).replace(server.url.split("/")[2], "HOST")
            told.append((said, len(made), len(server.seen)))
    (one, kept, asked), (other, none_kept, as_often) = told
    assert (kept, none_kept) == (1, 0)
    assert (one, asked) == (other, as_often)
    assert KEY not in one


def test_a_later_request_has_the_headers_of_the_first_and_a_body_of_its_own(kind: str) -> None:
    with FakeServer() as server:
        teacher = teacher_at(server, kind)
        texts = ["some sports", "business as usual in the whole wide world", "ünïcödé \N{SOCCER BALL}"]
        for text in texts:
            teacher.answer([text])
    first, *later = [{name: value for name, value in each.items() if name != "content-length"} for each in seen(server)]
    assert later == [first, first]
    for text, body in zip(texts, server.seen, strict=True):
        assert text in str(body)


def seen(server: FakeServer) -> list[dict[str, str]]:
    """The headers of each request, lower case."""
    return [{name.lower(): value for name, value in each.items()} for each in server.headers]


def test_the_sdk_is_asked_to_make_a_request_only_once(kind: str) -> None:
    with FakeServer() as server:
        teacher = teacher_at(server, kind)
        line = teacher._server._sdk_client  # type: ignore[attr-defined]
        made, post = [], line._offline.post
        line._offline.post = lambda *given, **named: made.append(1) or post(*given, **named)
        for number in range(5):
            teacher.answer([f"sports {number}"])
        assert len(made) == 1
        assert len(server.seen) == 5
