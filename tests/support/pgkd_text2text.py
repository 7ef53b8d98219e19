"""Small worlds for PGKD in text-to-text tasks: files of gold, held-out and known texts, and a potstill.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.answered import answered_texts, write_answered
from support.marked_texts import marked_texts, write_marked
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal

from potstill.data.task import GenerationRequest
from potstill.procedures.kinds import recipe_kind
from potstill.run.inputs import read_inputs
from potstill.run.run import Run

ENTITY_STUDENT = 'name = "tagger:{weights}", epochs = 8, lr = 1e-2, max_length = 32'
ANSWER_STUDENT = 'name = "causal:{weights}", mode = "full", epochs = 8, lr = 1e-2, max_length = 24'
REPLAY = 'name = "replay", file = "known.jsonl", generate_from = "more.jsonl", usd_per_million_tokens = 1, accuracy = 1'
TOML = """
budget = {budget}
cache = false
data = {{ train = "train.jsonl", validation = "validation.jsonl", test = "test.jsonl" }}
prices.m = {{ usd_per_million_input = 1, usd_per_million_output = 2 }}
task = {{ {task} }}
student = {{ {student} }}
teacher = {{ {teacher} }}
procedure = {{ name = "pgkd", {options} }}
"""


def write_world(folder: Path, form: str) -> Path:
    """Twelve gold texts, thirty validation texts, twenty test texts, and 120 that a teacher may write from."""
    (folder / "weights").mkdir()
    if form == "entities":
        write_tinybert(folder / "weights", layers=1)
        marked = marked_texts(182)
        for name, rows in _shared_out(marked):
            write_marked(folder / name, rows)
    else:
        write_tinycausal(folder / "weights")
        for name, answers in _shared_out(answered_texts(182)):
            write_answered(folder / name, answers)
    return folder


def _shared_out(rows: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield "train.jsonl", rows[:12]
    yield "validation.jsonl", rows[12:42]
    yield "test.jsonl", rows[42:62]
    yield "more.jsonl", rows[62:]
    yield "known.jsonl", rows


def write_toml(
    folder: Path, form: str, teacher: str = REPLAY, *, budget: float = 1, options: str = "rounds = 2"
) -> Path:
    """The potstill.toml of a run in the folder."""
    is_free = form == "free"
    filled = TOML.format(
        budget=budget,
        task='form = "free", instruction = "Name the topics."' if is_free else 'form = "entities"',
        student=(ANSWER_STUDENT if is_free else ENTITY_STUDENT).format(weights=folder / "weights"),
        teacher=teacher,
        options=options,
    )
    path = folder / "potstill.toml"
    path.write_text(filled, encoding="utf-8")
    return path


@contextmanager
def opened(toml: Path, name: str = "run") -> Iterator[Run]:
    """A run of the file, begun or resumed."""
    inputs = read_inputs(toml, None, {})
    with Run.open(toml.parent / name, inputs.spec, inputs.task, inputs.pool) as run:
        yield run


def train(run: Run) -> tuple[Any, list[GenerationRequest]]:
    """The student of the run's recipe, and the requests that were made for it."""
    requests: list[GenerationRequest] = []
    generate = run.generate

    def recorded(teacher: Any, request: GenerationRequest) -> Any:
        requests.append(request)
        return generate(teacher, request)

    run.generate = recorded  # type: ignore[method-assign]
    return recipe_kind("pgkd").train(run), requests


def texts_of(folder: Path, name: str) -> list[str]:
    """The texts of a file of the world."""
    return [json.loads(line)["text"] for line in (folder / name).read_text(encoding="utf-8").splitlines()]
