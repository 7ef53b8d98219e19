"""The runner of PGKD with a real writer: each cell is stored when it ends, a failed one with its reason."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.study import FILLER, TOPICS

BENCH = Path(__file__).parents[2] / "bench"
Command = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Command]:
    """The command on a tiny set, with a simulated writer and linear students; returns the stored rows."""
    monkeypatch.setattr(sys, "path", [str(BENCH / "papers"), str(BENCH), *sys.path])
    import pgkd_real

    monkeypatch.setattr(pgkd_real, "GOLD", 60)
    monkeypatch.setattr(pgkd_real, "VALIDATION", 20)
    write_set(tmp_path / "data" / "topics")

    def run(*arms: str, file: str = "known.csv", more: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        known = tmp_path / "data" / "topics" / file
        teacher = [f"file={known}", f"generate_from={known}", "usd_per_million_tokens=1", "generation_accuracy=0.7"]
        results = tmp_path / "results.json"
        asked = ["--data", tmp_path / "data", "--out", tmp_path / "runs", "--results", results, "--sets", "topics"]
        asked += ["--seeds", 0, "--teacher", "replay", "--student", "linear", "--arbiter", "linear", "--no-write"]
        asked += ["--rounds", 2, "--texts", 8, "--folds", 2, "--test", 30, *more, "--teacher-option", *teacher]
        monkeypatch.setattr(sys, "argv", ["pgkd_real.py", *map(str, asked), "--arms", *arms])
        pgkd_real.main()
        rows: list[dict[str, Any]] = json.loads(results.read_text())["rows"] if results.exists() else []
        return rows

    yield run
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(BENCH)):
            del sys.modules[name]


def write_set(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(0)
    rows = {
        (" ".join([*draw.choices(words, k=2), *draw.choices(FILLER, k=6)]), label)
        for label, words in TOPICS.items()
        for _ in range(120)
    }
    ordered = sorted(rows)
    draw.shuffle(ordered)
    for part, some in (("train", ordered[60:]), ("test", ordered[:60])):
        texts, labels = zip(*some, strict=True)
        pq.write_table(pa.table({"text": list(texts), "label": list(labels)}), folder / f"{part}.parquet")
    lines = [f"{text},{label}" for text, label in ordered]
    (folder / "known.csv").write_text("\n".join(["text,label", *lines]))


def test_a_cell_is_stored_with_what_was_written_and_not_run_again(command: Command, tmp_path: Path) -> None:
    rows = {row["arm"]: row for row in command("base", "pgkd", "sparse pgkd")}
    assert {row["state"] for row in rows.values()} == {"done"}
    assert rows["base"]["written"] is None
    pgkd = rows["pgkd"]
    assert len(pgkd["validation"]) == 3
    assert pgkd["written"]["n"] == 16
    assert 0.3 < pgkd["written"]["right"] < 1
    assert pgkd["accepted"]["n"] + sum(pgkd["rejected"].values()) == 16
    again = command("base", "pgkd", "sparse pgkd", more=("--max-hours", "-1"))  # nothing is begun
    assert {row["arm"]: row for row in again} == rows
    from pgkd_cells import page, read_rows

    text = page(read_rows(tmp_path / "results.json"))
    assert "| pgkd | 1 |" in text
    assert "16 |" in text


def test_a_cell_that_fails_says_why_and_the_same_command_runs_it_again(command: Command) -> None:
    first = {row["arm"]: row for row in command("labelling", "base", "pgkd", file="absent.csv")}
    assert first["labelling"]["state"] == first["pgkd"]["state"] == "failed"
    assert "seconds of the teacher in `pgkd`" in first["labelling"]["reason"]
    assert "absent.csv" in first["pgkd"]["reason"]
    assert first["base"]["state"] == "done"
    assert len(command("base", "pgkd", file="absent.csv")) == 3
