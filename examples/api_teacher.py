"""A language model behind an API labels the texts without a label, within a budget; a small student learns from it.

    python examples/api_teacher.py

With OPENAI_API_KEY set, the teacher is `gpt-4.1-mini` and the budget half a dollar; the command says what it will cost
and asks before it spends. Without a key a stand-in server on this machine answers instead, and says so: it shows how the
calls go, not what a model knows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stand_in_server import serve_stand_in

import potstill

TABLE = Path(__file__).parent / "tickets.csv"
GOLD = 24  # labels the student may see; the other texts are the teacher's


def main(out: str | Path = "runs/api-teacher") -> None:
    """Distil within half a dollar, and print the report."""
    if os.environ.get("OPENAI_API_KEY"):
        result = potstill.distill(
            TABLE, teacher="openai:gpt-4.1-mini", student="linear", budget=0.50, out=Path(out), gold=GOLD
        )
    else:
        print("OPENAI_API_KEY is not set: a stand-in server on this machine answers. Its labels come from a word list.")
        with serve_stand_in() as url:
            result = potstill.distill(
                TABLE,
                teacher="openai:stand-in",
                base_url=url,
                student="linear",
                budget=0.50,
                out=Path(out),
                gold=GOLD,
                usd_per_hour=0.10,  # its price: the time of this machine
            )
    print(result.to_text())


if __name__ == "__main__":
    main(*sys.argv[1:2])
