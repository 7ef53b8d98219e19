"""What another run of a workspace bought and could not share any more, because its process was killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.errors import PotstillError
from potstill.ledger.prices import Category
from potstill.ledger.store.records import PaidAnswer
from potstill.ledger.store.run_store import RunStore


def unshared_answers(folder: Path, categories: Sequence[Category], cache: Path) -> list[PaidAnswer]:
    """What the run in `folder` bought and did not share with a cache; nothing if it cannot be read."""
    try:
        store = RunStore(folder, write=False)
    except PotstillError:
        return []
    try:
        return store.paid_answers(categories, unknown_to=cache)
    except PotstillError:
        return []
    finally:
        store.close()
