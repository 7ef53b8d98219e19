"""A study that takes a second: three topics of made-up sentences, two linear backbones."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from potstill.api.compare import study_recipes
from potstill.study.records import StudyResult
from potstill.study.run_study import StudyLimits, run_study
from potstill.study.spec import StudySpec

TOPICS = {
    "food": "soup bread cheese dinner apple kitchen salt oven butter recipe".split(),
    "sport": "match goal referee tennis runner stadium coach league score medal".split(),
    "money": "bank loan market shares profit invoice interest tax broker deposit".split(),
}
FILLER = "the and one please or a much longer text with some more words today here there very".split()
RECIPES = study_recipes()


def write_topics(folder: Path, train: int = 60, test: int = 30, seed: int = 0) -> Path:
    """Write train.csv and test.csv with so many rows a topic; no text is there twice."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    seen: set[str] = set()
    for part, n in (("train", train), ("test", test)):
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            for label, words in TOPICS.items():
                made = 0
                while made < n:
                    text = " ".join([*draw.choices(words, k=2), *draw.choices(FILLER, k=6)])
                    if text not in seen:
                        seen.add(text)
                        rows.writerow([text, label])
                        made += 1
    return folder


def study_of(folder: Path, **over: Any) -> StudySpec:
    """The study on `folder`/topics, with other keys laid over it."""
    record: dict[str, Any] = {
        "name": "small",
        "budget": 1,
        "procedures": ["ft", "ft+kd"],
        "backbones": [
            {"name": "large", "student": "linear"},
            {"name": "tiny", "student": "linear", "options": {"max_features": 40}},
        ],
        "kd": {"ft_teacher": "large"},
        "sizes": [2, 8],
        "seeds": 2,
        "max_unlabelled": 60,
        "usd_per_label": 0.1,
        "data": {"topics": {"folder": "topics"}},
    }
    return StudySpec.from_dict({**record, **over}, folder)


def run(
    spec: StudySpec, out: Path, bounds: StudyLimits | None = None, recipes: Any = None, tell: Any = None
) -> StudyResult:
    """Conduct it."""
    return run_study(spec, out, recipes or RECIPES, bounds or StudyLimits(), tell)
