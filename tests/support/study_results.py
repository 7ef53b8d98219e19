"""Made-up results of a study with known learning curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from potstill.study.records import Cell, CellResult, CellUsage, DatasetSummary, Footprint, StudyResult, footprint_key

N = 400
GOLD = np.random.default_rng(0).integers(0, 2, N)
QUALITY = {
    ("p", "lm"): {8: 0.80, 64: 0.84, 512: 0.86},
    ("ft", "small"): {8: 0.60, 64: 0.82, 512: 0.90},
    ("ft", "big"): {8: 0.62, 64: 0.85, 512: 0.905},
    ("p+kd", "small"): {8: 0.79, 64: 0.83, 512: 0.85},
}
WEIGHTS = {"lm": Footprint(135_000_000, 2e10, 20, 50.0), "small": Footprint(8_000_000, 1e6, 20_000, 0.1),
           "big": Footprint(33_000_000, 2e9, 150, 8.0)}  # fmt: skip


def predict(accuracy: float, seed: int, series: str) -> tuple[int, ...]:
    right = np.zeros(N, dtype=bool)
    right[np.random.default_rng([seed, len(series)]).permutation(N)[: round(accuracy * N)]] = True
    return tuple(int(each) for each in np.where(right, GOLD, 1 - GOLD))


def made_study(
    quality: Mapping[tuple[str, str], Mapping[int, float]] = QUALITY, seeds: int = 3, usd_per_label: float = 0.1
) -> StudyResult:
    results: dict[Cell, CellResult] = {}
    for (procedure, backbone), curve in quality.items():
        for n, value in curve.items():
            for seed in range(seeds):
                cell = Cell("d", n, seed, procedure, backbone)
                predictions = predict(value, seed, backbone + procedure)
                results[cell] = CellResult("done", predictions=predictions, usage=CellUsage(seconds=36.0))
    summary = DatasetSummary("d", ("no", "yes"), "accuracy", GOLD, (8, 64, 512), 100, 1000)
    footprints = {footprint_key(cell): WEIGHTS[cell.backbone] for cell in results}
    return StudyResult("made up", {"d": summary}, results, footprints, usd_per_label, 0.1, tuple(range(seeds)), "total")
