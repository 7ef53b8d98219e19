"""Runs that wait for people to mark entities or to answer texts. Not a test itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.answered import answered_texts, write_answered
from support.marked_texts import TYPES, marked_texts, write_marked
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal

from potstill.annotation import AnnotationSession
from potstill.api import distill
from potstill.data.entities.build import encode_entities
from potstill.errors import Waiting
from potstill.ledger.store import Annotation, AnnotationStore

EMOJI = "😀 the soup bread and 👩‍🍳 a bank"  # two UTF-16 units each, and joined ones
TOML = """
budget = 20
teacher = {{ name = "human"{teacher} }}
procedure = {{ name = "annotate"{procedure} }}
prices.usd_per_label = 0.1
data = {{ {data} }}
student = {{ name = "{student}"{options} }}
[task]
form = "{form}"
instruction = "{instruction}"
{labels}
"""


def answers(form: str, n: int = 40) -> dict[str, str]:
    """N texts and their right answers, as they are stored."""
    if form == "free":
        return dict(answered_texts(n))
    return {text: encode_entities(marks) for text, marks in marked_texts(n)}


def write_world(
    folder: Path,
    form: str,
    *,
    n: int = 40,
    gold: int = 0,
    test: int = 0,
    teacher: str = "",
    procedure: str = "",
    extra: tuple[str, ...] = (),
) -> Path:
    """A potstill.toml with tiny weights, n texts to answer and `extra` ones, and so many with gold for the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    write: Any = write_answered if form == "free" else write_marked
    rows: list[Any] = answered_texts(n + gold + test) if form == "free" else marked_texts(n + gold + test)
    open_texts = [text for text, _ in rows[:n]] + [*extra]
    (folder / "new.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in open_texts), encoding="utf-8")
    data = 'pool = "new.jsonl"' if gold else 'file = "new.jsonl"'
    if gold:
        write(folder / "gold.jsonl", rows[n : n + gold])
        data += ', train = "gold.jsonl"'
    if test:
        write(folder / "test.jsonl", rows[n + gold :])
        data += ', test = "test.jsonl"'
    write(folder / "known.jsonl", rows)
    (folder / "weights").mkdir(exist_ok=True)
    if form == "free":
        student = f"causal:{write_tinycausal(folder / 'weights', layers=1)}"
        options = ', mode = "full", epochs = 15, lr = 1e-2, max_length = 24'
    else:
        student = f"tagger:{write_tinybert(folder / 'weights', layers=1)}"
        options = ", epochs = 12, lr = 2e-2, max_length = 32"
    text = TOML.format(
        teacher=teacher,
        procedure=procedure,
        data=data,
        student=student,
        options=options,
        form=form,
        instruction="one text" if form == "free" else "Mark the food and the money.",
        labels="" if form == "free" else f"labels = {json.dumps(list(TYPES))}",
    )
    (folder / "potstill.toml").write_text(text, encoding="utf-8")
    return folder / "potstill.toml"


def go_on(folder: Path) -> Any:
    """The same command, again and again."""
    return distill(folder / "potstill.toml", out=folder / "run")


def begin(folder: Path, form: str, **world: Any) -> Path:
    """The folder of a run that waits for people."""
    write_world(folder, form, **world)
    with pytest.raises(Waiting):
        go_on(folder)
    return folder / "run"


def answer_all(run: Path, known: dict[str, str], annotator: str = "ann", n: int = 1000) -> int:
    """One person answers up to n texts as `known` has it, and is unsure about others; returns how many."""
    session = AnnotationSession(run)
    done = 0
    while done < n and (text := session.state(annotator).text):
        assert session.label(annotator, text.id, known.get(text.parts[0]), 2.0) == "new"
        done += 1
    session.close()
    return done


# --- files of answers ---------------------------------------------------------------------------------------------

N_FILED = 12
KNOWN = {"entities": answers("entities", N_FILED) | {EMOJI: ""}, "free": answers("free", N_FILED) | {EMOJI: ""}}
KNOWN["entities"][EMOJI] = f'[[6, 16, "dish"], [{EMOJI.index("bank")}, {EMOJI.index("bank") + 4}, "finance"]]'
KNOWN["free"][EMOJI] = "=food 😀\nand more"


def form_of(run: Path) -> str:
    return run.parent.name


def stored(run: Path) -> dict[str, list[Annotation]]:
    """Text -> its stored answers."""
    store = AnnotationStore(run)
    texts = {request.id: request.text for request in store.requests()}
    found: dict[str, list[Annotation]] = {}
    for each in store.annotations():
        found.setdefault(texts[each.id], []).append(each)
    store.close()
    return found


def labels_of(run: Path) -> dict[str, str]:
    return {text: own[0].label for text, own in stored(run).items()}


def marked(text: str) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "label": kind} for start, end, kind in json.loads(KNOWN["entities"][text])]
