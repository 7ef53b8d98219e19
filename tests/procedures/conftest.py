"""A world to write in: its pool, what a replay teacher (a simulation) knows of it, and a run that is begun in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.keyword_task import world
from support.toy_data import LABELS, OpenRun, table

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.run.run import Run
from potstill.run.spec import Spec


@pytest.fixture(scope="module")
def pool() -> Pool:
    rows = [*table(12, 1, "train"), *table(25, 2, "validation"), *table(100, 3, "test")]
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "split")}
    return build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split")).pool


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("known") / "known.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in table(150, 4, "")), encoding="utf-8")
    return path


@pytest.fixture
def begin(tmp_path: Path, pool: Pool, known: Path) -> OpenRun:
    def opened(name: str = "run", given: Pool = pool, *, budget: float = 1, teacher: Any = None, **options: Any) -> Run:
        replay = {"name": "replay", "file": str(known), "generate_from": str(known), "accuracy": 0.95}
        record = {
            "budget": budget,
            "teacher": teacher or {**replay, "usd_per_million_tokens": 1.0},
            "student": {"name": "linear", "c": 3.0},
            "prices": {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2}},
            "procedure": {"name": "pgkd", "rounds": 3, **options},
        }
        return Run.open(tmp_path / name, Spec.from_dict(record), Task(given.labels, name="world"), given)

    return opened


@pytest.fixture(scope="module")
def keyword_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("known") / "known.jsonl"
    table = world(200)
    rows = zip(table["text"], table["label"], strict=True)
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows), encoding="utf-8")
    return path
