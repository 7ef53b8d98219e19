"""Batches: what queued while the model was busy comes next, requests take turns, callers who left cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.served_bundles import GatedModel

from potstill.bundle.bundle import load
from potstill.errors import RequestRefused
from potstill.serving.batching import Batcher
from potstill.serving.limits import ServingLimits

LIMITS = ServingLimits(batch_tokens=160, queued_texts=100)  # ten short texts a batch


@pytest.fixture
def model(bundle_folder: Path) -> GatedModel:
    return GatedModel("small", load(bundle_folder, threads=1))


@pytest.fixture
def batcher(model: GatedModel) -> Iterator[Batcher]:
    batcher = Batcher(model, LIMITS)
    yield batcher
    batcher.close()
    for _ in range(50):
        model.gate.release()
    batcher.join(20)
    assert not batcher.alive


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def ask(batcher: Batcher, *texts: str, truncate: bool = True) -> asyncio.Task[Any]:
    ticket = batcher.submit(texts, truncate=truncate)
    assert ticket is not None
    return asyncio.ensure_future(batcher.wait(ticket))


async def entered(model: GatedModel) -> None:
    assert await asyncio.to_thread(model.entered.acquire, True, 20)


def test_what_queued_while_the_model_was_busy_is_the_next_batch(model: GatedModel, batcher: Batcher) -> None:
    async def test() -> None:
        first = ask(batcher, "a")
        await entered(model)
        others = [ask(batcher, text) for text in "bcdefg"]
        model.gate.release()
        await first
        await entered(model)
        assert model.batches == [["a"], list("bcdefg")]
        model.gate.release()
        for text, answer in zip("bcdefg", await asyncio.gather(*others), strict=True):
            np.testing.assert_allclose(answer.computed.probs, model.bundle.predict_proba([text]), atol=1e-6)
            assert answer.computed.tokens.shape == (1,)

    run(test)


def test_a_large_request_does_not_hold_back_small_ones(model: GatedModel, batcher: Batcher) -> None:
    """`TURN_TOKENS` is larger than a batch here, so that the large one fills the first batch alone."""

    async def test() -> None:
        large = ask(batcher, *[f"{i}" for i in range(35)])
        await entered(model)
        small = ask(batcher, "small")
        for _ in range(6):
            model.gate.release()
        assert (await small).computed.probs.shape == (1, 3)
        answer = await large
        assert [len(batch) for batch in model.batches[:2]] == [10, 10]
        assert any("small" in batch for batch in model.batches[:3])
        expected = model.bundle.predict_proba([f"{i}" for i in range(35)])
        np.testing.assert_allclose(answer.computed.probs, expected, atol=1e-6)

    run(test)


def test_a_long_text_is_not_starved_by_short_ones(model: GatedModel, batcher: Batcher) -> None:
    async def test() -> None:
        blocker = ask(batcher, "a")
        await entered(model)
        before = [ask(batcher, f"{i}") for i in range(5)]
        long = ask(batcher, "word " * 2000)  # many times a batch
        after = [ask(batcher, f"{i}") for i in range(20)]
        for _ in range(9):
            model.gate.release()
        await asyncio.gather(blocker, *before, long, *after)
        place = next(i for i, batch in enumerate(model.batches) if "word " * 2000 in batch)
        assert place == 2
        assert model.batches[place] == ["word " * 2000]

    run(test)


def test_a_caller_who_left_costs_no_inference(model: GatedModel, batcher: Batcher) -> None:
    async def test() -> None:
        first = ask(batcher, "a")
        await entered(model)
        gone, stays = ask(batcher, *["gone"] * 60), ask(batcher, "stays")
        await asyncio.sleep(0)
        assert batcher.waiting == 61
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting == 1
        model.gate.release()
        model.gate.release()
        await asyncio.gather(first, stays)
        assert model.batches == [["a"], ["stays"]]

    run(test)


def test_a_full_queue_refuses_and_says_when_to_come_back(model: GatedModel, batcher: Batcher) -> None:
    async def test() -> None:
        first = ask(batcher, "a")
        await entered(model)
        waiting = ask(batcher, *["b"] * 100)
        with pytest.raises(RequestRefused) as refused:
            batcher.submit(["c"])
        assert refused.value.reason == "busy"
        assert refused.value.retry_after_s
        for _ in range(11):
            model.gate.release()
        await asyncio.gather(first, waiting)
        assert batcher.waiting == 0

    run(test)


def test_a_text_that_fails_the_model_fails_no_other_request(model: GatedModel, batcher: Batcher) -> None:
    async def test() -> None:
        first = ask(batcher, "a")
        await entered(model)
        bad, good = ask(batcher, "poison"), ask(batcher, "good")
        for _ in range(4):
            model.gate.release()
        assert (await first).computed.probs.shape == (1, 3)
        assert (await good).computed.probs.shape == (1, 3)
        with pytest.raises(RequestRefused, match="ValueError") as refused:
            await bad
        assert refused.value.reason == "backend"
        assert "secret" not in str(refused.value)

    run(test)


def test_threads_share_what_waits_and_the_answer_keeps_the_order(bundle_folder: Path) -> None:
    model = GatedModel("small", load(bundle_folder, threads=2))
    batcher = Batcher(model, ServingLimits(batch_tokens=4096))
    texts = [f"{i} soup" for i in range(40)]

    async def test() -> None:
        while batcher._idle < 2:
            await asyncio.sleep(0.01)
        answer = ask(batcher, *texts)
        await entered(model)
        await entered(model)  # while the first batch is computed
        assert [len(batch) for batch in model.batches] == [20, 20]
        model.gate.release(2)
        np.testing.assert_allclose((await answer).computed.probs, model.bundle.predict_proba(texts), atol=1e-6)
        assert batcher.waiting == 0

    run(test)
    batcher.close()
    batcher.join(20)
    assert not batcher.alive


def test_what_waits_when_the_model_is_replaced_is_answered(model: GatedModel, batcher: Batcher) -> None:
    async def test() -> None:
        waiting = [ask(batcher, text) for text in "abc"]
        batcher.close()
        assert batcher.submit(["d"]) is None
        for _ in range(3):
            model.gate.release()
        assert len(await asyncio.gather(*waiting)) == 3

    run(test)
