"""What several runs of pgkd.py and pgkd_local.py wrote, as bench/results/pgkd.json and a section of bench/RESULTS.md.

    python bench/papers/pgkd_page.py PART=FILE [PART=FILE ...]

PART is "zero-shot" (written labels are right as often as the paper's teacher is zero-shot), "careful" (as often as
`--write-accuracy` says), "measured" (as often as those of a real writer), "seed-size" (the same from other numbers of
gold texts), "options" or "options-careful" (other arms, likewise), "start", or "local". Files of one part are joined,
and parts not named stay as they are.
Intervals are Student's t over seeds, of differences on the same seed's texts: few seeds, wide intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pgkd import GOLD, MEASURED, PAPERS_ARMS, STUDIES

sys.path.append(str(Path(__file__).parents[1]))
from sections import table, write_section

RESULTS = Path(__file__).parents[1] / "results" / "pgkd.json"
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 9: 2.31, 10: 2.26, 12: 2.20, 15: 2.14, 16: 2.13, 20: 2.09}
K = {"ag_news": 4, "huffpost41": 41, "banking77": 77, "dbpedia219": 219}
TITLES = {
    "zero-shot": "Written labels right as often as the teacher is zero-shot",
    "careful": "Written labels more often right than zero-shot labels",
    "measured": "Written labels right as often as those of qwen-1.5b, errors from folds, no text twice",
    "seed-size": "The same from other numbers of gold texts",
    "options": "Beyond the paper, written labels right as often as the teacher is zero-shot",
    "options-careful": "Beyond the paper, written labels more often right",
    "start": "Warm start from the best student, or from scratch (`--student static:potion-8m --rounds 4`)",
    "local": "A real, very small teacher",
}
# Names of arms in results that were written before the options had their present names.
STORED_ARMS = {
    "by need": "error allocation",
    "by gain": "error-reduction allocation",
    "folds, by need, agree teacher": "folds, error allocation, agree teacher",
    "confused 20": "20 labels per request",
    "soft": "soft labels",
    "diverse": "vary style",
    "real random": "pool random",
    "real margin": "pool margin",
    "real near": "pool hard negatives",
    "real in turns": "pool margin, alternating",
    "from best": "warm start",
}
Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART=FILE", help=f"PART is one of {', '.join(TITLES)}")
    given = parser.parse_args().parts
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"parts": {}}
    joined: dict[str, dict[str, Any]] = {}
    for each in given:
        name, _, file = each.partition("=")
        if name not in TITLES:
            raise SystemExit(f"{name!r} is no part; there are {', '.join(TITLES)}")
        read = json.loads(Path(file).read_text())
        part = joined.setdefault(name, {"runs": [], "simulation": read["simulation"], "rows": []})
        part["rows"] += read["rows"]
        part["runs"].append({"commit": read["commit"], "asked": read["asked"]})
        part |= {name: read[name] for name in ("samples",) if name in read}
    record["parts"] |= joined
    record["parts"] = {name: record["parts"][name] for name in TITLES if name in record["parts"]}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_section("pgkd", page(record["parts"]))


def page(parts: Mapping[str, Any]) -> str:
    lines = [
        "## PGKD beside its paper",
        "",
        "`python bench/papers/pgkd.py` (student: regression on frozen MiniLM vectors; 800 gold to learn, 200 to "
        "validate, 10 rounds of 32 texts; 2,000 test texts) and `python bench/papers/pgkd_local.py`.",
    ]
    for name, part in parts.items():
        commits = ", ".join(sorted({run["commit"] for run in part["runs"]}))
        right = {written_accuracy(run["asked"].get("write_accuracy", "None")) for run in part["runs"]} - {"None"}
        accuracy = f" Written labels are right with {', '.join(sorted(right))}." if right else ""
        lines += ["", f"### {TITLES[name]}", "", f"Commit {commits}.{accuracy}"]
        if part["simulation"]:
            lines.append(
                "**A simulation**: the teacher replays real texts near the student's errors; its skill is assumed."
            )
        rows = [{**row, "arm": STORED_ARMS.get(row["arm"], row["arm"])} for row in part["rows"]]
        lines += ["", _table(rows, paper=name in ("zero-shot", "careful", "measured")), ""]
        lines += _against(rows) if name in ("zero-shot", "careful", "measured") else []
        for stored, sample in part.get("samples", {}).items():
            arm = STORED_ARMS.get(stored, stored)
            lines += [f"Samples of `{arm}`: " + " · ".join(f"“{text[:140]}”" for text in sample["accepted"][:4]), ""]
            if sample["rejected"]:
                lines += ["Not learnt: " + " · ".join(f"“{text[:110]}”" for text in sample["rejected"][:3]), ""]
    return "\n".join(lines)


def written_accuracy(asked: str) -> str:
    """The option as it was given, with what "measured" stands for."""
    return f"{MEASURED} (measured)" if asked == "measured" else asked


def _table(rows: Rows, *, paper: bool) -> str:
    head = ["set (labels), arm", "seeds", "accuracy", "gain", "95 %", "macro-F1", "teacher $", "best round"]
    head += ["paper"] if paper else []
    lines = []
    for name, gold in dict.fromkeys((row["data"], row.get("gold", GOLD)) for row in rows):
        mine = [row for row in rows if (row["data"], row.get("gold", GOLD)) == (name, gold)]
        title = f"{name} ({K[name]})" + f", {gold} gold" * (gold != GOLD)
        for arm in dict.fromkeys(row["arm"] for row in mine):
            some = [row for row in mine if row["arm"] == arm]
            gains = differences(mine, arm, "base")
            rounds = [row["best_round"] for row in some if row["best_round"] is not None]
            lines.append(
                [
                    f"{title}, {arm}",
                    str(len(some)),
                    f"{np.mean([row['accuracy'] for row in some]):.3f}",
                    f"{np.mean(gains):+.3f}" if len(gains) and arm != "base" else "",
                    f"± {half_width(gains):.3f}" if len(gains) > 1 and arm != "base" else "",
                    f"{np.mean([row['macro_f1'] for row in some]):.3f}",
                    f"{np.mean([row['llm_usd'] for row in some]):.3f}",
                    f"{np.mean(rounds):.1f}" if rounds else "",
                    *([str(STUDIES[name].paper.get(arm, ""))] if paper else []),
                ]
            )
    return table(head, lines)


def _against(rows: Rows) -> list[str]:
    """The full loop less each other arm, over all sets and seeds."""
    said = []
    for arm in PAPERS_ARMS[2:]:
        found = differences(rows, "pgkd", arm)
        if len(found) > 1:
            said.append(f"{np.mean(found):+.4f} ± {half_width(found):.4f} over *{arm}*")
    f1 = differences(rows, "pgkd", "base", "macro_f1")
    return (
        [
            f"The full loop in accuracy, all sets and seeds: {'; '.join(said)}. In macro-F1 over *base*: "
            f"{np.mean(f1):+.4f} ± {half_width(f1):.4f}."
        ]
        if said
        else []
    )


def differences(rows: Rows, one: str, other: str, what: str = "accuracy") -> np.ndarray:
    """`one` less `other`, for each set and seed that has both."""
    value = {(row["data"], row["seed"], row["arm"]): row[what] for row in rows}
    pairs = [(key, (*key[:2], other)) for key in value if key[2] == one and (*key[:2], other) in value]
    return np.array([value[a] - value[b] for a, b in pairs])


def half_width(found: np.ndarray) -> float:
    """Half of the 95 % t-interval of the mean."""
    n = len(found)
    if n < 2:
        return float("nan")
    t = T95[max(known for known in T95 if known <= n)]
    return float(t * found.std(ddof=1) / np.sqrt(n))


if __name__ == "__main__":
    main()
