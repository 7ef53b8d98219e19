"""The openai teacher end to end on a real language model: llama.cpp's own server, on loopback, with real weights.

SmolLM2 follows no instructions well: what is tested is the exchange, the schemas and the figures, not what is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from potstill.data.pairs import join_pair
from potstill.data.task import Feedback, GenerationRequest, LabelledText, StudentPrediction, Task
from potstill.teachers.base import TeacherSetup
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions

xllamacpp = pytest.importorskip("xllamacpp")

TASK = Task(("sports", "cooking"))
TEXTS = ("The striker scored twice in the final match.", "Fry the onions in butter and add the garlic.")


@pytest.fixture(scope="module")
def url(smollm2: Path) -> Iterator[str]:
    params = xllamacpp.CommonParams()
    params.model.path = str(smollm2)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 1024, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity, params.ui = False, -1, False
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


def teacher(url: str, **options: object) -> ChatTeacher:
    examples = [
        LabelledText("A goal in the last minute.", "sports"),
        LabelledText("Bake the bread for an hour.", "cooking"),
    ]
    prices = {"usd_per_hour": 0.1}
    return open_teacher(
        TeacherSetup(TASK, "smollm2", examples, {"base_url": url, "parallel": 1, **options}, PriceOptions.parse(prices))
    )


def test_a_real_server_gives_soft_labels_and_real_usage(url: str) -> None:
    asked = teacher(url)
    for text in TEXTS:
        bound, reply = asked.max_usage([text]), asked.answer([text])
        answer = reply.answers[0]
        assert (answer.state, answer.how) == ("ok", "logprobs"), answer
        assert np.exp(answer.scores).sum() == pytest.approx(1, abs=1e-3)  # type: ignore[arg-type]
        assert 20 < reply.usage.input_tokens <= bound.input_tokens
        assert 0 < reply.usage.output_tokens <= bound.output_tokens
        assert 0 < reply.usage.seconds <= bound.seconds


def test_all_kinds_of_tasks_get_answers_in_the_form_of_their_schema(url: str) -> None:
    """No examples, so that nothing but the enforced schema keeps the model to the codes."""
    setup = {"options": {"base_url": url, "parallel": 1}, "prices": PriceOptions.parse({"usd_per_hour": 0.1})}
    pair = open_teacher(TeacherSetup(Task(("same", "other"), kind="pair"), "any", **setup))
    several = open_teacher(TeacherSetup(Task(("sports", "cooking", "money"), kind="multi"), "any", **setup))
    (first,), (second,) = pair.answer([join_pair(*TEXTS)]).answers, several.answer([TEXTS[0]]).answers
    assert (first.state, first.how, len(first.scores)) == ("ok", "logprobs", 2), first
    assert json.loads(first.raw)["label"] in ("A", "B")
    assert (second.state, second.how, len(second.scores)) == ("ok", "one-hot", 3), second
    assert set(json.loads(second.raw)["labels"]) <= {"A", "B", "C"}


def test_the_servers_list_of_models_is_read_and_no_key_is_needed(url: str) -> None:
    status = teacher(url).model_status()
    assert not status.problem
    assert not status.ends
    assert status.others  # the server answers whatever name it is given


def test_a_text_longer_than_the_context_is_refused_by_the_real_server(url: str) -> None:
    answer = teacher(url).answer(["many words " * 3000]).answers[0]
    assert answer.state == "refused", answer


def test_a_real_server_writes_or_leaves_the_draft_empty(url: str) -> None:
    asked = teacher(url, generation_max_tokens=64)
    brief = GenerationRequest("sports", 2)
    draft = asked.generate(brief)
    assert len(draft.texts) <= 2
    assert draft.usage.output_tokens <= asked.max_generation_usage(brief).output_tokens


def test_a_brief_with_feedback_gets_texts_of_several_labels_in_its_schema(url: str) -> None:
    asked = teacher(url, generation_max_tokens=48)
    feedback = Feedback(incorrect=[StudentPrediction("The match was cooked.", "sports", "cooking", 0.7)])
    brief = GenerationRequest("", 2, [LabelledText("A goal in the last minute.", "sports")], feedback=feedback)
    draft = asked.generate(brief)
    assert 0 < draft.usage.output_tokens <= asked.max_generation_usage(brief).output_tokens
    assert {each.label for each in draft.texts} <= {*TASK.labels, ""}
