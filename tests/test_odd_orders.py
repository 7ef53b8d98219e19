"""Odd orders by the command line: each ends with a result or with one sentence and its mend, never with a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from potstill import cli
from potstill.errors import PotstillError

DISTILL = ("--procedure", "finetune", "--student", "linear", "--budget", "0.5")
DIGITS, DEEP = "9" * 5000, "[" * 50_000
ROWS = "".join(f"Film {i} is {'fine' if i % 2 else 'dull'} and long,{'good' if i % 2 else 'bad'}\n" for i in range(40))
FILES = {
    "films.csv": f"text,label\n{ROWS}",
    "test.csv": "text,label,split\n" + "".join(row + ",test\n" for row in ROWS.splitlines()),
    "deep.json": DEEP,
    "deep_cell.json": f'[{{"text": {DEEP}{"]" * 50_000}, "label": "a"}}]',
    "deep.jsonl": f'{{"text": {DEEP}{"]" * 50_000}}}\n{{"text": "b"}}\n',
    "long_numbers.jsonl": f'{{"text": "a b", "label": {DIGITS}}}\n{{"text": [{DIGITS}], "label": {{"a": {DIGITS}}}}}\n',
    "long_numbers.csv": f"text,label\na b,{DIGITS}\nc d,1\ne f,1\ng h,{DIGITS}\n",
    "long_number.toml": f"budget = {DIGITS}\n",
    "deep.toml": f"a = {DEEP}",
    "large_seed.toml": f'budget = 1\nseed = {"9" * 30}\n[data]\nfile = "films.csv"\n',
    "large_limit.toml": f'budget = 1\n[data]\nfile = "films.csv"\nlimit = {"9" * 30}\ngold = {"9" * 25}\n',
    "nul.toml": 'budget = 1\n[data]\nfile = "a\\u0000b.csv"\n',
}
ORDERS = [
    *(("distill", "films.csv", *DISTILL, "--encoding", name) for name in ("idna", "punycode", "unicode_escape", "hex")),
    ("init", "films.csv", "--encoding", "raw_unicode_escape"),
    *(("init", name) for name in FILES if not name.endswith(".toml")),
    *(("plan", name, "-b", "1") for name in FILES),
    *(("distill", name, *DISTILL) for name in FILES if name not in ("films.csv", "large_limit.toml")),
    *(("compare", name) for name in ("long_number.toml", "deep.toml", "nul.toml", "films.csv", ".")),
    *(("label-errors", name) for name in ("deep.json", "long_numbers.csv")),
    *(("plan", "films.csv", "-b", "1", option, "9" * 26) for option in ("--seed", "--limit", "--gold", "--skip-rows")),
    *(("distill", "films.csv", *DISTILL, f"--usd-per-hour={price}") for price in ("nan", "1e999", "-1")),
    ("plan", "films.csv", "-b", "1e999999"),
    ("plan", "test.csv", "-b", "1", "--measure"),
    *((command, ".") for command in ("show", "ledger", "report", "bench", "annotate", "init", "distill", "plan")),
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files, which is the working one."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: object) -> Result:
    """A command; an error that is no sentence fails the test."""
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    error = result.exception
    assert error is None or isinstance(error, PotstillError | SystemExit), (arguments, repr(error)[:500])
    assert not isinstance(error, PotstillError) or (error.message and error.hint), arguments
    return result


def test_odd_orders_end_with_a_sentence(files: Path) -> None:
    for order in ORDERS:
        call(*order)


def test_a_plan_of_test_texts_alone_says_what_is_missing(files: Path) -> None:
    for command in (("plan", "test.csv"), ("distill", "test.csv", "--procedure", "finetune", "-o", "run")):
        assert "only texts to evaluate on" in str(call(*command, "-b", "1").exception)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold UTF-8 names alone")
def test_a_file_whose_name_is_not_utf_8_is_read_labelled_and_reported(files: Path) -> None:
    odd = Path(os.fsdecode(b"films\xff.csv"))
    odd.write_bytes((files / "films.csv").read_bytes())
    assert call("distill", odd, *DISTILL, "-o", "run").exit_code == 0
    assert "films" in (files / "run" / "report.html").read_text(encoding="utf-8")
    assert json.loads((files / "run" / "report.json").read_text(encoding="utf-8"))
    assert json.loads(call("report", "run", "--json").stdout)
    for more in ((), ("--json",)):
        assert call("predict", "run", odd, *more).exit_code == 0
    assert Path(os.fsdecode(b"films\xff.labelled.csv")).exists()
    call("init", odd, "-o", Path(os.fsdecode(b"\xfe.toml")))
    assert call("plan", odd, *DISTILL).exit_code == 0
    call("predict", os.fsdecode(b"\xff"), "a text")
    call("distill", os.fsdecode(b"\xff.csv"), *DISTILL)
    call("show", os.fsdecode(b"\xff"))


def test_a_place_that_cannot_be_is_one_sentence_in_a_real_shell(files: Path) -> None:
    command = [sys.executable, "-m", "potstill", "show", "x" * 300]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "file name too long" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_outputs_that_are_devices_or_folders_are_refused_and_left(files: Path) -> None:
    os.mkfifo("pipe.html")
    before = Path("/dev/null").stat()
    for place in ("/dev/null", "pipe.html", "."):
        assert isinstance(call("plan", "films.csv", *DISTILL, "--page", place, "--measure").exception, PotstillError)
        assert isinstance(call("init", "films.csv", "--force", "-o", place).exception, PotstillError)
    assert Path("/dev/null").stat().st_rdev == before.st_rdev
