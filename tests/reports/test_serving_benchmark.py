"""reports/serving_benchmark.py and serving_table.py: the cost of serving, and the source of each figure."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.chat_server import FakeServer
from support.toy_data import LABELS, table

from potstill import cli
from potstill.api import bench
from potstill.bundle.bundle import load
from potstill.bundle.text_columns import named_columns
from potstill.data.pairs import join_pair
from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData, BadInput, RunNotFound
from potstill.evaluation.energy import EnergyMeter, cpu_meter, gpu_meter
from potstill.evaluation.latency import measure_latency
from potstill.procedures.kd import kd
from potstill.reports.finish_run import finish_run
from potstill.reports.serving_benchmark import benchmark_serving, read_sample_texts
from potstill.reports.serving_table import ServingRow, ServingTable, break_even
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.teachers.base import TeacherCapabilities


def distilled(folder: Path, teacher: dict[str, Any], prices: dict[str, Any] | None = None) -> Path:
    rows = [*table(10, 1, "train"), *table(5, 2, "pool"), *table(10, 3, "test")]
    columns = {name: [row[name] for row in rows] for name in ("text", "label", "split")}
    pool = build_pool(Table.from_columns(columns), labels=LABELS, options=PoolOptions(split="split")).pool
    spec = Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear", "prices": prices or {}})
    with Run.open(folder, spec, Task(LABELS, name="world"), pool) as run:
        finish_run(run, kd(run))
    return folder


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    known = folder / "known.jsonl"
    rows = [*table(5, 2, "pool"), *table(10, 1, "train"), *table(10, 3, "test")]
    known.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return distilled(folder / "run", {"name": "replay", "file": str(known), "usd_per_million_tokens": 5.0})


# --- whole runs ---------------------------------------------------------------------------------------------


def test_a_run_is_timed_and_priced_beside_its_teacher(replayed: Path) -> None:
    found = benchmark_serving(replayed)
    student, teacher = found.rows
    assert (student.name, teacher.role) == ("student fp32", "teacher")
    assert student.texts_per_s
    assert student.batch_s
    assert student.p50_ms
    assert student.p99_ms
    assert student.usd_per_million
    assert teacher.usd_per_million
    assert teacher.usd_per_million > student.usd_per_million
    assert "the run's calls" in teacher.price_from
    assert found.break_even is not None
    assert found.break_even.predictions
    assert found.texts >= 64


def test_a_simulated_teacher_is_not_timed_and_is_called_simulated(replayed: Path) -> None:
    found = benchmark_serving(replayed)
    assert found.rows[1].texts_per_s is None
    assert "imulation" in found.simulation
    assert "imulation" in found.to_text()
    assert {each.quantity for each in found.ratios} == {"price of a text"}


def test_a_teacher_behind_an_api_has_the_times_of_the_runs_calls_and_is_not_asked_again(tmp_path: Path) -> None:
    with FakeServer() as server:
        prices = {"m": {"usd_per_million_input": 10, "usd_per_million_output": 10}}
        folder = distilled(tmp_path / "run", {"name": "openai:m", "base_url": server.url}, prices)
        asked = len(server.seen)
        found = benchmark_serving(folder)
        assert len(server.seen) == asked
    teacher = found.rows[-1]
    assert teacher.device == "elsewhere"
    assert "the run's calls" in teacher.speed_from
    assert "the run's calls" in teacher.price_from
    assert teacher.texts_per_s
    assert {each.quantity for each in found.ratios} == {"price of a text"}


def test_a_teacher_on_this_machine_is_asked_again_and_timed_as_the_student_is(
    replayed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Here:
        name, category, simulated, parallel, batch_size = "local:m", "llm", False, 1, 16
        capabilities = TeacherCapabilities()
        metadata: dict[str, Any] = {"model": "m"}  # noqa: RUF012

        def answer(self, texts: Sequence[str]) -> None:
            asked.append(len(texts))
            time.sleep(0.001)

    monkeypatch.setattr("potstill.reports.serving_benchmark.open_teacher", lambda *a, **b: Here())
    found = benchmark_serving(replayed, usd_per_hour=1.0)
    student, teacher = found.rows
    assert max(asked) == 16
    assert teacher.device == student.device
    assert "measured here" in teacher.speed_from
    assert {each.quantity for each in found.ratios} == {"time of 64 texts", "time of a text in bulk", "price of a text"}
    assert teacher.usd_per_million == pytest.approx(1e6 / 3600 / (teacher.texts_per_s or 1), rel=1e-3)


def test_where_nothing_was_asked_the_price_list_speaks(tmp_path: Path) -> None:
    with FakeServer() as server:
        prices = {"m": {"usd_per_million_input": 10, "usd_per_million_output": 10}}
        folder = distilled(tmp_path / "run", {"name": "openai:m", "base_url": server.url}, prices)
    import sqlite3

    with sqlite3.connect(folder / "run.sqlite") as db:
        db.execute("UPDATE calls SET mode = 'generate' WHERE teacher = 'openai:m'")
    teacher = benchmark_serving(folder).rows[-1]
    assert "price list" in teacher.price_from
    assert teacher.usd_per_million
    assert teacher.texts_per_s is None


def test_a_bundle_alone_needs_texts_and_has_no_break_even(replayed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--texts"):
        benchmark_serving(replayed / "bundle")
    given_ = tmp_path / "texts.csv"
    given_.write_text("text\n" + "\n".join(f"some words {i}" for i in range(70)), encoding="utf-8")
    found = bench(replayed / "bundle", texts=given_, usd_per_hour=2.0)
    assert found.break_even is None
    assert found.texts == 70
    assert "$2.0/hour" in found.rows[0].price_from


def test_no_run_no_bundle_no_column_is_one_sentence(tmp_path: Path, replayed: Path) -> None:
    with pytest.raises(RunNotFound):
        benchmark_serving(tmp_path)
    file = tmp_path / "texts.csv"
    file.write_text("text\na\n", encoding="utf-8")
    record = load(replayed).record
    with pytest.raises(BadData, match="no column 'txt'"):
        read_sample_texts(file, record, ("txt",))
    with pytest.raises(BadInput, match="compares two"):
        named_columns("text", None, pairs=True)
    with pytest.raises(BadData, match="no text in"):
        file.write_text("text,more\n,\n ,b\n", encoding="utf-8")
        read_sample_texts(file, record, ("text",))


def test_pairs_are_read_from_two_columns(replayed: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("one,two\na b,c d\ne,\n", encoding="utf-8")
    record = replace(load(replayed).record, task=Task(("same", "other"), kind="pair"), text_columns=("one", "two"))
    assert read_sample_texts(file, record) == (join_pair("a b", "c d"),)


def test_the_texts_to_time_on_are_those_of_the_column_it_was_trained_on(replayed: Path, tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    file.write_text("title,description\nshort words,the words that were learnt\n", encoding="utf-8")
    record = replace(load(replayed).record, text_columns=("description",))
    sentences: list[str] = []
    assert read_sample_texts(file, record, reporter=sentences.append) == ("the words that were learnt",)
    assert sentences == ["Texts are read from the column 'description' of tickets.csv."]
    assert read_sample_texts(file, record, ("title",)) == ("short words",)


def test_the_command_prints_a_table_or_json(replayed: Path) -> None:
    result = CliRunner().invoke(cli.app, ["bench", str(replayed)])
    assert result.exit_code == 0, result.output
    assert "Break-even" in result.stdout
    record = json.loads(CliRunner().invoke(cli.app, ["bench", str(replayed), "--json"]).stdout)
    assert record["format"] == 2
    assert record["rows"][0]["role"] == "student"
    assert record["break_even"]["charged_usd"] > 0


# --- the records --------------------------------------------------------------------------------------------

STUDENT = ServingRow(name="s", role="student", device="cpu", batch_s=0.1, texts_per_s=640.0, usd_per_million=0.5)
TEACHER = replace(STUDENT, name="t", role="teacher", batch_s=10.0, texts_per_s=6.4, usd_per_million=100.5)


def serving(*rows: ServingRow) -> ServingTable:
    return ServingTable(source="run", texts=64, texts_from="given", mean_characters=50.0, rows=rows)


def test_times_of_two_devices_are_never_divided() -> None:
    same = serving(STUDENT, TEACHER).ratios
    assert {each.quantity: round(each.ratio) for each in same} == {
        "time of 64 texts": 100,
        "time of a text in bulk": 100,
        "price of a text": 201,
    }
    other = serving(STUDENT, replace(TEACHER, device="gpu")).ratios
    assert [each.quantity for each in other] == ["price of a text"]
    assert other[0].device == "gpu / cpu"


@given(
    charged=st.floats(0, 1e4),
    student=st.floats(0, 1e3),
    dearer=st.floats(0.01, 1e5),
)
def test_at_the_break_even_and_not_before_the_savings_reach_what_was_charged(
    charged: float, student: float, dearer: float
) -> None:
    found = break_even(
        charged,
        replace(STUDENT, usd_per_million=student),
        replace(TEACHER, usd_per_million=student + dearer),
    )
    assert found is not None
    assert found.predictions is not None
    saved = (student + dearer - student) / 1e6
    assert found.predictions * saved >= charged * (1 - 1e-6)
    assert (found.predictions - 1) * saved <= charged * (1 + 1e-6)


def test_a_dearer_student_never_pays_and_without_a_teacher_there_is_nothing_to_pay_for() -> None:
    dear = break_even(1.0, replace(STUDENT, usd_per_million=200.0), TEACHER)
    assert dear is not None
    assert dear.predictions is None
    assert "not cheaper" in dear.reason
    unknown = break_even(1.0, STUDENT, replace(TEACHER, usd_per_million=None))
    assert unknown is not None
    assert "unknown" in unknown.reason
    assert break_even(1.0, STUDENT, None) is None


# --- the clock and the meter --------------------------------------------------------------------------------


def test_batches_have_sixty_four_texts_and_joules_are_those_of_all_texts() -> None:
    sizes: list[int] = []
    read = iter([0.0, 50.0])

    def predict(texts: Sequence[str]) -> None:
        sizes.append(len(texts))

    found = measure_latency(
        predict, ["a"] * 10, seconds=0.0, batch=True, meter=EnergyMeter("a counter", lambda: next(read))
    )
    assert sizes[:3] == [10, 10, 64]
    assert set(sizes[3:]) == {1}
    assert found.n_single == len(sizes) - 3
    assert found.joules_per_text == pytest.approx(5.0)


def test_rapl_counts_whole_packages_and_begins_again_at_its_range(tmp_path: Path) -> None:
    assert cpu_meter(tmp_path) is None
    for name, start in (("intel-rapl:0", 900), ("intel-rapl:1", 100), ("intel-rapl:0:0", 5)):
        package = tmp_path / name
        package.mkdir()
        (package / "max_energy_range_uj").write_text("1000\n")
        (package / "energy_uj").write_text(f"{start}\n")
    meter = cpu_meter(tmp_path)
    assert meter is not None
    assert "2 package" in meter.source
    before = meter.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("200\n")
    assert meter.read() - before == pytest.approx(250e-6)
    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").unlink()
    assert cpu_meter(tmp_path) is None


def test_without_nvml_no_gpu_is_metered() -> None:
    assert gpu_meter("libno-such-library.so") is None
