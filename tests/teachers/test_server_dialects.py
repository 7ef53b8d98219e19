"""The shapes of vLLM and Ollama, which differ from OpenAI's: a stand-in answers as their documentation says.

llama.cpp's own server is tested itself, in test_openai_live.py.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from support.chat_server import FakeServer, Fault
from support.chat_teacher import TASK, likeliest, teacher_at

from potstill.data.task import GenerationRequest
from potstill.errors import TeacherError, UnknownPrice
from potstill.teachers.base import TeacherSetup
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions

HOURLY = PriceOptions.parse({"usd_per_hour": 0.1})


def as_vllm(done: dict[str, Any]) -> None:
    """A completion of vLLM with a reasoning parser: thinking beside the content, its tokens among the content's."""
    done["usage"]["prompt_tokens_details"] = None
    done |= {"prompt_logprobs": None, "kv_transfer_params": None, "service_tier": None}
    for choice in done["choices"]:
        choice |= {"stop_reason": None, "token_ids": None}
        choice["message"] |= {"reasoning": "A or B?", "tool_calls": [], "audio": None}
        if choice["logprobs"]:
            sure = [{"token": token, "logprob": 0.0, "bytes": None} for token in ("<think>", "A or B?", "</think>")]
            thought = [token | {"top_logprobs": [token, {**token, "token": "A"}]} for token in sure]
            choice["logprobs"]["content"][:0] = thought


def as_ollama(done: dict[str, Any]) -> None:
    """A completion of Ollama."""
    done |= {"id": "chatcmpl-1", "system_fingerprint": "fp_ollama"}
    del done["usage"]["prompt_tokens_details"]
    for choice in done["choices"]:
        choice["message"].pop("refusal")
        if choice["logprobs"] is None:
            del choice["logprobs"]


def server_teacher(server: FakeServer, model: str, **options: Any) -> Any:
    """A teacher on a server of this machine: no key, and this machine's time is the price."""
    return open_teacher(TeacherSetup(TASK, model, (), {"base_url": server.url, **options}, HOURLY))


@pytest.mark.parametrize(
    ("mutate", "ignores", "model"),
    [(as_vllm, frozenset(), "Qwen/Qwen2.5-1.5B-Instruct"), (as_ollama, frozenset({"n"}), "qwen2.5:1.5b-instruct")],
    ids=["vllm", "ollama"],
)
def test_labels_with_their_probabilities_and_texts_come_without_a_key(
    mutate: Any, ignores: frozenset[str], model: str
) -> None:
    with FakeServer(mutate=mutate, ignores=ignores, models=frozenset({model})) as server:
        teacher = server_teacher(server, model)
        reply = teacher.answer(["some sports"])
        votes = server_teacher(server, model, logprobs=False, samples=3).answer(["some sports"]).answers[0]
        texts = teacher.generate(GenerationRequest("sports", 2)).texts
        with pytest.raises(TeacherError, match="no model 'qwen'"):
            server_teacher(server, "qwen").answer(["some sports"])
    answer = reply.answers[0]
    assert (likeliest(answer), answer.how) == ("sports", "logprobs")
    assert math.exp(answer.scores[1]) == pytest.approx(math.e**2 / (math.e**2 + 2), abs=1e-3)
    assert (votes.state, votes.how) == ("ok", "votes")
    assert [each.text for each in texts] == ["one", "two"]
    assert 0 < reply.usage.seconds <= teacher.max_usage(["some sports"]).seconds


def test_a_price_has_to_be_given_for_a_server_of_this_machine() -> None:
    with pytest.raises(UnknownPrice) as refused:
        open_teacher(TeacherSetup(TASK, "qwen", (), {"base_url": "http://127.0.0.1:8000/v1"}))
    assert "usd_per_hour" in refused.value.hint


def test_more_alternatives_than_vllm_lists_are_asked_for_again_and_not_given_up() -> None:
    said = "Requested sample logprobs of 50, which is greater than max allowed: 20"
    with FakeServer(by_number={0: Fault(400, message=said)}) as server:
        answer = teacher_at(server, top_logprobs=50).answer(["some sports"]).answers[0]
    assert [body["top_logprobs"] for body in server.seen] == [50, 5]
    assert answer.how == "logprobs"


def test_a_chat_template_is_told_not_to_think_and_another_setting_is_another_teacher() -> None:
    with FakeServer() as server:
        plain, quiet = teacher_at(server), teacher_at(server, chat_template_kwargs={"enable_thinking": False})
        quiet.answer(["some sports"])
        plain.answer(["some sports"])
    assert server.seen[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in server.seen[1]
    assert plain.key != quiet.key


def test_a_server_that_takes_no_template_options_ends_the_run_before_anything_is_billed() -> None:
    said = "Unrecognized request argument supplied: chat_template_kwargs"
    with (
        FakeServer(by_number={0: Fault(400, message=said)}) as server,
        pytest.raises(TeacherError, match="refuses chat_template_kwargs") as refused,
    ):
        teacher_at(server, chat_template_kwargs={"enable_thinking": False}).answer(["some sports"])
    assert not refused.value.billed
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("model", "options", "most"),
    [
        ("gpt-6-luna", {}, 2048),
        ("gpt-6.1-terra", {"reasoning_effort": "low"}, 2048),
        ("gpt-6-luna", {"reasoning_effort": "none"}, 32),
        ("gpt-4o", {}, 32),
    ],
)
def test_a_reasoning_model_has_room_to_think_unless_it_may_not(
    model: str, options: dict[str, Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    teacher = open_teacher(TeacherSetup(TASK, model, (), options))
    requests = teacher.max_usage(["a text"]).output_tokens / most
    assert requests == int(requests) <= 4


def test_a_model_that_cannot_leave_reasoning_out_is_not_asked_to_reason_instead() -> None:
    said = Fault(400, message="Unsupported value: 'reasoning_effort' does not support 'none'", param="reasoning_effort")
    with FakeServer(by_number={0: said}) as server:
        teacher = open_teacher(
            TeacherSetup(TASK, "gpt-5-mini", (), {"base_url": server.url, "reasoning_effort": "none"}, HOURLY)
        )
        with pytest.raises(TeacherError, match="refuses reasoning_effort"):
            teacher.answer(["some sports"])
    assert len(server.seen) == 1
