"""A language model behind an API labels the texts without a label, within a budget; a small student learns from it.

    python examples/api_teacher.py

With OPENAI_API_KEY set, the teacher is `gpt-6-luna` and the budget two dollars: that is the limit, whatever happens,
and the plan that is printed first says what it will cost. Without a key a stand-in server on this machine answers
instead, and the example says so: it shows how the calls go, not what a model knows.
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
    """Distil within two dollars, and print the plan and the report."""
    if os.environ.get("OPENAI_API_KEY"):
        print(potstill.plan(TABLE, teacher="openai:gpt-6-luna", student="linear", budget=2.00, gold=GOLD).to_text())
        result = potstill.distill(
            TABLE, teacher="openai:gpt-6-luna", student="linear", budget=2.00, out=Path(out), gold=GOLD
        )
    else:
        print("OPENAI_API_KEY is not set: a stand-in server on this machine answers. Its labels come from a word list.")
        with serve_stand_in() as url:
            result = potstill.distill(
                TABLE,
                teacher="openai:stand-in",
                base_url=url,
                student="linear",
                budget=2.00,
                out=Path(out),
                gold=GOLD,
                usd_per_hour=0.10,  # its price: the time of this machine
            )
    print(result.to_text())


if __name__ == "__main__":
    main(*sys.argv[1:2])
