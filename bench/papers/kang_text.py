"""Distil or annotate (Kang et al. 2023) on their task of wet-lab protocols, with students that mark entities.

    python bench/papers/kang_text.py [--data ../shared/data] [--starts 500 1000] [--seeds 0 1 2] [--max-hours H]

`wlp_ner`: a small tagger has 500 or 1,000 marked sentences, of which 100 validate. More money buys more of them at the
paper's price ("annotate"), or nothing more is marked: a tagger five times as large learns the same sentences and marks
the rest of the training part, which teaches the small one ("distil"). Distilling costs this machine's seconds, a few
cents at either price of an hour, so its one figure stands beside every sum. Models and seconds are real; people are a
simulation: marks known all along. Unlike the paper's, the models mark words and write no text, and the score is entity
F1. Sentences that are also test sentences are left out of training. A cell is a run of its own and is stored when it
ends: the same command goes on where it stopped, and a cell that failed is stored with its reason and run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from kang2023 import USD_PER_LABEL
from pgkd_page import half_width
from sections import commit, table, write_section

from potstill.data.atomic import atomic_file
from potstill.data.entities.build import build_entity_pool
from potstill.data.entities.pool import EntityPool, GoldEntities
from potstill.data.pool import PoolOptions
from potstill.data.task import Output, Task
from potstill.errors import PotstillError
from potstill.evaluation.text2text.entities import compute_entity_metrics
from potstill.procedures.kinds import recipe_kind
from potstill.run.entity_verbs import ask_entities, evaluate_entities
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.entity_student import EntityStudent

RESULTS = Path(__file__).parents[1] / "results" / "kang_text.json"
COMMAND = "python bench/papers/kang_text.py"
DATA, PRICE = "wlp_ner", USD_PER_LABEL["WLP"]
STUDENT, LARGE = "tagger:minilm", "tagger:mpnet"
STARTS, EXTRA, VALIDATION, POOL = (500, 1000), (100, 200, 300), 100, 6000
HOURLY = (0.10, 1.875)  # USD: this machine's price, and the paper's GPU


@dataclass(frozen=True)
class WordsRow:
    """The student of one way to spend, or why it is not there.

    Attributes:
        start, arm, seed: which cell; an arm is "start", "annotate USD" or "distil".
        student, large: the models.
        state: "done", or "failed" with the `reason`.
        f1, macro_f1: of the student on the test sentences.
        teacher_f1: of the large model on them.
        bought, pool: sentences bought in addition, and sentences that the large model marked.
        seconds: of this machine, for all training and the teacher's marks.
        commit: what was measured.
    """

    start: int
    arm: str
    seed: int
    student: str = STUDENT
    large: str = LARGE
    state: str = "failed"
    reason: str = ""
    f1: float | None = None
    macro_f1: float | None = None
    teacher_f1: float | None = None
    bought: int = 0
    pool: int = 0
    seconds: float = 0.0
    commit: str = ""

    @property
    def key(self) -> tuple[int, str, int, str, str]:
        """What tells the cell from others."""
        return self.start, self.arm, self.seed, self.student, self.large if self.arm == "distil" else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--starts", nargs="*", type=int, default=list(STARTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--large", default=LARGE)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-kang-text"), help="the folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--max-hours", type=float, default=1000.0, help="no cell is begun later")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    ends = time.monotonic() + 3600 * options.max_hours
    arms = ("distil", "start", *(f"annotate {usd}" for usd in EXTRA))
    cells = [
        WordsRow(start, arm, seed, options.student, options.large)
        for seed in options.seeds
        for start in options.starts
        for arm in arms
    ]
    for cell in cells:
        if any(row.key == cell.key and row.state == "done" for row in read_rows(options.results)):
            continue
        if time.monotonic() > ends:
            print("The time is up; the same command goes on.")
            break
        row = run_cell(replace(cell, commit=commit()), options)
        store(options.results, row)
        print(row, flush=True)
    if not options.no_write:
        write_section("kang-text", page(read_rows(options.results)))


def run_cell(cell: WordsRow, options: argparse.Namespace) -> WordsRow:
    """Run one cell; what goes wrong is its reason."""
    try:
        return measure(cell, options)
    except PotstillError as error:
        return replace(cell, reason=str(error))
    except Exception as error:  # a cell without memory must not stop the others
        return replace(cell, reason=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def measure(cell: WordsRow, options: argparse.Namespace) -> WordsRow:
    """Train the student of the cell by the ordinary recipes, and evaluate it on the test sentences."""
    distils = cell.arm == "distil"
    bought = int(int(cell.arm.split()[1]) / PRICE) if cell.arm.startswith("annotate") else 0
    pool = draw_pool(options.data / DATA, cell, bought)
    task = Task(pool.labels, name=DATA, kind="text2text", output=Output("entities"))
    folder = options.out / "-".join(map(str, cell.key)).replace(" ", "-").replace(":", "-").strip("-")
    with Run.open(folder, spec_for(cell), task, cast(Any, pool)) as run:
        student = cast(EntityStudent, recipe_kind(run.spec.procedure.kind)(run))
        test = pool.subset("test")
        found = evaluate_entities(run, student, test, "test")
        spent = sum(call.usage.seconds for call in run.store.calls() if call.state == "settled")
        teacher_f1 = None
        if distils:
            assert run.teacher_record is not None
            marked = ask_entities(run, run.teacher_record.teacher, test.texts, purpose="measure")
            by_teacher = [each or () for each in marked.entities]
            teacher_f1 = compute_entity_metrics(test.entities, by_teacher, pool.labels).main_score.value
    return replace(
        cell,
        state="done",
        f1=found.main_score.value,
        macro_f1=found.macro_f1.value,
        teacher_f1=teacher_f1,
        bought=bought,
        pool=len(pool.subset("pool")) if distils else 0,
        seconds=round(float(spent), 1),
    )


def draw_pool(folder: Path, cell: WordsRow, bought: int) -> EntityPool:
    """The start, what is bought beside it, and the rest without marks; the order is the seed's."""
    files = {split: folder / f"{split}.parquet" for split in ("train", "test")}
    read = build_entity_pool(
        files, options=PoolOptions(on_leak="allow", on_conflict="first", on_duplicate="first", validation_share=0)
    ).pool
    train, test = read.subset("train"), read.subset("test")
    plain = {as_plain(text) for text in test.texts}
    order = [
        i for i in np.random.default_rng(cell.seed).permutation(len(train)) if as_plain(train.texts[i]) not in plain
    ]
    end = cell.start + bought
    parts = {"validation": order[:VALIDATION], "train": order[VALIDATION:end], "pool": order[end : end + POOL]}
    rows = [(train.texts[i], train.gold[i], split, train.ids[i]) for split, part in parts.items() for i in part]
    rows += [(text, gold, "test", id) for text, gold, id in zip(test.texts, test.gold, test.ids, strict=True)]
    texts, gold, splits, ids = zip(*rows, strict=True)
    hidden: GoldEntities = tuple(row if split == "pool" else None for row, split in zip(gold, splits, strict=True))
    known: GoldEntities = tuple(None if split == "pool" else row for row, split in zip(gold, splits, strict=True))
    return EntityPool(read.labels, texts, known, np.array(splits), ids, hidden)


def as_plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def spec_for(cell: WordsRow) -> Spec:
    """The money is not what limits a cell: seconds are counted, and priced afterwards."""
    record: dict[str, Any] = {"budget": 1000, "seed": cell.seed, "student": cell.student}
    if cell.arm == "distil":
        return Spec.from_dict({**record, "procedure": {"name": "kd"}, "teacher": {"name": f"trained:{cell.large}"}})
    return Spec.from_dict({**record, "procedure": {"name": "finetune"}})


def read_rows(file: Path) -> list[WordsRow]:
    return [WordsRow(**row) for row in json.loads(file.read_text("utf-8"))["rows"]] if file.exists() else []


def store(file: Path, row: WordsRow) -> None:
    """Add a row, in place of that of the same cell."""
    rows = [*(each for each in read_rows(file) if each.key != row.key), row]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as path:
        path.write_text(json.dumps({"command": COMMAND, "rows": [asdict(each) for each in rows]}, indent=1) + "\n")


def page(rows: Sequence[WordsRow]) -> str:
    """The section of RESULTS.md: entity F1 in %, and distilling less annotating with an interval over seeds."""
    done = [row for row in rows if row.state == "done"]
    head = ["start, student, teacher", "seeds", "start alone", *(f"+ ${usd} of marks" for usd in EXTRA)]
    head += ["distilled", "its teacher", "distilling, s", *(f"${price} an hour" for price in HOURLY)]
    lines, gaps = [], []
    for start, student, large in dict.fromkeys((row.start, row.student, row.large) for row in done):
        own = {(row.arm, row.seed): row for row in done if (row.start, row.student) == (start, student)}
        seeds = [seed for arm, seed in own if arm == "distil" and own[arm, seed].large == large]
        if not seeds:
            continue
        taught = [own["distil", seed] for seed in seeds]
        cells = []
        for arm in ("start", *(f"annotate {usd}" for usd in EXTRA)):
            pairs = [(own[arm, seed].f1 or 0, own["distil", seed].f1 or 0) for seed in seeds if (arm, seed) in own]
            cells.append(f"{100 * np.mean([alone for alone, _ in pairs]):.1f}" if pairs else "")
            if pairs:
                gap = np.array([distilled - alone for alone, distilled in pairs])
                name = "the start alone" if arm == "start" else f"{arm.split()[1]} dollars of marks"
                interval = f" ± {100 * half_width(gap):.1f}" if len(gap) > 1 else ""
                gaps.append(
                    f"- {start:,} sentences, {student} taught by {large}: distilling less {name} "
                    f"{100 * gap.mean():+.1f}{interval} points ({len(gap)} seeds)."
                )
        seconds = float(np.mean([row.seconds for row in taught]))
        lines.append(
            [
                f"{start:,}, {student}, {large}",
                str(len(seeds)),
                *cells,
                f"{100 * np.mean([row.f1 or 0 for row in taught]):.1f}",
                f"{100 * np.mean([row.teacher_f1 or 0 for row in taught]):.1f}",
                f"{seconds:,.0f}",
                *(f"${seconds * price / 3600:.2f}" for price in HOURLY),
            ]
        )
    failed = [f"- Failed: {row.start}, {row.arm}, seed {row.seed}: {row.reason}" for row in rows if row.state != "done"]
    commits = ", ".join(sorted({f"`{row.commit}`" for row in done}))
    about = (
        f"`{COMMAND}`, commit {commits or 'none'}. Entity F1 in % on the 2,813 test sentences, mean over seeds; "
        f"the marks of a sentence cost the paper's ${PRICE}. {VALIDATION} sentences of the start validate. Seconds are "
        "this machine's, shared with other work, for all training and the teacher's marks; dollars are theirs by two "
        "prices of an hour. **People are a simulation**; the models are real. ± is a 95 % t-interval over seeds."
    )
    body = table(head, lines) if lines else "Not measured."
    return "\n".join(["## Distil or annotate: wet-lab protocols", "", about, "", body, "", *gaps, *failed])


if __name__ == "__main__":
    main()
