"""PGKD: in rounds, a teacher writes training texts about what the student gets wrong (docs/pgkd.md).

    python examples/pgkd.py

The teacher is `replay`, so this is a simulation: it serves real sentences near the student's errors, with the accuracy
and the price that `pgkd.toml` states. For a real writer put `name = "openai:gpt-6-luna"` in place of the lines under
`[teacher]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import potstill


def main(out: str | Path = "runs/pgkd") -> None:
    """Run three rounds and print the report."""
    print("A simulation: the teacher replays known labels.")
    result = potstill.distill(Path(__file__).parent / "pgkd.toml", out=Path(out))
    print(result.to_text())


if __name__ == "__main__":
    main(*sys.argv[1:2])
