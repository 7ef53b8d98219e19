"""How reliable learning curves are: fitted on a pilot, checked at larger sizes.

    python bench/curves.py [--data ../shared/data] [--seeds 3] [--vectors FOLDER]

Two students (regression on frozen MiniLM vectors, and `linear`) on six data sets, sizes doubling. Every prefix of four
to six sizes is a pilot; the curve predicts the scores of the sizes after it. Reported are the coverage of its 80 %
interval, its error, and the error of the number of labels for a score, beside a plain power law. The two constants of
the interval were chosen on the first two data sets; the others are the test. One test set a data set, nested subsets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from papers.frozen import Vectors
from sections import commit, table, write_section

from potstill.evaluation.calibration import one_hot
from potstill.procedures.allocate.learning_curves import INTERVAL_LEVEL, CurvePoint, fit_learning_curve
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.students.logistic_regression import SolverOptions, fit_regression

CHOSEN_ON, CHECKED_ON = ("banking77", "sst2"), ("trec6", "ag_news", "hwu64", "multipit_id_doa")
MOST, TEST, PILOT = 8192, 1500, 6
RESULTS = Path(__file__).parent / "results" / "curves.json"


@dataclass(frozen=True)
class Check:
    """One forecast: the true score, the predicted one (`said`), and the labels predicted for the true score."""

    data: str
    student: str
    largest: int
    n: int
    true: float
    said: float
    low: float
    high: float
    power: float
    needed: float
    power_needed: float

    @property
    def octaves(self) -> int:
        """Doublings beyond the pilot."""
        return round(float(np.log2(self.n / self.largest)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", type=Path, help="a folder that keeps the frozen vectors for the next time")
    options = parser.parse_args()
    checks: list[Check] = []
    for name in (*CHOSEN_ON, *CHECKED_ON):
        for student, points in measure(name, options.data, options.seeds, options.vectors).items():
            print(name, student, " ".join(f"{each.n}:{each.mean:.3f}" for each in points), flush=True)
            checks += forecasts(name, student, points)
    record = {"format": 1, "bench": "curves", "commit": commit(), "seeds": options.seeds}
    RESULTS.write_text(json.dumps(record | {"checks": [asdict(each) for each in checks]}, indent=1))
    section = page(checks, options.seeds)
    write_section("curves", section)
    print(section)


def measure(name: str, data: Path, seeds: int, kept: Path | None) -> Mapping[str, Sequence[CurvePoint]]:
    """Scores of both students at doubling sizes, the same test texts for all."""
    learn, test = (read(data / name / f"{split}.parquet") for split in ("train", "test"))
    draw = np.random.default_rng(5)
    learn = [learn[i] for i in draw.permutation(len(learn))[:MOST]]
    test = [test[i] for i in draw.permutation(len(test))[:TEST]]
    labels = sorted({label for _, label in learn})
    gold = np.array([labels.index(label) for _, label in learn])
    right = np.array([labels.index(label) if label in labels else -1 for _, label in test])
    texts, test_texts = [text for text, _ in learn], [text for text, _ in test]
    vectors = Vectors("minilm", kept / f"{name}.npz" if kept else None)
    train_vectors, test_vectors = vectors.of(texts), vectors.of(test_texts)
    vectors.save()

    def frozen(rows: np.ndarray) -> np.ndarray:
        targets = one_hot(gold[rows], len(labels))
        fitted = fit_regression(
            train_vectors[rows], targets, np.ones(len(rows), np.float32), SolverOptions(c=10.0, tolerance=1e-5)
        )
        return np.asarray(test_vectors @ fitted.weights + fitted.bias)

    def linear(rows: np.ndarray) -> np.ndarray:
        training_data = TrainingData([texts[row] for row in rows], one_hot(gold[rows], len(labels)))
        return np.asarray(
            LinearStudent(StudentConfig(tuple(labels), options={"c": 10.0}))
            .fit(training_data)
            .predict_logits(test_texts)
        )

    students: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"frozen minilm": frozen, "linear": linear}
    sizes = [max(16, 2 * len(labels)) * 2**i for i in range(20)]
    orders = [np.random.default_rng(seed).permutation(len(texts)) for seed in range(seeds)]
    return {
        student: [
            CurvePoint(n, tuple(float((scores(order[:n]).argmax(1) == right).mean()) for order in orders))
            for n in sizes
            if n <= (len(texts) if student != "linear" else 4096)
        ]
        for student, scores in students.items()
    }


def read(file: Path) -> list[tuple[str, str]]:
    """(text, label) rows; a pair of texts becomes one, a bar between them."""
    rows = pq.read_table(file).to_pydict()
    texts = rows.get("text") or [f"{a} | {b}" for a, b in zip(rows["text_a"], rows["text_b"], strict=True)]
    return list(zip(texts, rows["label"], strict=True))


def forecasts(data: str, student: str, points: Sequence[CurvePoint]) -> list[Check]:
    """Every pilot of this curve against every larger size."""
    checks = []
    for end in range(4, len(points)):
        pilot = points[max(0, end - PILOT) : end]
        ours, plain = fit_learning_curve(pilot), fit_learning_curve(pilot, families=("power",))
        for later in points[end:]:
            predicted, power = ours.predict(later.n), plain.predict(later.n)
            figures = (later.mean, predicted.value, predicted.low, predicted.high, power.value)
            needed = (ours.labels_for(later.mean).value, plain.labels_for(later.mean).value)
            checks.append(Check(data, student, pilot[-1].n, later.n, *figures, *needed))
    return checks


def page(checks: Sequence[Check], seeds: int) -> str:
    """The section of RESULTS.md."""
    rows = []
    for title, names in (("chosen on", CHOSEN_ON), ("checked on", CHECKED_ON)):
        for octaves in (1, 2, 3):
            some = [each for each in checks if each.data in names and each.octaves == octaves]
            coverage = np.mean([each.low <= each.true <= each.high for each in some])
            off = [abs(each.said - each.true) for each in some]
            plain = [abs(each.power - each.true) for each in some]
            ratio = [max(x, 1 / x) for x in (min(each.needed / each.n, 1e3) for each in some)]
            plain_ratio = [max(x, 1 / x) for x in (min(each.power_needed / each.n, 1e3) for each in some)]
            wide = np.mean([each.high - each.low for each in some]) * 50
            figures = [f"{len(some)}", f"{coverage:.0%}", f"± {wide:.1f}", f"{100 * np.mean(off):.1f}"]
            figures += [f"{100 * np.mean(plain):.1f}", f"{np.median(ratio):.1f}x", f"{np.median(plain_ratio):.1f}x"]
            rows.append([f"{title} {len(names)} sets, {2**octaves}x", *figures])
    head = ["how far beyond the pilot", "forecasts", f"in the {INTERVAL_LEVEL:.0%} interval", "its width (points)"]
    head += ["off by (points)", "plain power law", "labels needed, off by", "plain power law"]
    names = f"chosen on {', '.join(CHOSEN_ON)}; checked on {', '.join(CHECKED_ON)}"
    return f"""## Learning curves: what a pilot says of sizes it did not see

`python bench/curves.py`, commit {commit()}, {time.strftime("%Y-%m-%d")}, {seeds} seeds, two students; {names}.
"Off by" is the mean error of the score; "labels needed" the median factor by which the number of labels for the score
that came true is over- or underestimated.

{table(head, rows)}
"""


if __name__ == "__main__":
    main()
