"""Tables that several tests write."""

from __future__ import annotations

import csv
from pathlib import Path


def write_csv(path: Path, table: dict[str, list[str]]) -> Path:
    """Columns by name as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def write_tickets(path: Path) -> Path:
    """Twenty tickets with the labels card and transfer, and four hundred without a label."""
    card = [f"my card number {i} was declined again and again today" for i in range(10)]
    transfer = [f"the transfer {i} has not arrived on the other account" for i in range(10)]
    unlabelled = [f"please look at number {i} for me" for i in range(400)]
    labels = ["card"] * len(card) + ["transfer"] * len(transfer) + [""] * len(unlabelled)
    return write_csv(path, {"text": [*card, *transfer, *unlabelled], "label": labels})
