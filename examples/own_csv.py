"""Train a classifier on the labels of a table, and use it: no teacher, no key, a few seconds.

    python examples/own_csv.py [FILE.csv]

Without a file it takes `tickets.csv`, 210 made-up messages to a shop. `potstill init FILE.csv` shows what is guessed of
a table: its columns, its labels, and how it is split into train, validation and test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import potstill

HERE = Path(__file__).parent


def main(table: str | Path = HERE / "tickets.csv", out: str | Path = "runs/own-csv") -> None:
    """Train a linear student on `table`, print its report and three predictions."""
    result = potstill.distill(Path(table), procedure="finetune", student="linear", budget=0.05, out=Path(out))
    print(result.to_text())

    model = potstill.load(out)
    texts = ["where is my parcel", "I was charged twice", "the password does not work"]
    for text, prediction in zip(texts, model.iter_predictions(texts), strict=True):
        print(f"{prediction.label:10} {prediction.probability:.2f}  {text}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
