"""Waits between tries are short in these tests; that they grow and are honoured is tested on their own."""

from __future__ import annotations

import pytest

from potstill.teachers import pace


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.01)
