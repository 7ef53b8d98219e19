"""PyTorch's threads follow the idle cores while something is computed, and are afterwards what they were before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from potstill.models import threads

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "_last", threads._Count())
    yield
    torch.set_num_threads(before)


def test_threads_follow_the_idle_cores_and_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = iter([1, 2, 8])
    monkeypatch.setattr(threads, "idle_cores", lambda: next(idle))
    with threads.idle_threads() as follow:
        assert torch.get_num_threads() == 1
        follow()
        assert torch.get_num_threads() == 1  # counted a moment ago
        threads._last.counted_at -= threads.REFRESH_S
        follow()
        assert torch.get_num_threads() == 2
        threads._last.counted_at -= threads.REFRESH_S
        follow()
        assert torch.get_num_threads() == 3  # never more than before
    assert torch.get_num_threads() == 3


def test_an_error_restores_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "idle_cores", lambda: 1)
    with pytest.raises(KeyError), threads.idle_threads():
        raise KeyError
    assert torch.get_num_threads() == 3


def test_few_rows_and_one_thread_count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "idle_cores", lambda: pytest.fail("counted"))
    with threads.idle_threads(threads.FEW_ROWS - 1) as follow:
        follow()
        assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    with threads.idle_threads() as follow:
        follow()
        assert torch.get_num_threads() == 1


def test_training_and_scoring_follow_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from potstill.students.backbone import predict_batches

    used: list[int] = []
    monkeypatch.setattr(threads, "idle_cores", lambda: 2)
    linear = torch.nn.Linear(1, 1)

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return linear(mask.float()[:, :1])

    forward.__self__ = linear  # type: ignore[attr-defined]
    predict_batches(forward, [np.ones(3, dtype=np.int64)] * threads.FEW_ROWS, 0)
    assert set(used) == {2}
