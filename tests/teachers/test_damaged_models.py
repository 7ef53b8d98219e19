"""A local model that cannot teach: the command ends with a sentence and a mend, and no more than the call is spent."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.csv_tables import write_tickets

from potstill import cli
from potstill.errors import PotstillError
from potstill.ledger.store import is_begun
from potstill.reports.status import read_spending


def gguf(architecture: str, n_weights: int = 0) -> bytes:
    """A GGUF file of one key and one tensor, whose weights are missing."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    key = string("general.architecture") + struct.pack("<I", 8) + string(architecture)
    tensor = string("a") + struct.pack("<IQIQ", 1, n_weights, 0, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + key + tensor + b"\0" * 32


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def without_numbers(folder: Path) -> None:
    """All weights of a transformers folder become NaN."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({name: each.fill_(float("nan")) for name, each in load_file(file).items()}, file, {"format": "pt"})


def with_config(**changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changed), "utf-8")

    return change


def half(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


FILES = {
    "empty": (b"", "is not a GGUF file"),
    "magic alone": (b"GGUF", "is damaged"),
    "text": (b"a text and no model", "is not a GGUF file"),
    "unknown architecture": (gguf("zzz"), "architecture of the model in .* is unknown"),
    "half a download": (gguf("llama", 10**6), "is cut off: it has"),
}
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no numbers": (without_numbers, "weights of .* are damaged: its scores are no numbers"),
    "half the weights": (half, "cannot be loaded"),
    "unknown type": (with_config(model_type="zzz"), "architecture of the model in .* is unknown"),
    "small context": (with_config(max_position_embeddings=64), "tokens, and local:.* reads 64"),
    "no template": (lambda folder: None, "comes without a chat template"),
}


def refused(folder: Path, model: Path, **teacher: str) -> str:
    """The sentence and the mend with which `distill` ends; what it spent is a call at most."""
    tickets = write_tickets(folder / "tickets.csv")
    options = "".join(f'{name} = "{value}"\n' for name, value in teacher.items())
    spec = folder / "potstill.toml"
    spec.write_text(
        f'budget = 1\nstudent = "linear"\n[data]\nfile = "{tickets}"\n'
        f'[teacher]\nname = "local:{model}"\ndevice = "cpu"\n{options}',
        "utf-8",
    )
    done = CliRunner().invoke(cli.app, ["distill", str(spec), "-o", str(folder / "run")])
    assert isinstance(done.exception, PotstillError), done.exception
    assert done.exception.exit_code == 2
    assert done.exception.hint
    if is_begun(folder / "run"):
        assert read_spending(folder / "run").totals.charged < 20_000  # micro-dollars
    return f"{done.exception.message} {done.exception.hint}"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_whole_model_is_refused(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    (tmp_path / "model.gguf").write_bytes(content)
    assert_matches(said, refused(tmp_path, tmp_path / "model.gguf"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_whose_model_cannot_teach_is_refused(tmp_path: Path, tiny_folder: Path, name: str) -> None:
    change, said = FOLDERS[name]
    change(copied(tiny_folder, tmp_path / "model"))
    options = {"prompt_format": "chat"} if name == "no template" else {}
    assert_matches(said, refused(tmp_path, tmp_path / "model", **options))


def assert_matches(pattern: str, sentence: str) -> None:
    assert re.search(pattern, sentence), sentence
