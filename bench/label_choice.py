"""Which 50 texts to buy labels of: cold start and active choice beside random, small-text and scikit-activeml.

    python bench/label_choice.py --cache FOLDER [--data ../shared/data] [--rivals PYTHON] [--part validation] [--table]

A draw is a pool of training texts; a strategy chooses texts of it, their true labels are revealed, and the
product's frozen `minilm` student, which knows the label names, learns them (`label_choice_data.py`). Strategies are in
`label_choice_strategies.py`. Draws 0 to 4 are judged on validation texts, where the default was chosen; draws 5 to 9
on test texts. `--rivals` is the Python of an environment with scikit-activeml; without it its rows are left out. Every
cell (data, part, strategy, draw) is written at once to bench/results/label_choice.json and not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from label_choice_data import DATA, Draw, Ints, accuracy, draw, load_vectors
from label_choice_strategies import NO_LABEL, STRATEGIES
from sections import commit, table, write_section

OUT = Path(__file__).parent / "results" / "label_choice.json"
BUDGETS = (20, 50)
DRAWS = {"validation": range(5), "test": range(5, 10)}
SKACTIVEML = {
    "TypiClust": False,
    "ProbCover": False,
    "MaxHerding": False,
    "UncertaintySampling:margin_sampling": True,
    "Badge": True,
    "Clue": True,
}  # whether the choice of few is the beginning of the choice of many
BASELINE, DEFAULT = "random", "names max herding"
T95 = 2.776  # two-sided 95 % quantile of Student's t with 4 degrees of freedom


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "label_choice")
    parser.add_argument("--rivals", help="the python of a virtual environment with scikit-activeml")
    parser.add_argument("--part", choices=list(DRAWS), default="validation")
    parser.add_argument("--only", nargs="*", default=list(DATA), choices=DATA)
    parser.add_argument("--strategies", nargs="*", help="as in the table; all by default")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="measure nothing, rewrite the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    names = [*STRATEGIES, *(f"skactiveml {name}" for name in SKACTIVEML if options.rivals)]
    wanted = [name for name in names if not options.strategies or name in options.strategies]
    if not options.table:
        for data in options.only:
            measure_data(data, wanted, rows, options)
    if options.out == OUT:
        write_section("label-choice", section(rows))
    print(section(rows))


def measure_data(data: str, wanted: list[str], rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Measure the cells of a data set that are missing, and write each."""
    done = {(row["data"], row["part"], row["strategy"], row["draw"]) for row in rows}
    cells = [(s, d) for d in DRAWS[options.part] for s in wanted if (data, options.part, s, d) not in done]
    if not cells:
        return
    vectors = load_vectors(options.data, data, options.cache)
    for strategy, number in cells:
        given = draw(data, vectors, number, options.part)
        row = {"data": data, "part": options.part, "strategy": strategy, "draw": number}
        rows.append(row | measure(strategy, given, options.rivals) | {"commit": commit()})
        options.out.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(map(json.dumps, rows))
        options.out.write_text(f'{{"format": 1, "bench": "label_choice", "rows": [\n{lines}\n]}}\n')
        print(f"{data:10} {options.part} {number} {strategy:40} {row_words(rows[-1])}", flush=True)


def row_words(row: dict[str, Any]) -> str:
    """The accuracies and the seconds."""
    return " ".join(f"{row['accuracy'][str(n)]:6.2f}" for n in BUDGETS) + f" {row['seconds']['50']:6.2f} s"


def measure(strategy: str, given: Draw, rivals: str | None) -> dict[str, Any]:
    """Accuracy in %, processor seconds of choosing, and how many labels were found, at each budget."""
    facts: dict[str, Any] = {"accuracy": {}, "seconds": {}, "found": {}}
    chosen: Ints | None = None
    nested = SKACTIVEML[strategy.removeprefix("skactiveml ")] if rival(strategy) else STRATEGIES[strategy].nested
    for n in sorted(BUDGETS, reverse=nested):
        if chosen is None or not nested:
            chosen, seconds = choose(strategy, given, n, rivals)
        rows = chosen[:n]
        if len(set(rows.tolist())) != n and strategy != NO_LABEL:
            raise ValueError(f"{strategy} chose {len(set(rows.tolist()))} distinct texts of {n}")
        facts["accuracy"][str(n)] = round(accuracy(given, rows), 3)
        facts["seconds"][str(n)] = round(seconds, 3)  # of a nested strategy: those of the largest budget
        facts["found"][str(n)] = len(set(given.gold[rows].tolist()))
    return facts


def rival(strategy: str) -> bool:
    """Whether the strategy runs in the other environment."""
    return strategy.startswith("skactiveml ")


def choose(strategy: str, given: Draw, n: int, rivals: str | None) -> tuple[Ints, float]:
    """The rows, and processor seconds."""
    if not rival(strategy):
        began = time.process_time()
        return STRATEGIES[strategy].choose(given, n, given.number), time.process_time() - began
    assert rivals is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draw.npz"
        np.savez(path, pool=given.pool, gold=given.gold, names=given.names, columns=given.name_columns)
        script = Path(__file__).parent / "rivals" / "skactiveml_choice.py"
        command = [rivals, str(script), str(path), strategy.removeprefix("skactiveml "), str(n), str(given.number)]
        reply = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return np.array(reply["rows"]), reply["seconds"]


def values(rows: list[dict[str, Any]], data: str, part: str, strategy: str, n: int) -> dict[int, float]:
    """Draw -> accuracy."""
    return {
        row["draw"]: row["accuracy"][str(n)]
        for row in rows
        if (row["data"], row["part"], row["strategy"]) == (data, part, strategy)
    }


def difference(rows: list[dict[str, Any]], data: str, part: str, strategy: str, n: int, other: str) -> str:
    """The mean paired difference to another strategy with its 95 % interval, in points; "" if a draw is missing."""
    own, others = values(rows, data, part, strategy, n), values(rows, data, part, other, n)
    if set(own) != set(DRAWS[part]) or set(others) != set(own):
        return ""
    pairs = np.array([own[number] - others[number] for number in own])
    half = T95 * float(pairs.std(ddof=1)) / len(pairs) ** 0.5
    return f"{pairs.mean():+.1f} ± {half:.1f}"


def part_table(rows: list[dict[str, Any]], part: str, n: int) -> str:
    """Accuracy on each data set and the difference to random."""
    sets = [data for data in DATA if values(rows, data, part, BASELINE, n)]
    known = dict.fromkeys(row["strategy"] for row in rows if row["part"] == part)
    order = [name for name in [*STRATEGIES, *known] if name in known]
    lines = []
    for strategy in dict.fromkeys(order):
        line = [strategy]
        for data in sets:
            found = values(rows, data, part, strategy, n)
            complete = set(found) == set(DRAWS[part])
            line += [f"{np.mean(list(found.values())):.1f}" if complete else ""]
            line += [difference(rows, data, part, strategy, n, BASELINE) if strategy != BASELINE else ""]
        own = [row["seconds"][str(n)] for row in rows if row["part"] == part and row["strategy"] == strategy]
        lines.append([*line, f"{np.median(own):.1f}"])
    head = ["strategy", *(cell for data in sets for cell in (data, "− random")), "CPU s"]
    return table(head, lines)


def best_of(rows: list[dict[str, Any]], data: str, part: str, library: str) -> str:
    """A sentence: the default less the best strategy of a library, on the same draws."""
    means = {
        name: float(np.mean(list(found.values())))
        for name in {row["strategy"] for row in rows}
        if name.startswith(library) and len(found := values(rows, data, part, name, 50)) == len(DRAWS[part])
    }
    if not means or not (apart := difference(rows, data, part, DEFAULT, 50, max(means, key=lambda name: means[name]))):
        return ""
    return f"{data}: {max(means, key=lambda name: means[name])} {apart}. "


def section(rows: list[dict[str, Any]]) -> str:
    """The section of bench/RESULTS.md."""
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    text = HEAD_OF_SECTION.format(commits=commits)
    for part in DRAWS:
        if any(row["part"] == part for row in rows):
            judged = "validation texts, where the default was chosen" if part == "validation" else "test texts"
            text += f"### 50 labels, {judged}\n\n{part_table(rows, part, 50)}\n\n"
            libraries = [
                best_of(rows, data, part, library) for library in ("small-text", "skactiveml") for data in DATA
            ]
            if part == "test" and any(libraries):
                text += f"The default (*{DEFAULT}*) less each library's best: {''.join(libraries).strip()}\n\n"
    for n in (20,):
        if any(row["part"] == "test" for row in rows):
            text += f"### {n} labels, test texts\n\n{part_table(rows, 'test', n)}\n\n"
    return text


HEAD_OF_SECTION = """## Which texts to label first

`python bench/label_choice.py` on {commits}. A draw is a pool of 3,000 (BANKING77) or 1,500 training texts; the
strategy chooses, the true labels are revealed, and the frozen `minilm` student, which knows the label names, learns
them (no fine-tuning). Mean accuracy of five draws, and the paired difference to random on the same draws with its 95 %
t-interval; the pools of a data set overlap, so the intervals are narrower than those of new data. CPU s: processor
seconds of choosing, without embedding the pool, on a busy machine (of nested choices for 50 texts).

- *names max herding*: the default, max herding in which the label names count as covering.
- *lsa k-means*: the former default, rows nearest to the centres of n clusters of LSA features. *k-means*, *typiclust*,
  *probcover*, *max herding*: the same and other ways to cover the pool, on the student's vectors.
- *names ...*: uses the classifier that the label names alone make. *active ...*: buys ten labels at a time and refits
  the head; it begins with that classifier, so no label is bought at random.
- *small-text ...*: its strategies on the same vectors and the same head, ten labels at a time; *+random*: begins with
  ten at random, as its documentation does, else with the classifier of the names. EmbeddingKMeans and
  LightweightCoreset are asked once.
- *skactiveml ...*: scikit-activeml on the same vectors; strategies with a classifier have scikit-learn's logistic
  regression on the names and the labels bought, ten at a time.

"""


if __name__ == "__main__":
    main()
