"""Kills a distilling process at 200 random instants and begins it again each time: what is lost, what is overspent?

    python bench/crash.py [--kills 200] [--texts 600] [--parallel 32] [--out bench/results/crash.json]

A provider in another process (tests/support) answers over loopback, with faults: 429 with and without Retry-After,
500, hang, cut connection, malformed JSON, unknown label; it keeps its own books. Runs are taken in turn, two with ample
money and one with little, each killed and begun again until it is done, until the kills are used up. Also: two
processes at one run, Ctrl-C, a disk that is full. Takes some minutes; prints a table, writes JSON with the commit, and
exits with 1 if a promise was broken. Tells nothing about power loss.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.crash_study import NEVER_S, Ended, Stopped, Study, broken, distil, fill_disk, interrupt, open_twice, worth
from support.provider import provider

AMPLE_USD, LITTLE_USD = 20.0, 0.4
LATENCY_S, FAULTS = 0.15, 0.25
MOST_BYTES = 600_000


def instants(luck: random.Random, startup_s: float) -> Callable[[], float]:
    """Draws how long a process may live: some die while they start, most soon after, some much later."""

    def draw() -> float:
        kind = luck.random()
        if kind < 0.15:
            return luck.uniform(0, startup_s)
        return startup_s + luck.uniform(0, 0.5 if kind < 0.85 else 2.0)

    return draw


def main() -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--parallel", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/crash.json"))
    asked = parser.parse_args()
    began = time.time()
    with tempfile.TemporaryDirectory() as folder, provider(LATENCY_S, FAULTS) as url:
        study = Study(Path(folder), asked.texts, asked.parallel)
        found = tell(study, url, asked.kills, random.Random(asked.seed))
    found = {
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
        ).stdout.strip(),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "settings": {k: v for k, v in vars(asked).items() if k != "out"} | {"latency_s": LATENCY_S, "faults": FAULTS},
        "seconds": round(time.time() - began, 1),
        **found,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{found['seconds']:.0f} s; written to {asked.out}")
    for sentence in found["broken"]:
        print("BROKEN:", sentence)
    return bool(found["broken"])


def tell(study: Study, url: str, kills: int, luck: random.Random) -> dict[str, Any]:
    """Everything found, with a line printed for each run."""
    ample, little = study.write(url, AMPLE_USD, "ample"), study.write(url, LITTLE_USD, "little")
    began = time.time()
    uncut = distil(ample, study.out("uncut"), url, lambda: NEVER_S)
    startup_s = uncut.books[0].arrived - uncut.began
    wrong = broken(uncut, study.parallel)
    print(f"uncut: {time.time() - began:.1f} s, {startup_s:.2f} s of it before the first request\n")
    print("run  budget  kills  lost<=in flight  bought twice  booked $  billed $  charged $  answers  same  broken")
    rows: list[dict[str, Any]] = []
    ended: list[Ended] = []
    while (left := kills - sum(row["kills"] for row in rows)) > 0:
        has_little = len(rows) % 3 == 1
        spec = little if has_little else ample
        one = distil(spec, study.out(f"cut-{len(rows)}"), url, instants(luck, startup_s), left)
        row = summary(one, uncut, study.parallel, has_little)
        print(
            f"{len(rows):>3}  {one.end.totals.limit / 1e6:>6.2f}  {row['kills']:>5}"
            f"  {row['lost']:>6} <= {row['in_flight']:<5}  {row['bought_twice']:>12}  {row['booked_usd']:>8.4f}"
            f"  {row['billed_usd']:>8.4f}  {row['charged_usd']:>9.4f}  {row['answers']:>7}"
            f"  {row['same']!s:>4}  {len(row['broken'])}",
            flush=True,
        )
        rows.append(row)
        ended.append(one)
    wrong += [f"run {number}: {sentence}" for number, row in enumerate(rows) for sentence in row["broken"]]
    phases = Counter(kill.phase for one in ended for kill in one.kills)
    print(f"\nkills by phase: {dict(phases)}")
    others = beside(study, ample, url, uncut)
    wrong += [f"{name}: {sentence}" for name, row in others.items() for sentence in row["broken"]]
    return {
        "kills": sum(row["kills"] for row in rows),
        "by_phase": phases,
        "over_budget": sum(kill.committed > kill.limit for one in ended for kill in one.kills),
        "lost": sum(row["lost"] for row in rows),
        "in_flight_at_kills": sum(row["in_flight"] for row in rows),
        "bought_twice": sum(row["bought_twice"] for row in rows),
        "unbooked": sum(kill.billed > kill.booked for one in ended for kill in one.kills),
        "not_reconciling": sum(not kill.reconciles for one in ended for kill in one.kills),
        "broken": wrong,
        "runs": rows,
        "others": others,
        "records": [[asdict(kill) for kill in one.kills] for one in ended],
    }


def summary(one: Ended, uncut: Ended, parallel: int, has_little: bool) -> dict[str, Any]:
    """One run that was killed and finished, beside the uncut one."""
    wrong = broken(one, parallel)
    there = all(uncut.end.answers.get(key) == value for key, value in one.end.answers.items())
    same = there and (has_little or len(one.end.answers) == len(uncut.end.answers))
    if not same:
        wrong.append("the answers are not those of the uncut run")
    if one.code:
        wrong.append(f"it ended with {one.code}: {one.said[-300:]}")
    elif not has_little and worth(one) != worth(uncut):
        wrong.append(f"the report says {worth(one)} and that of the uncut run {worth(uncut)}")
    return {
        "kills": len(one.kills),
        "lost": sum(kill.lost for kill in one.kills),
        "in_flight": sum(kill.held_calls for kill in one.kills),
        "bought_twice": one.bought_twice,
        "booked_usd": one.end.booked_llm / 1e6,
        "billed_usd": one.billed / 1e6,
        "charged_usd": one.end.totals.charged / 1e6,
        "lost_usd": one.end.totals.lost / 1e6,
        "answers": len(one.end.answers),
        "same": same,
        "broken": wrong,
    }


def beside(study: Study, spec: Path, url: str, uncut: Ended) -> dict[str, dict[str, Any]]:
    """What else can happen to a run: opened twice, stopped by Ctrl-C, on a full disk."""
    second = open_twice(spec, study.out("twice"))
    opened: dict[str, Any] = {"code": second.code, "said": last_words(second.said), "first_code": second.first_code}
    good = second.code == 2 and "Another process is working in" in second.said and second.first_code == 0
    opened["broken"] = [] if good else [f"{second}"]
    stopped = interrupt(spec, study.out("interrupted"), url)
    full = fill_disk(spec, study.out("full"), url, MOST_BYTES)
    others = {
        "two processes": opened,
        "Ctrl-C": stop_row(stopped, uncut, study.parallel, 130, "Nothing is lost"),
        "disk full": stop_row(full, uncut, study.parallel, 2, "is full or failing"),
    }
    for name, row in others.items():
        listed = "; ".join(f"{key} {value}" for key, value in row.items() if key not in ("said", "broken"))
        print(f"{name}: {listed}; says {row['said']!r}")
    return others


def last_words(said: str) -> str:
    """The last two lines, without the name of a scratch folder."""
    return re.sub(r"/\S*/(?=\w+/run)", "", " ".join(said.strip().splitlines()[-2:]))


def stop_row(stopped: Stopped, uncut: Ended, parallel: int, code: int, words: str) -> dict[str, Any]:
    """A run that was stopped, and run again."""
    wrong = broken(stopped.again, parallel, stopped.found.held_calls)
    if stopped.code != code or words not in stopped.said:
        wrong.append(f"it ended with {stopped.code}: {stopped.said[-300:]}")
    if stopped.again.end.answers != uncut.end.answers:
        wrong.append("the answers are not those of the uncut run")
    return {
        "code": stopped.code,
        "said": last_words(stopped.said),
        "seconds": round(stopped.seconds, 2),
        "states": Counter(call.state for call in stopped.found.calls),
        "answers": len(stopped.found.answers),
        "answers_after": len(stopped.again.end.answers),
        "broken": wrong,
    }


if __name__ == "__main__":
    sys.exit(main())
