"""How right a language model on this machine is, by how it is asked: each model, each way, on four public tasks.

    nice python bench/local_teacher.py [--data ../shared/data] [--models smollm2 qwen-0.5b qwen-1.5b] [--threads 1]

A cell is a model, a data set and a way: through the chat template or by a plain prompt, with 0, 1, 2 or 4 gold examples
a class. It scores the same `--texts` test texts and 64 gold texts that no prompt shows, and is stored when it is done:
the same command goes on with the first that is missing. The table shows the raw scores, the scores after the label
prior is matched (to the frequency of the labels in the 64 gold texts), and what the rule that decides between both
chose. On BANKING77 a prompt shows no examples: 77 of them are another prompt's length. `--page` alone writes the page
of the stored cells. Times compare only within one run on a quiet machine; `local_speed.py` measures them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sections import commit, write_section

from potstill.data.task import LabelledText, Task
from potstill.evaluation.calibration import choose_prior, match_prior, smoothed_prior
from potstill.models.weights import find_weights
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher

RESULTS = Path(__file__).parent / "results" / "local_teacher.json"
WORDS: dict[str, dict[str, str]] = {
    "ag_news": {"Sci/Tech": "Technology"},
    "trec6": {"NUM": "number", "LOC": "location", "HUM": "person", "DESC": "description", "ENTY": "thing",
              "ABBR": "abbreviation"},
}  # fmt: skip
SETS = ("sst2", "trec6", "ag_news", "banking77")
SHOTS = (0, 1, 2, 4)
MANY_LABELS = 20
N_GOLD = 64


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        model, dataset, prompt_format, shots: which it is.
        raw, matched, decided: accuracy of the raw scores, after matching the prior, and of what the rule chose.
        is_matched: what it chose.
        n_texts: test texts.
        prompt_tokens, tokens_per_text: tokens computed once, and for each text.
        seconds: for the test texts, on whatever else the machine did.
        commit: that was measured.
    """

    model: str
    dataset: str
    prompt_format: str
    shots: int
    raw: float
    matched: float
    decided: float
    is_matched: bool
    n_texts: int
    prompt_tokens: int
    tokens_per_text: float
    seconds: float
    commit: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Which cell it is."""
        return self.model, self.dataset, self.prompt_format, self.shots


@dataclass(frozen=True)
class Rows:
    """Texts and labels of a data set: test rows, gold rows for decisions, and rows that prompts show."""

    task: Task
    test: list[LabelledText]
    gold: list[LabelledText]
    shown: list[LabelledText]

    def columns(self, rows: Sequence[LabelledText]) -> np.ndarray:
        """(N,) label columns."""
        return np.array([self.task.index(row.label) for row in rows])


def read(data: Path, name: str, n_texts: int) -> Rows:
    """The same rows each time: test texts at random, gold at random, and examples dealt to the classes."""

    def rows(part: str) -> list[LabelledText]:
        table = pq.read_table(data / name / f"{part}.parquet").to_pydict()
        pairs = [LabelledText(text, label) for text, label in zip(table["text"], table["label"], strict=True)]
        return [pairs[at] for at in np.random.default_rng(0).permutation(len(pairs))]

    test, train = rows("test")[:n_texts], rows("train")
    labels = sorted({row.label for row in train})
    gold, rest = train[:N_GOLD], train[N_GOLD:]
    shown = [row for label in labels for row in [each for each in rest if each.label == label][: max(SHOTS)]]
    order = np.random.default_rng(1).permutation(len(shown))
    return Rows(Task(tuple(labels)), test, gold, [shown[at] for at in order])


def measure(rows: Rows, teacher: LocalTeacher, which: tuple[str, str, str, int]) -> Cell:
    """Score the texts of one cell."""
    gold_scores = scores(teacher, rows.gold)
    started = time.perf_counter()
    test_scores = scores(teacher, rows.test)
    seconds = time.perf_counter() - started
    test, gold = rows.columns(rows.test), rows.columns(rows.gold)
    prior = smoothed_prior(gold, rows.task.n_labels)
    default = teacher.capabilities.prior_correction == "unless_worse"
    chosen = choose_prior(test_scores, prior, gold_scores, gold, default=default)

    def accuracy(offsets: Any) -> float:
        return round(float(((test_scores + offsets).argmax(1) == test).mean()), 4)

    facts = teacher.metadata.extra
    return Cell(
        *which,
        raw=accuracy(0.0),
        matched=accuracy(match_prior(test_scores, prior)),
        decided=accuracy(np.array(chosen.offsets)),
        is_matched=chosen.matched,
        n_texts=len(test),
        prompt_tokens=int(facts["prompt_tokens"]),
        tokens_per_text=round(teacher._counts["tokens"] / teacher._counts["texts"], 1),
        seconds=round(seconds, 1),
        commit=commit(),
    )


def scores(teacher: LocalTeacher, rows: Sequence[LabelledText]) -> np.ndarray:
    """(N, K) scores of rows of any number."""
    texts, size = [row.text for row in rows], teacher.batch_size
    calls = (teacher.answer(texts[at : at + size]) for at in range(0, len(texts), size))
    return np.array([answer.scores for call in calls for answer in call.answers])


def cells(models: Sequence[str], sets: Sequence[str]) -> list[tuple[str, str, str, int]]:
    """All cells, a model after the other."""
    many = {"banking77"}
    return [
        (model, name, way, shots)
        for model in models
        for name in sets
        for shots in SHOTS
        for way in ("chat", "plain")
        if not (name in many and shots)
    ]


def load() -> list[Cell]:
    """The stored cells."""
    return [Cell(**row) for row in json.loads(RESULTS.read_text())["cells"]] if RESULTS.exists() else []


def page(found: Sequence[Cell]) -> str:
    """The table."""
    models = list(dict.fromkeys(cell.model for cell in found))
    sets = [name for name in SETS if any(cell.dataset == name for cell in found)]
    lines = [
        "## Teachers on this machine: how they are asked",
        "",
        f"`python bench/local_teacher.py`, commits {', '.join(sorted({cell.commit for cell in found}))}; "
        f"{max(cell.n_texts for cell in found)} test texts a cell, so a standard error of 1.5 to 3 points. A cell: raw "
        f'/ label prior matched; **bold** is what `match_prior = "auto"` chose with {N_GOLD} gold texts.',
        "",
        f"| model | asked | examples a class | {' | '.join(sets)} |",
        f"| --- | --- | ---: |{' --- |' * len(sets)}",
    ]
    by_key = {cell.key: cell for cell in found}
    for model in models:
        for way in ("plain", "chat"):
            for shots in SHOTS:
                row = [by_key.get((model, name, way, shots)) for name in sets]
                if any(row):
                    asked = "chat template" if way == "chat" else "plain prompt"
                    lines.append(f"| {model} | {asked} | {shots} | {' | '.join(map(both, row))} |")
    return "\n".join(lines)


def both(cell: Cell | None) -> str:
    """Raw and matched accuracy in %; the chosen one bold."""
    if cell is None:
        return ""
    raw, matched = f"{100 * cell.raw:.0f}", f"{100 * cell.matched:.0f}"
    return f"{raw} / **{matched}**" if cell.is_matched else f"**{raw}** / {matched}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask.add_argument("--models", nargs="+", default=["smollm2", "qwen-1.5b", "qwen-0.5b"])
    ask.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    ask.add_argument("--texts", type=int, default=300)
    ask.add_argument("--threads", type=int, default=0, help="0: as many as are idle")
    ask.add_argument("--page", action="store_true", help="measure nothing, write the page of what is stored")
    given = ask.parse_args()
    found = load()
    done = {cell.key for cell in found}
    model: tuple[str, Any] = ("", None)
    for which in [] if given.page else [key for key in cells(given.models, given.sets) if key not in done]:
        name, dataset, way, shots = which
        find_weights(name)
        rows = read(given.data, dataset, given.texts)
        options = {
            "prompt_format": way,
            "shots": shots,
            "label_words": WORDS.get(dataset, {}),
            "threads": given.threads,
        }
        shown = rows.shown if len(rows.task.labels) <= MANY_LABELS else []
        teacher = open_teacher(TeacherSetup(rows.task, name, shown, options))
        if model[0] == name:  # weights are read once
            teacher.model.lm = model[1]
        model = (name, teacher.model.lm)
        teacher.max_usage([rows.test[0].text])
        cell = measure(rows, teacher, which)
        print(f"{name} {dataset} {way} {shots}: raw {cell.raw:.3f} matched {cell.matched:.3f} in {cell.seconds} s",
              flush=True)  # fmt: skip
        found = [*load(), cell]
        RESULTS.write_text(json.dumps({"cells": [asdict(each) for each in found]}, indent=1) + "\n", encoding="utf-8")
    write_section("local-teacher", page(found))


if __name__ == "__main__":
    main()
