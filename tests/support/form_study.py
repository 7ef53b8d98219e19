"""Studies of entities and of answers in words that take seconds: tiny random models, made-up texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.answered import answered_texts, write_answered
from support.marked_texts import marked_texts, write_marked
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal, write_tinyt5

from potstill.api.compare import study_recipes
from potstill.data.task import OutputForm
from potstill.errors import TeacherError
from potstill.run.run import Run
from potstill.study.spec import StudySpec

TAGGER = {"epochs": 6, "lr": 2e-2, "max_length": 32}
WRITER = {"mode": "full", "epochs": 15, "lr": 1e-2, "max_length": 24}


def write_entities(folder: Path, train: int = 160, test: int = 40) -> dict[str, Any]:
    """Write weights and texts; the keys of a study of entities."""
    write_tinybert(folder / "large", layers=1)
    write_tinybert(folder / "small", hidden=24, layers=1)
    rows = marked_texts(train + test)
    write_marked(folder / "train.jsonl", rows[:train])
    write_marked(folder / "test.jsonl", rows[train:])
    write_marked(folder / "known.jsonl", rows)
    return {
        "backbones": [
            {"name": "large", "student": f"tagger:{folder / 'large'}", "options": TAGGER},
            {"name": "small", "student": f"tagger:{folder / 'small'}", "options": TAGGER},
        ],
        "data": {"food": {"train": "train.jsonl", "test": "test.jsonl", "form": "entities"}},
    }


def write_answers(folder: Path, train: int = 200, test: int = 30) -> dict[str, Any]:
    """Write weights and texts; the keys of a study of answers in words."""
    write_tinycausal(folder / "large", layers=2)
    write_tinyt5(folder / "small", layers=1)
    rows = answered_texts(train + test)
    write_answered(folder / "train.jsonl", rows[:train])
    write_answered(folder / "test.jsonl", rows[train:])
    write_answered(folder / "known.jsonl", rows)
    data = {"train": "train.jsonl", "test": "test.jsonl", "form": "free", "metric": "exact_match"}
    return {
        "backbones": [
            {"name": "large", "student": f"causal:{folder / 'large'}", "options": WRITER},
            {"name": str(folder / "small"), "options": WRITER},
        ],
        "data": {"topics": {**data, "instruction": "one text"}},
    }


def form_study(folder: Path, keys: dict[str, Any], **over: Any) -> StudySpec:
    """The study of these keys on the files of the folder, with other keys laid over it."""
    record: dict[str, Any] = {
        "name": "small",
        "budget": 1,
        "kd": {"ft_teacher": "large"},
        "sizes": [20, 60],
        "seeds": 2,
        "max_unlabelled": 60,
        "usd_per_label": 0.1,
        **keys,
    }
    return StudySpec.from_dict({**record, **over}, folder)


@dataclass(frozen=True)
class CountedRecipe:
    """A recipe that appends its calls to `calls`, and may fail or interrupt the process."""

    of: Any
    procedure: str
    calls: list[str]
    fails: bool
    max_calls: int

    @property
    def name(self) -> str:
        return str(self.of.name)

    def __call__(self, run: Run) -> Any:
        if len(self.calls) == self.max_calls:
            raise KeyboardInterrupt
        self.calls.append(self.procedure)
        if self.fails:
            raise TeacherError("The teacher does not answer.", "Start it.")
        return self.of(run)


def counted_recipes(form: OutputForm, calls: list[str], fail: str = "", max_calls: int = 1000) -> Any:
    """The recipes of a study of the form, with a list of their calls."""
    recipes = study_recipes(form=form)
    return {name: CountedRecipe(of, name, calls, name == fail, max_calls) for name, of in recipes.items()}
