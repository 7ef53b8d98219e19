"""What the tests of a run with a chat teacher share: a stand-in server, and texts for it to label."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.chat_server import FakeServer
from support.chat_teacher import TASK

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table


@pytest.fixture(scope="session")
def pool() -> Pool:
    """Twenty texts of each label that name it; eight of all are gold."""
    rows = [(f"{label} number {i}", label) for i in range(20) for label in TASK.labels]
    table = Table.from_columns({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    return build_pool(table, options=PoolOptions(gold=8)).pool


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A stand-in that answers rightly unless a test says otherwise."""
    with FakeServer() as server:
        yield server
