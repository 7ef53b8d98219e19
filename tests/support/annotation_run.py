"""A run that waits for people to label its texts. Not a test itself."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from potstill.api import distill
from potstill.errors import Waiting
from potstill.ledger.store import AnnotationStore, CallRecord, RunStore

LABELS = ("sports", "weather", "money")


def write_texts(folder: Path, n: int = 20, gold: int = 60) -> Path:
    """A table with labelled texts and n without a label, each with its label's name in it."""
    path = folder / "texts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"{LABELS[i % 3]} story {i} of the day", LABELS[i % 3]] for i in range(gold))
        rows.writerows([f"open {LABELS[i % 3]} story {i}", ""] for i in range(n))
    return path


def write_spec(
    folder: Path,
    teacher: str = "",
    prices: str = "usd_per_label = 0.1",
    more: str = "",
    described: str = 'sports = "A match or a player."',
) -> Path:
    """A spec with people as the teacher."""
    path = folder / "potstill.toml"
    path.write_text(
        f'budget = 5\nstudent = "linear"\n{more}\n[task]\ninstruction = "What is the story about?"\n'
        f"[task.descriptions]\n{described}\n"
        f'[data]\nfile = "texts.csv"\n[teacher]\nname = "human"\n{teacher}\n[prices]\n{prices}\n',
        encoding="utf-8",
    )
    return path


def begin(folder: Path, **spec: str) -> Path:
    """The folder of a run that waits; the spec beside it is `potstill.toml`."""
    if not (folder / "texts.csv").exists():
        write_texts(folder)
    write_spec(folder, **spec)
    with pytest.raises(Waiting):
        go_on(folder)
    return folder / "run"


def go_on(folder: Path) -> Any:
    """The same command again."""
    return distill(folder / "potstill.toml", out=folder / "run")


def truth(text: str) -> str:
    """The label whose name is in the text."""
    return next(label for label in LABELS if label in text)


def label_all(run: Path, annotator: str = "ann", n: int = 1000, seconds: float = 2.0) -> int:
    """One annotator labels up to n texts correctly; returns how many."""
    from potstill.annotation import AnnotationSession

    session = AnnotationSession(run)
    n_labelled = 0
    while n_labelled < n and (text := session.state(annotator).text):
        assert session.label(annotator, text.id, truth(text.parts[0]), seconds) == "new"
        n_labelled += 1
    session.close()
    return n_labelled


def human_calls(run: Path) -> list[CallRecord]:
    """The ledger's rows of human labels."""
    store = RunStore(run, write=False)
    calls = [call for call in store.calls() if call.category == "human"]
    store.close()
    return calls


def labels_of(run: Path) -> AnnotationStore:
    """The run's labels."""
    return AnnotationStore(run)
