"""Training and scoring beside a process that keeps a core busy: how much slower than alone, and with which threads.

    python bench/busy_machine.py [--data ../shared/data] [--steps 40] [--rounds 3]

Fine-tunes `minilm` on BANKING77's few-shot file and scores its texts: alone, and beside busy loops on some cores; once
with PyTorch's threads as they are (a thread for each core), once with as many threads as there are idle cores, which is
what training does (`potstill.models.threads`). Each measurement runs in a process of its own; rounds are interleaved,
and the median counts. Writes a section of bench/RESULTS.md. Run it on a machine that is otherwise idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from sections import commit, table, write_section

OUT = Path(__file__).parent / "results" / "busy_machine.json"
WAYS = ("all cores", "idle cores", "one thread")
BUSY_LOOP = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=40, help="fine-tuning steps of 32 rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1], help="numbers of busy loops")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.data, options.steps, options.one)))
        return
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for busy in options.busy:
            for way in WAYS:
                with busy_loops(busy):
                    command = [sys.executable, __file__, "--one", way, "--data", str(options.data)]
                    done = subprocess.run(
                        [*command, "--steps", str(options.steps)], stdout=subprocess.PIPE, text=True, check=True
                    )
                found = json.loads(done.stdout)
                runs.setdefault((way, busy), []).append(found)
                print(f"{way}, {busy} busy: {found}", flush=True)
    rows = [
        {"way": way, "busy": busy, **{name: statistics.median(each[name] for each in found) for name in found[0]}}
        for (way, busy), found in runs.items()
    ]
    record = {"format": 1, "commit": commit(), "cores": os.cpu_count(), "steps": options.steps, "rows": rows}
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    write_section("busy-machine", section(record))


def measure(data: Path, steps: int, way: str) -> dict[str, float]:
    """Seconds of fine-tuning and of scoring, and the threads at their end."""
    import numpy as np
    import torch
    from folds import SETTINGS, fold

    from potstill.models import threads
    from potstill.models.tokens.tokenizer import TextTokenizer
    from potstill.models.weights import find_weights
    from potstill.students.backbone import init_network, predict_batches
    from potstill.students.encoder_training import EncodedBatch, FineTuningConfig, fine_tune

    given = fold(data, SETTINGS[0], 0)
    weights = find_weights("minilm", kind="encoder")
    tokens, n = TextTokenizer(weights.folder / "tokenizer.json", 256), len(given.texts)
    network = init_network(weights.folder, len(given.labels), weights.pooling)
    batch = EncodedBatch(tokens.encode(given.texts).ids, given.targets, np.ones(n, np.float32), np.zeros(n, np.bool_))
    torch.set_num_threads(1 if way == "one thread" else os.cpu_count() or 1)
    counted: list[int] = []
    real = threads.idle_cores
    fixed = patch.object(threads, "idle_cores", lambda: os.cpu_count() or 1) if way == "all cores" else nullcontext()
    noted = patch.object(threads, "idle_cores", lambda: counted.append(real()) or counted[-1])
    with noted if way == "idle cores" else fixed:
        began = time.perf_counter()
        fine_tune(network, batch, FineTuningConfig(epochs=steps * 32 / n), pad_id=tokens.pad_id)
        trained = time.perf_counter()
        predict_batches(network, tokens.encode(given.pool[:1000]).ids, tokens.pad_id, low_precision=True)
        scored = time.perf_counter()
    used = statistics.mean(counted) if counted else torch.get_num_threads()
    return {"training_s": round(trained - began, 2), "scoring_s": round(scored - trained, 2), "threads": used}


@contextmanager
def busy_loops(n: int) -> Iterator[None]:
    """Inside the block n processes that do nothing but keep a core busy."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(n)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def section(record: dict[str, object]) -> str:
    """The Markdown section."""
    rows: list[dict[str, float]] = record["rows"]  # type: ignore[assignment]
    lines = [
        [f"{row['way']}, {row['busy']} busy", f"{row['training_s']:.1f}", f"{row['scoring_s']:.1f}"] for row in rows
    ]
    head = ["threads, busy loops beside it", f"{record['steps']} steps, s", "1,000 texts scored, s"]
    words = (
        f"## Beside another process\n\n`python bench/busy_machine.py` on {record['commit']}, {record['cores']} cores: "
        "MiniLM on BANKING77's few-shot file, batches of 32, medians. *All cores*: a PyTorch thread for each core. "
        "*Idle cores*: as many threads as are idle, counted every ten seconds; training and scoring do this.\n\n"
    )
    return words + table(head, lines)


if __name__ == "__main__":
    main()
