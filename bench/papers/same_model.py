"""FT of the very language model that P trains: a regression on its frozen states where the label would be said.

The paper compares FT and P of one model. Full fine-tuning of a causal model with a new head is not in this library;
a head on frozen states is what is compared here, beside P by LoRA, so P has the advantage of learning more weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.evaluation.calibration import one_hot
from potstill.evaluation.metrics import accuracy, macro_f1, mcc
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.cloze import ClozeStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.study.dataset import StudyDataset, gold_subset, read_dataset, subset_sizes
from potstill.study.records import Cell, CellResult, CellScores
from potstill.study.spec import StudySpec

NAME = "smollm2, head on frozen states"


def rows(study: StudySpec, names: set[str], folder: Path, file: Path) -> dict[Cell, CellResult]:
    """The cells of every size that P was run at; read from the file `file`, or made and written there.

    Args:
        study: whose data, sizes and seeds.
        names: the data sets.
        folder: where its data lie.
        file: a JSON file, a line a data set.
    """
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, spec in study.data.items():
        if name in names and name not in known:
            dataset = read_dataset(name, spec, study, folder)
            max_size = {**study.max_size, **spec.max_size}.get("p")
            limit = np.inf if max_size is None else max_size * (dataset.task.n_labels if study.per == "class" else 1)
            sizes = [n for n in subset_sizes(dataset, study) if n <= limit]
            prompt = {**next(each.prompt for each in study.backbones if each.name == "smollm2"), **spec.prompt}
            known[name] = _measure(dataset, study, sizes, prompt)
            file.write_text(json.dumps(known), encoding="utf-8")
    found = {}
    for name, cells in known.items():
        if name not in names:
            continue
        for n, seed, record in cells:
            found[Cell(name, n, seed, "ft", NAME)] = CellResult.from_json(record)
    return found


def _measure(dataset: StudyDataset, study: StudySpec, sizes: list[int], prompt: Mapping[str, Any]) -> list[list[Any]]:
    model = ClozeStudent(
        StudentConfig(dataset.task.labels, "smollm2", dataset.task.descriptions, {**prompt, "mode": "zero-shot"})
    )
    model.fit(TrainingData((), np.zeros((0, dataset.task.n_labels), dtype=np.float32)))
    pools = {(n, seed): gold_subset(dataset, n, seed, study) for n in sizes for seed in study.seeds}
    test = dataset.pool.subset("test")
    train = sorted({text for pool in pools.values() for text in pool.subset("train").texts})
    texts = [*train, *test.texts]
    states = model.embed(texts)
    seen = states[: len(train)]  # scaled by training texts alone
    states = (states - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-6) / states.shape[1] ** 0.5
    place = {text: i for i, text in enumerate(texts)}
    cells: list[list[Any]] = []
    for (n, seed), pool in pools.items():
        gold = pool.subset("train")
        learnt = states[[place[text] for text in gold.texts]]
        targets = one_hot(gold.gold, dataset.task.n_labels)
        found = fit_regression(learnt, targets, np.ones(len(gold), dtype=np.float32), SolverOptions(c=10.0))
        predicted = (states[[place[text] for text in test.texts]] @ found.weights + found.bias).argmax(axis=1)
        scores = CellScores(*(metric(test.gold, predicted) for metric in (accuracy, macro_f1, mcc)))
        result = CellResult("done", scores=scores, predictions=tuple(map(int, predicted)), n_train=len(gold))
        cells.append([n, seed, result.to_json()])
    return cells
