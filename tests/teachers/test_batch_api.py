"""Batches: left, waited for and collected by the same command; held while they run, and settled at half the price."""

from __future__ import annotations

import math

import pytest
from support.batch_queue_run import ANTHROPIC, BOTH, OPENAI, Shop, right, texts, until_done, waits
from support.chat_server import Fault

from potstill.data.task import Task
from potstill.errors import Waiting
from potstill.teachers.base import DeferredTeacher

# --- the way of a batch -----------------------------------------------------------------------------------


@BOTH
def test_the_same_command_submits_waits_and_collects(shop: Shop) -> None:
    asked = texts(9)
    assert "0 of 8 requests are done; 1 of 9 texts have come back" in waits(shop, asked)
    assert "8 requests" in waits(shop, asked)
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))
    assert shop.bought() == sorted(asked)
    assert len(shop.queue.batches) == 1
    assert right(shop.visit(asked))
    assert shop.bought() == sorted(asked)


@BOTH
def test_a_batch_is_held_while_it_runs_and_charged_half_of_what_it_used(shop: Shop) -> None:
    asked = texts(9)
    waits(shop, asked)
    direct, batch = shop.calls()
    assert (direct.state, batch.state) == ("settled", "held")
    assert shop.totals().held == batch.held
    shop.queue.work(shop.server)
    shop.visit(asked)
    direct, batch = shop.calls()
    usage = batch.usage
    assert (usage.input_tokens, usage.output_tokens) == tuple(map(sum, zip(*shop.server.billed[1:], strict=True)))
    assert 0 < batch.charged == shop.price(usage, share=0.5) <= batch.held
    assert batch.charged == pytest.approx(shop.price(usage) / 2, abs=1)
    assert direct.charged == shop.price(direct.usage)
    assert shop.totals().held == 0


@BOTH
def test_it_is_a_deferred_teacher_that_still_answers_directly(shop: Shop) -> None:
    teacher = shop.teacher()
    assert isinstance(teacher, DeferredTeacher)
    reply = teacher.answer(["some sports"])
    assert reply.answers[0].state == "ok"
    assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(teacher.max_usage(["some sports"]))


@BOTH
def test_answers_are_the_same_as_asked_directly(shop: Shop) -> None:
    asked = texts(6)
    assert until_done(shop, asked) == [answer for text in asked for answer in shop.teacher().answer([text]).answers]


@BOTH
def test_a_batch_of_label_sets_gives_the_same_answers_as_direct_calls(shop: Shop) -> None:
    shop.task = Task(shop.task.labels, kind="multi")
    asked = ["world and sports", "business", "neither of them", "sports and business"]
    directly = [answer for text in asked for answer in shop.teacher().answer([text]).answers]
    assert until_done(shop, asked) == directly
    assert len(shop.queue.batches) == 1
    likely = [{i for i, score in enumerate(answer.scores or ()) if score > math.log(0.5)} for answer in directly]
    assert likely == [{0, 1}, {2}, set(), {1, 2}]


@BOTH
def test_two_batches_of_one_run_are_distinguished(shop: Shop) -> None:
    first, second = texts(4), [f"{text} again" for text in texts(6)]
    waits(shop, first)
    waits(shop, second)
    shop.queue.work(shop.server)
    assert right(shop.visit(second))
    assert right(shop.visit(first))
    assert len(shop.queue.batches) == 2


@BOTH
def test_a_text_answered_elsewhere_is_not_waited_for_but_its_batch_is_still_booked(shop: Shop) -> None:
    asked = texts(4)
    waits(shop, asked)
    assert shop.visit([]) == []
    assert shop.totals().held > 0
    shop.queue.work(shop.server)
    assert shop.visit([]) == []
    assert shop.totals().held == 0
    assert right(shop.visit(asked))


@ANTHROPIC
def test_samples_are_requests_of_their_own_and_become_votes(shop: Shop) -> None:
    shop.options = {"samples": 3}
    asked = texts(4)
    waits(shop, asked)
    assert len(shop.queue.batches["batch-0"].requests) == 9
    answers = until_done(shop, asked)
    assert right(answers)
    assert {answer.how for answer in answers if answer} == {"votes"}


@OPENAI
def test_samples_of_one_request_become_votes_where_there_are_no_log_probabilities(shop: Shop) -> None:
    shop.server.ignores = frozenset({"logprobs"})
    shop.options = {"samples": 3}
    answers = until_done(shop, texts(4))
    assert {answer.how for answer in answers if answer} == {"votes"}
    assert all(body["n"] == 3 for body in shop.queue.batches["batch-0"].requests.values())


@OPENAI
def test_unsupported_features_are_detected_before_a_batch_is_submitted(shop: Shop) -> None:
    shop.server.refuses = frozenset({"logprobs", "temperature"})
    waits(shop, texts(4))
    sent = shop.queue.batches["batch-0"].requests.values()
    assert all("logprobs" not in body and "temperature" not in body for body in sent)


# --- limits -----------------------------------------------------------------------------------------------


@BOTH
def test_a_batch_has_at_most_as_many_requests_as_the_provider_accepts(shop: Shop) -> None:
    shop.options = {"max_batch_requests": 3}
    asked = texts(9)
    assert "3 batches" in waits(shop, asked)
    assert [len(batch.requests) for batch in shop.queue.batches.values()] == [3, 3, 2]
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))
    assert shop.bought() == sorted(asked)


@BOTH
def test_a_batch_has_at_most_as_many_bytes_as_the_provider_accepts(shop: Shop) -> None:
    teacher = shop.teacher()
    teacher._queue.max_bytes = 4000
    asked = texts(12)
    with pytest.raises(Waiting):
        shop.visit(asked, teacher)
    assert len(shop.queue.batches) > 1
    assert teacher.job_capacity(["x" * 5000, "y"]) == 1
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))


@OPENAI
def test_a_full_queue_gets_smaller_batches_until_all_texts_are_answered(shop: Shop) -> None:
    shop.queue.room = 4
    asked = texts(15)
    assert right(until_done(shop, asked))
    assert shop.bought() == sorted(asked)
    rejected = [batch for batch in shop.queue.batches.values() if batch.status == "failed"]
    assert len(rejected) >= 1
    assert {call.state for call in shop.calls()} == {"settled", "released"}


@BOTH
def test_a_queue_that_accepts_nothing_now_is_waited_for(shop: Shop) -> None:
    shop.queue.faults = {("POST", "batches"): Fault(429, message="too many batches")}
    assert "takes no batch now" in waits(shop, texts(4))
    assert shop.totals().held == 0
    shop.queue.faults = {}
    assert right(until_done(shop, texts(4)))


@BOTH
def test_the_budget_is_never_exceeded_and_buys_what_it_can(shop: Shop) -> None:
    teacher = shop.teacher()
    one = teacher.price.cost_micros(teacher.max_usage(["business number 100"]))
    shop.limit = one * 11 // 10
    answers = until_done(shop, texts(150))
    assert 1 < sum(answer is not None for answer in answers) < 150
    assert shop.totals().held == 0
    assert shop.totals().free < one


@OPENAI
def test_the_files_of_a_batch_are_deleted_once_its_answers_are_safe(shop: Shop) -> None:
    asked = texts(9)
    waits(shop, asked)
    assert any(shop.queue.files.values())
    shop.queue.work(shop.server, most=5, ends="expired")
    waits(shop, asked)
    # What waits now: the rest of the texts.
    assert len([lines for lines in shop.queue.files.values() if lines]) == 1
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))
    assert not any(shop.queue.files.values())


@OPENAI
def test_files_that_cannot_be_deleted_stay(shop: Shop) -> None:
    asked = texts(9)
    waits(shop, asked)
    shop.queue.work(shop.server)
    shop.queue.faults["DELETE", ""] = Fault(403, times=99)
    assert right(shop.visit(asked))
    assert any(shop.queue.files.values())
