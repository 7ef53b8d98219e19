"""What a provider may send without stopping a run: odd numbers, odd codes, odd bills. A stand-in sends it over HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.chat_server import FakeServer
from support.chat_teacher import PRICES, TASK

from potstill.data.pool import Pool
from potstill.data.task import Answer, Task
from potstill.errors import BoundExceeded, TeacherError
from potstill.ledger.prices import Usage
from potstill.ledger.store import AnswerCache, PaidAnswer
from potstill.run.notes import UnreadableReplies
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.teachers import anthropic, openai
from potstill.teachers.base import TeacherSetup
from potstill.teachers.price_options import PriceOptions

Mutation = Callable[[dict[str, Any]], object]


def open_run(folder: Path, server: FakeServer, pool: Pool, **options: Any) -> Run:
    teacher = {"name": "openai:m", "base_url": server.url, "parallel": 2, **options}
    spec = Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear", "prices": PRICES})
    return Run.open(folder, spec, Task(pool.labels), pool)


def _logprobs(done: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step in (done["choices"][0]["logprobs"] or {}).get("content") or ():
        yield step
        yield from step["top_logprobs"]


def set_logprobs(value: object) -> Mutation:
    return lambda done: [each.update(logprob=value) for each in _logprobs(done)]


def set_first_alternative(value: object) -> Mutation:
    def mutate(done: dict[str, Any]) -> None:
        next(each for each in _logprobs(done) if "top_logprobs" not in each)["logprob"] = value

    return mutate


@pytest.mark.parametrize("mutate", [set_logprobs, set_first_alternative])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "NaN", "x", None, [1.0]], ids=range(8))
def test_log_probabilities_that_are_no_numbers_are_none_and_the_run_opens_again(
    tmp_path: Path, server: FakeServer, pool: Pool, mutate: Callable[[object], Mutation], value: object
) -> None:
    server.mutate = mutate(value)
    texts = pool.subset("pool").texts[:3]
    with open_run(tmp_path / "run", server, pool) as run:
        answers = run.ask(run.teacher(), texts)
        assert answers.answered.all()
        assert set(answers.score_source) == {"one-hot"}
        spent = run.ledger.totals().charged
    with open_run(tmp_path / "run", server, pool) as run:
        assert run.ask(run.teacher(), texts).answered.all()
        assert run.ledger.totals().charged == spent
    with open_run(tmp_path / "second", server, pool) as second:
        assert second.ask(second.teacher(), texts).answered.all()
        assert second.ledger.totals().paid == 0
    assert len(server.seen) == 3


def test_a_row_with_nan_of_an_older_version_does_not_keep_a_run_closed_and_is_asked_again(
    tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    texts = pool.subset("pool").texts[:3]
    with open_run(tmp_path / "run", server, pool) as run:
        run.client._shared._cache = None  # as if the process had died before it could share
        run.ask(run.teacher(), texts)
        bad = json.dumps(Answer("ok", (math.nan, 0.0, -1.0)).to_json())
        run.store._db.execute("UPDATE results SET value = ? WHERE key = (SELECT MIN(key) FROM results)", (bad,))
        run.store._db.execute("INSERT INTO results SELECT 'broken', '{', call_id FROM results LIMIT 1")
    with open_run(tmp_path / "run", server, pool) as run:
        assert np.isfinite(run.ask(run.teacher(), texts).scores).all()
    assert len(server.seen) == 4


def test_the_cache_takes_no_row_that_is_no_json(tmp_path: Path) -> None:
    good = json.dumps(Answer("ok", (0.0, -1.0)).to_json())
    rows = [PaidAnswer(str(i), text, 1) for i, text in enumerate([good.replace("0.0", "NaN"), "", "{", "null", good])]
    cache = AnswerCache(tmp_path)
    cache.put(rows)
    assert list(cache.get("01234")) == ["4"]
    cache.close()


def test_the_store_refuses_what_is_no_json(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    with open_run(tmp_path / "run", server, pool) as run, pytest.raises(ValueError, match="JSON"):
        run.store.save({"key": [math.nan]})


ESCAPED = [r'{"label": "\u0041"}', r'{"\u006cabel": "A"}', r'"\u0041"', r'{"label": "\u0041"', '{"label": "\ud800"}']


@pytest.mark.parametrize(
    "reply", [*ESCAPED, "[" * 50_000, '{"label": ' + "9" * 5000 + "}", "\0", "A" * 10**6], ids=range(9)
)
@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"candidates": True}], ids=str)
def test_no_reply_stops_a_run(
    tmp_path: Path, server: FakeServer, pool: Pool, reply: str, options: dict[str, Any]
) -> None:
    server.mutate = lambda done: [choice["message"].update(content=reply) for choice in done["choices"]]
    with open_run(tmp_path / "run", server, pool, **options) as run:
        states = set(run.ask(run.teacher(), pool.subset("pool").texts[:3]).states)
    assert states == ({"ok"} if reply in ESCAPED[:2] else {"unparsable"})


def set_usage(**fields: object) -> Mutation:
    return lambda done: done.get("usage", {}).update(fields)


@pytest.mark.parametrize(
    "usage",
    [
        {"total_tokens": 5 * 10**18},
        {"total_tokens": 5e18},
        {"prompt_tokens": 10**30},
        {"completion_tokens": 10**30},
        {"prompt_tokens": 10**400},
        {"prompt_tokens": 10**12, "prompt_tokens_details": {"cached_tokens": 10**12}},
    ],
    ids=range(6),
)
def test_a_usage_that_cannot_be_true_is_charged_at_its_bound_and_stops_the_run_which_opens_again(
    tmp_path: Path, server: FakeServer, pool: Pool, usage: dict[str, Any]
) -> None:
    server.mutate = set_usage(**usage)
    texts = pool.subset("pool").texts[:6]
    with open_run(tmp_path / "run", server, pool, parallel=1) as run:
        with pytest.raises(BoundExceeded, match="cannot be true"):
            run.ask(run.teacher(), texts)
        call = run.store.calls()[0]
        assert call.charged == call.paid == call.held > 0
        assert "cannot be true" in call.description
    assert len(server.seen) == 1
    server.mutate = None
    with open_run(tmp_path / "run", server, pool, parallel=1) as run:
        assert run.ask(run.teacher(), texts).answered.all()
        assert run.ledger.totals().charged < run.ledger.limit
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": True}, {"prompt_tokens": math.nan}, {"prompt_tokens": -3}, {}], ids=str
)
def test_a_usage_that_is_no_number_is_charged_at_its_bound(
    tmp_path: Path, server: FakeServer, pool: Pool, usage: dict[str, Any]
) -> None:
    server.mutate = set_usage(**usage) if usage else lambda done: done.update(usage=[1])
    with open_run(tmp_path / "run", server, pool, parallel=1) as run:
        teacher = run.teacher()
        run.ask(teacher, pool.subset("pool").texts[:1])
        assert 0 < run.store.calls()[0].charged <= run.store.calls()[0].held


@pytest.mark.parametrize("parallel", [1, 4])
def test_after_the_first_overcharge_nothing_more_is_asked(
    tmp_path: Path, server: FakeServer, pool: Pool, parallel: int
) -> None:
    server.mutate, server.latency_s = set_usage(prompt_tokens=10**5), 0.05
    texts = pool.subset("pool").texts
    with open_run(tmp_path / "run", server, pool, parallel=parallel) as run:
        with pytest.raises(BoundExceeded, match="above the"):
            run.ask(run.teacher(), texts)
        seen = len(server.seen)
        assert seen <= parallel
        with pytest.raises(BoundExceeded, match="above the"):
            run.ask(run.teacher(), texts)
        assert len(server.seen) == seen
        assert {call.state for call in run.store.calls()} <= {"settled", "released"}


@pytest.mark.parametrize(("cached", "written"), [(5, None), (0.1, 7), (None, None)])
def test_the_bound_takes_the_dearest_rate_of_a_prompt(
    server: FakeServer, cached: float | None, written: float | None
) -> None:
    rates = {"usd_per_million_input": 1, "usd_per_million_output": 2}
    rates |= {"usd_per_million_cached": cached} if cached else {}
    rates |= {"usd_per_million_cache_write": written} if written else {}
    for open_kind, writes in [(openai.open_teacher, False), (anthropic.open_teacher, True)]:
        prices = PriceOptions.parse({"m": rates})
        teacher = open_kind(TeacherSetup(TASK, "m", options={"base_url": server.url}, prices=prices))
        usage = teacher.max_usage(["a text"])
        bound = teacher.price.cost_micros(usage)
        for all_cached in (False, True):
            n = usage.input_tokens
            real = Usage(
                n, n if all_cached else 0, usage.output_tokens, cache_write_tokens=0 if all_cached else n * writes
            )
            assert teacher.price.cost_micros(real) <= bound


def test_machine_time_while_the_process_was_stopped_is_not_charged(server: FakeServer) -> None:
    prices = PriceOptions.parse({"m": {"usd_per_hour": 3600}})
    options = {"base_url": server.url, "timeout_s": 0.5, "text_timeout_s": 1.0}
    teacher = openai.open_teacher(TeacherSetup(TASK, "m", options=options, prices=prices))
    began = teacher._timer._advance(0)
    assert began == 0
    send = teacher._server.send

    def stopped(request: Any) -> Any:
        teacher._timer._last -= 25  # as if the process had been stopped for so long
        return send(request)

    teacher._server.send = stopped  # type: ignore[method-assign]
    bound = teacher.price.cost_micros(teacher.max_usage(["some sports"]))
    assert teacher.price.cost_micros(teacher.answer(["some sports"]).usage) <= bound


@pytest.mark.parametrize("reply", ["I think it is the first.", "\x1b]52;c;x\x07 what?", ""], ids=range(3))
def test_a_dozen_replies_of_which_none_can_be_read_end_the_run_and_are_shown(
    tmp_path: Path, server: FakeServer, pool: Pool, reply: str
) -> None:
    server.mutate = lambda done: done["choices"][0]["message"].update(content=reply)
    with open_run(tmp_path / "run", server, pool, parallel=4) as run:
        with pytest.raises(TeacherError, match=r"None of the first 1\d replies") as caught:
            run.ask(run.teacher(), pool.subset("pool").texts)
        assert repr(reply[:5])[1:-1] in caught.value.message
        assert caught.value.message.isprintable()
        assert len(server.seen) <= 2 * (12 + 8)  # each is asked once more, and some were on their way
        server.mutate = None
        assert run.ask(run.teacher(), pool.subset("pool").texts[20:]).answered.all()
        (note,) = (each.record for each in run.notes() if isinstance(each.record, UnreadableReplies))
        assert note.n_unreadable >= 12
        assert note.replies == (" ".join(reply.split()),)
    server.mutate = lambda done: done["choices"][0]["message"].update(content=reply)
    seen = len(server.seen)
    with open_run(tmp_path / "run", server, pool, parallel=4) as run:
        with pytest.raises(TeacherError, match=r"None of the first 1\d replies"):
            run.ask(run.teacher(), pool.subset("pool").texts[:14])
        assert len(server.seen) == seen  # the stored replies say it already


def test_a_few_unreadable_replies_are_stored_for_the_report(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    texts = pool.subset("pool").texts[:9]

    def garble(done: dict[str, Any]) -> None:
        n = len(server.seen)
        if n > 3:
            done["choices"][0]["message"].update(content=f"what {n // 2}?" + "x" * 300)

    server.mutate = garble
    with open_run(tmp_path / "run", server, pool, parallel=1) as run:
        states = run.ask(run.teacher(), texts).state_counts
        (note,) = (each.record for each in run.notes() if isinstance(each.record, UnreadableReplies))
        assert note.n_unreadable == states["unparsable"] > 3
        assert len(set(note.replies)) == 3
        assert max(map(len, note.replies)) == 200
        run.ask(run.teacher(), texts)
        assert sum(isinstance(each.record, UnreadableReplies) for each in run.notes()) == 1


def test_one_reply_that_can_be_read_lets_the_others_be_unreadable(
    tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    texts = pool.subset("pool").texts
    with open_run(tmp_path / "run", server, pool) as run:
        run.ask(run.teacher(), texts[:1])
        server.mutate = lambda done: done["choices"][0]["message"].update(content="what?")
        assert set(run.ask(run.teacher(), texts[1:20]).states) == {"unparsable"}
