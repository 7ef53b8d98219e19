"""Labelling files: columns stay, bad rows are listed, and a job that was stopped continues to the same result."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.bundle import label_file as labelling
from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import export
from potstill.bundle.label_file import label_file
from potstill.data.task import Task
from potstill.errors import BadData, BadInput
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.testing import StudentContract

LESSON = StudentContract().training_data()
LABELS = StudentContract.labels
TEXTS = list(LESSON.texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelling") / "bundle"
    student = LinearStudent(StudentConfig(LABELS)).fit(TrainingData(TEXTS, LESSON.targets))
    gold = np.tile(LESSON.targets.argmax(axis=1), 4)
    export(student, folder, task=Task(LABELS), texts=TEXTS * 4, gold=gold, calibrate=True)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load(folder)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "BLOCK", 10)


def table(path: Path, n: int = 95) -> Path:
    rows = [{"id": str(i), "text": TEXTS[i % len(TEXTS)], "who": f"é, {i}"} for i in range(n)]
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, ["id", "text", "who"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def after(blocks: int) -> Callable[[float, float], None]:
    """A progress that stops the job there, as Ctrl-C would."""

    def stop(done: float, total: float) -> None:
        if done >= 10 * blocks:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
def test_every_kind_keeps_its_columns_and_gets_the_new_ones(
    bundle: Bundle, tmp_path: Path, source: str, target: str
) -> None:
    path = table(tmp_path / f"in{source}")
    if target == ".parquet":
        pytest.importorskip("pyarrow")
    done = label_file(bundle, path, out=tmp_path / f"out{target}", coverage=0.9)
    rows = read(done.file)
    assert done.n == len(rows) == 95
    assert list(rows[0]) == ["id", "text", "who", "predicted", "confidence", "confident", "in_scope", "label_set"]
    assert [row["who"] for row in rows] == [f"é, {i}" for i in range(95)]
    assert [row["predicted"] for row in rows] == bundle.predict([row["text"] for row in rows])
    first = next(bundle.iter_predictions([rows[0]["text"]]))
    confident, labels = rows[0]["confident"], rows[0]["label_set"]
    if target == ".csv":
        confident, labels = json.loads(confident), json.loads(labels)
    assert (confident, float(rows[0]["confidence"])) == (first.confident, round(first.probability, 4))
    assert tuple(labels) == bundle.predict_sets([rows[0]["text"]])[0]
    assert not [file for file in tmp_path.iterdir() if file not in (path, done.file)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.usefixtures("small_blocks")
def test_a_job_that_is_stopped_continues_to_the_same_file(
    bundle: Bundle, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / f"in{suffix}")
    whole = label_file(bundle, path, out=tmp_path / f"whole{suffix}").file
    out = tmp_path / f"out{suffix}"
    asked: list[int] = []
    honest = bundle.predict_logits
    monkeypatch.setattr(bundle, "predict_logits", lambda texts: asked.append(len(texts)) or honest(texts))
    for stop in (3, 3, 7):
        with pytest.raises(KeyboardInterrupt):
            label_file(bundle, path, out=out, progress=after(stop))
        assert not out.exists()
        assert (tmp_path / f"out{suffix}.part").exists()
    done = label_file(bundle, path, out=out)
    assert sum(asked) == 95  # no text was asked about twice
    assert "70 rows had been labelled before" in done.notes[-1]
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"out{suffix}.part").exists()


@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_changed_meanwhile_is_labelled_as_it_is_now(bundle: Bundle, tmp_path: Path) -> None:
    path, out = table(tmp_path / "in.csv"), tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        label_file(bundle, path, out=out, progress=after(5))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[25] = '24,"' + TEXTS[0] + '",changed\r\n'
    path.write_text("".join(lines), encoding="utf-8", newline="")
    done = label_file(bundle, path, out=out)
    assert "20 rows had been labelled" in done.notes[-1]
    rows = read(out)
    assert [row["predicted"] for row in rows] == bundle.predict([row["text"] for row in rows])
    assert rows[24]["who"] == "changed"


@pytest.mark.usefixtures("small_blocks")
def test_another_wish_starts_afresh(bundle: Bundle, tmp_path: Path) -> None:
    path, out = table(tmp_path / "in.csv"), tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        label_file(bundle, path, out=out, progress=after(5))
    done = label_file(bundle, path, out=out, coverage=0.8)
    assert not any("labelled before" in note for note in done.notes)
    assert "label_set" in read(out)[0]


@pytest.mark.usefixtures("small_blocks")
def test_bad_rows_are_left_out_and_listed_by_line(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    bad = {7: "3,too,many,cells\n", 12: "only one\n", 40: 'a,"quo"te",b\n'}
    lines = ["id,text,who\n"] + [f'{i},"{TEXTS[i % 30]}",w\n' for i in range(60)]
    path.write_text("".join(bad.get(i + 1, line) for i, line in enumerate(lines)), encoding="utf-8")
    done = label_file(bundle, path, out=tmp_path / "out.csv", columns=("text",))
    rows = read(done.file)
    assert done.n == len(rows) == 57
    assert done.notes[0].startswith("3 bad rows left out: line 7 has 4 cells")
    listed = (tmp_path / "out.csv.bad.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1] for line in listed] == ["7", "12", "40"]
    assert [row["predicted"] for row in rows] == bundle.predict([row["text"] for row in rows])
    path.write_text("".join(lines), encoding="utf-8")
    label_file(bundle, path, out=tmp_path / "out.csv", columns=("text",))
    assert not (tmp_path / "out.csv.bad.txt").exists()  # mended


def test_many_bad_rows_are_counted_and_few_shown(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"text": "{TEXTS[0]}"}}\nnonsense\n' for _ in range(50)), encoding="utf-8")
    done = label_file(bundle, path, out=tmp_path / "out.jsonl")
    assert done.n == 50
    assert "50 bad rows left out" in done.notes[0]
    assert "and 45 more" in done.notes[0]


def test_a_file_of_bad_rows_only_is_refused_and_nothing_is_written(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("nonsense\nmore\n", encoding="utf-8")
    with pytest.raises(BadData, match=r"none of its 2 rows can be read \(line 1 is not JSON"):
        label_file(bundle, path, out=tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_columns_that_appear_late_are_kept(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [{"text": TEXTS[i]} for i in range(5)] + [{"text": TEXTS[5], "late": "x"}, {"late": "y"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = label_file(bundle, path, out=tmp_path / "out.jsonl")
    assert [row["late"] for row in read(done.file)] == [None] * 5 + ["x", "y"]
    assert "1 of the texts were empty." in done.notes


def test_json_lines_keep_their_numbers_truths_and_lists(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    row = {"id": 7, "score": -1.5e3, "ok": True, "tags": ["é", 1, {"n": [2.5]}], "zip": "007", "none": None}
    path.write_text(json.dumps({"text": TEXTS[0], **row}) + "\n", encoding="utf-8")
    written = read(label_file(bundle, path, out=tmp_path / "out.jsonl").file)[0]
    assert {name: written[name] for name in row} == row
    assert type(written["ok"]) is bool


def test_parquet_keeps_its_types_unless_a_column_is_written_over(bundle: Bundle, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = {"text": TEXTS[:5], "n": [1, None, 3, 4, 5]}
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    done = label_file(bundle, tmp_path / "in.parquet", out=tmp_path / "out.parquet")
    assert pq.read_table(done.file)["n"].to_pylist() == rows["n"]
    pq.write_table(pa.table({**rows, "predicted": [0] * 5}), tmp_path / "in.parquet")
    again = label_file(bundle, tmp_path / "in.parquet", out=tmp_path / "out.parquet")
    assert pq.read_table(again.file)["predicted"].to_pylist() == bundle.predict(TEXTS[:5])


def test_columns_of_the_same_name_are_written_over_with_a_note(bundle: Bundle, tmp_path: Path) -> None:
    first = label_file(bundle, table(tmp_path / "in.csv")).file
    assert first == tmp_path / "in.labelled.csv"
    again = label_file(bundle, first)
    assert read(again.file) == read(first)
    assert "predicted, confidence" in again.notes[0]


def test_plain_lines_and_json_arrays_become_tables(bundle: Bundle, tmp_path: Path) -> None:
    lines, array = tmp_path / "a.txt", tmp_path / "b.json"
    lines.write_text("\n".join(TEXTS[:5]), encoding="utf-8")
    array.write_text(json.dumps([{"text": text} for text in TEXTS[:5]]), encoding="utf-8")
    assert label_file(bundle, lines).file.name == "a.labelled.csv"
    assert label_file(bundle, array).file.name == "b.labelled.jsonl"


@pytest.mark.usefixtures("small_blocks")
def test_progress_ends_with_all_rows(bundle: Bundle, tmp_path: Path) -> None:
    heard: list[tuple[float, float]] = []
    label_file(bundle, table(tmp_path / "in.csv"), progress=lambda done, total: heard.append((done, total)))
    assert heard == [*((i, 95) for i in range(10, 91, 10)), (95, 95)]


def test_what_cannot_be_done_is_refused_before_anything_is_written(bundle: Bundle, tmp_path: Path) -> None:
    path = table(tmp_path / "in.csv")
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (BadData, {"out": path}),
        (BadData, {"columns": ("nope",)}),
        (BadData, {"out": tmp_path / "out.xlsx"}),
        (BadData, {"out": tmp_path / "nowhere" / "out.csv"}),
        (BadInput, {"coverage": 1.5}),
    ]
    for error, options in wrong:
        with pytest.raises(error):
            label_file(bundle, path, **options)
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_outside_the_encoding_stop_it_before_the_first_prediction(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,text,who\r\n" + b"99,caf\xe9,x\r\n" * 5)
    monkeypatch.setattr(bundle, "predict_logits", lambda texts: pytest.fail("predicted"))
    with pytest.raises(BadData, match="is not UTF-8"):
        label_file(bundle, path)
    assert list(tmp_path.iterdir()) == [path]


def test_one_line_in_another_encoding_is_listed_as_a_bad_row(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,text,who\r\n" + "1,ein grünes Blatt,é\r\n2,rot,ö\r\n".encode() + b"3,caf\xe9,x\r\n")
    done = label_file(bundle, path)
    assert [row["id"] for row in read(done.file)] == ["1", "2"]
    assert "line 4" in done.file.with_name(f"{done.file.name}.bad.txt").read_text(encoding="utf-8")


def test_a_bundle_that_was_never_measured_adds_two_columns(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "potstill.json").read_text("utf-8"))
    import shutil

    shutil.copytree(folder, tmp_path / "plain")
    plain = {**record, "guarantees": None, "temperature": 1.0, "abstain_threshold": None}
    (tmp_path / "plain" / "potstill.json").write_text(json.dumps(plain), "utf-8")
    done = label_file(load(tmp_path / "plain"), table(tmp_path / "in.csv", 5))
    assert list(read(done.file)[0]) == ["id", "text", "who", "predicted", "confidence"]


@pytest.mark.parametrize("name", ["out.csv.part", "out.csv.bad.txt"])
def test_a_file_that_is_not_its_own_is_refused_and_kept(bundle: Bundle, tmp_path: Path, name: str) -> None:
    path = table(tmp_path / "in.csv", 5)
    (tmp_path / name).write_text("my own notes\n", encoding="utf-8")
    with pytest.raises(BadData, match="exists and is no") as refused:
        label_file(bundle, path, out=tmp_path / "out.csv")
    assert "-o" in refused.value.hint
    assert (tmp_path / name).read_text(encoding="utf-8") == "my own notes\n"
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["out.csv.part", "out.csv.bad.txt"])
@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_links_are_not_followed(bundle: Bundle, tmp_path: Path, name: str, exists: bool) -> None:
    path, victim = table(tmp_path / "in.csv", 5), tmp_path / "victim"
    if exists:
        victim.write_bytes(b"")
    try:
        (tmp_path / name).symlink_to(victim)
    except OSError:
        pytest.skip("no symbolic links here")
    with pytest.raises(BadData, match="is a symbolic link"):
        label_file(bundle, path, out=tmp_path / "out.csv")
    assert victim.exists() == exists
    assert not exists or victim.read_bytes() == b""


def test_a_journal_of_which_only_a_part_was_written_is_its_own(bundle: Bundle, tmp_path: Path) -> None:
    for part in (b"", b'{"jour', b'{"journal": 1, "rec'):
        (tmp_path / "out.csv.part").write_bytes(part)
        assert label_file(bundle, table(tmp_path / "in.csv", 5), out=tmp_path / "out.csv").n == 5


def test_formulas_are_guarded_on_request_and_numbers_stay(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('text,sum,who\n"=HYPERLINK(""http://a"")",-5.5,@me\na goal,+49,-\n', encoding="utf-8")
    plain = read(label_file(bundle, path, columns=("text",), out=tmp_path / "plain.csv").file)
    guarded = read(label_file(bundle, path, columns=("text",), out=tmp_path / "safe.csv", guard_formulas=True).file)
    assert [row["text"] for row in plain] == ['=HYPERLINK("http://a")', "a goal"]
    assert [row["text"] for row in guarded] == ['\'=HYPERLINK("http://a")', "a goal"]
    assert [(row["sum"], row["who"]) for row in guarded] == [("-5.5", "'@me"), ("+49", "'-")]
    assert [row["predicted"] for row in guarded] == [row["predicted"] for row in plain]


def test_columns_of_bytes_pass_through_and_are_named(bundle: Bundle, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    image = b"\xff\xd8\xff"
    source = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table({"text": [TEXTS[0]], "image": [image], "cost": [Decimal("0.5")]}), source)
    done = label_file(bundle, source, out=tmp_path / "out.parquet", columns=("text",))
    assert parquet.read_table(done.file)["image"].to_pylist() == [image]
    assert "Written as text: 'cost' (decimal128(1, 1))." in done.notes
    again = label_file(bundle, done.file, out=tmp_path / "again.parquet", columns=("text",))
    assert parquet.read_table(again.file)["image"].to_pylist() == [image]
    as_csv = label_file(bundle, source, out=tmp_path / "out.csv", columns=("text",))
    assert "The column 'image' holds bytes, not text; they are written as base64." in as_csv.notes
    assert read(as_csv.file)[0]["image"] == "/9j/"
    with pytest.raises(BadData, match=r"'image' of .* holds bytes"):
        label_file(bundle, source, out=tmp_path / "no.csv", columns=("image",))
