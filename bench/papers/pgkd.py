"""PGKD beside the paper's table (Palo et al., EMNLP 2024): base, the loop, its ablations, and the same money otherwise.

    python bench/papers/pgkd.py [--data ../shared/data] [--sets ag_news ...] [--seeds 3] [--arms ...] [--out FILE]
    python bench/papers/pgkd_page.py PART=FILE ...      puts what such runs wrote into one JSON file and one page

A simulation: the teacher replays real texts that were held back, near the student's errors, and no text is written
twice in a run. It errs as often as the paper's teacher did zero-shot; `--write-accuracy` says how often its written
labels are right: a share, or "measured" for what an arbiter found of qwen-1.5b. 1,000 labelled texts (`--gold`), one of
each class for certain and the rest at random, four fifths to learn and the others to validate; measured on test texts
that nothing else uses. Every arm of a seed has the same gold. "like EvoKD" shows the teacher what the student gets
right and wrong and nothing else, as EvoKD (2024) does; its analysis of them is not imitated. Not covered: what a real
LLM writes; see pgkd_real.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import frozen
import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from sections import commit

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table, read_table
from potstill.data.task import Task
from potstill.evaluation.calibration import one_hot, softmax
from potstill.procedures.kinds import recipe_kind
from potstill.run.notes import RoundsFinished
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.base import RowTrust, Student

GOLD, VALIDATION_SHARE = 1000, 0.2
MEASURED = 0.61  # of the labels of qwen-1.5b for BANKING77, by an arbiter: 27 of 44 texts
USD_PER_MILLION = 3.0  # what the paper's teacher cost to read; only the ratio of the arms matters here


@dataclass(frozen=True)
class Study:
    """A data set, how often the teacher is right zero-shot, where that figure is from, and the paper's own row.

    `paper` is accuracy without and with PGKD, without the report, and without hard negatives.
    """

    name: str
    accuracy: float
    source: str
    paper: Mapping[str, float]


PAPER_ROWS = ("base", "pgkd", "no report", "no hard negatives")
STUDIES = {
    each.name: each
    for each in (
        Study("ag_news", 0.826, "paper, AG News", dict(zip(PAPER_ROWS, (0.884, 0.895, 0.893, 0.887), strict=True))),
        Study("huffpost41", 0.442, "paper, HuffPost", dict(zip(PAPER_ROWS, (0.474, 0.519, 0.501, 0.510), strict=True))),
        Study("banking77", 0.684, "GPT-3.5 zero-shot; not in the paper", {}),
        Study("dbpedia219", 0.416, "assumed: the paper's on AMZN-335; this set is not in the paper", {}),
    )
}
OFF = {"validation_report": False, "hard_negatives": False, "predictions": False}
ARMS: dict[str, dict[str, Any]] = {
    "base": {"name": "finetune"},
    "pgkd": {"name": "pgkd"},
    "no report": {"name": "pgkd", "validation_report": False},
    "no hard negatives": {"name": "pgkd", "hard_negatives": False},
    "random writing": {"name": "pgkd", **OFF},
    "like EvoKD": {"name": "pgkd", "validation_report": False, "hard_negatives": False},
    "labelling": {"name": "labelling"},
    "folds": {"name": "pgkd", "cv_folds": 5},
    "roll back": {"name": "pgkd", "roll_back": True},
    "error allocation": {"name": "pgkd", "label_allocation": "error"},
    "error-reduction allocation": {"name": "pgkd", "label_allocation": "error_reduction"},
    "20 labels per request": {"name": "pgkd", "labels_per_request": 20},
    "agree teacher": {"name": "pgkd", "agree": "teacher"},
    "agree student": {"name": "pgkd", "agree": "student"},
    "pvi": {"name": "pgkd", "agree": "pvi"},
    "soft labels": {"name": "pgkd", "soft_labels": True},
    "pool random": {"name": "pgkd", "query_strategy": "random"},
    "pool margin": {"name": "pgkd", "query_strategy": "margin"},
    "pool hard negatives": {"name": "pgkd", "query_strategy": "hard_negatives"},
    "pool margin, alternating": {"name": "pgkd", "query_strategy": "margin", "source_schedule": "alternate"},
    "320 more gold": {"name": "finetune", "more": 320},
    "warm start": {"name": "pgkd", "warm_start": True},
}
POOL = 3000  # unlabelled texts of the arms with a query strategy
PAPERS_ARMS = ("base", "pgkd", "no report", "no hard negatives", "random writing", "like EvoKD", "labelling")


@dataclass(frozen=True)
class Row:
    """One arm on one set with one seed. Accuracy and macro-F1 on the test texts, money in USD, time in seconds."""

    data: str
    arm: str
    seed: int
    accuracy: float
    macro_f1: float
    llm_usd: float
    seconds: float
    best_round: int | None = None
    accepted: int | None = None
    rejected: Mapping[str, int] | None = None
    gold: int = GOLD


@dataclass(frozen=True)
class World:
    """What all arms of a seed share: the pool, and the texts held back with their labels, in a file."""

    pool: Pool
    held_back: Path
    rest: tuple[tuple[str, str], ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--arms", nargs="*", default=list(PAPERS_ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--student", default="frozen", help="`frozen`: see frozen.py; or any student on the menu")
    parser.add_argument("--vectors", type=Path, help="a folder that keeps the vectors of `frozen` for the next time")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument(
        "--folds", type=int, default=0, help="errors of students that did not learn the text; 0: the paper"
    )
    parser.add_argument("--held-back", type=int, default=20_000, help="texts the simulated teacher can write")
    parser.add_argument("--test", type=int, default=3000)
    parser.add_argument("--write-accuracy", help='how often its written labels are right, or "measured"')
    parser.add_argument("--gold", type=int, default=GOLD, help="labelled texts in all")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--option", nargs="*", default=[], help="options of the student, as name=number")
    options = parser.parse_args()
    rows = stored_rows(options)
    for name in options.sets:
        vectors = frozen.use("minilm", options.vectors / f"{name}.npz" if options.vectors else None)
        for seed in range(options.seeds):
            for row in arms_of(STUDIES[name], seed, options, [each for each in rows if each.seed == seed]):
                rows.append(row)
                print(f"{row.data:<12} seed {seed} {row.arm:<18} {row.accuracy:.3f} {row.macro_f1:.3f}", flush=True)
                if options.out:  # after every row: a run that is cut still counts
                    write_part(options.out, options, rows, simulation=True)
            vectors.save()
    print("\n".join(table(rows)))


def stored_rows(options: argparse.Namespace) -> list[Row]:
    """The rows of the file `--out`, if they are of the same options; sets, arms and seeds may be others."""
    if options.out is None or not options.out.exists():
        return []
    stored, asked = json.loads(options.out.read_text(encoding="utf-8")), asked_of(options)
    others = [name for name in asked if stored["asked"].get(name) != asked[name]]
    if set(others) - {"sets", "arms", "seeds"}:
        raise SystemExit(f"{options.out} was made with another {others[0]}: name another file.")
    return [Row(**row) for row in stored["rows"]]


def asked_of(options: argparse.Namespace) -> dict[str, str]:
    """The options of the command as they are stored."""
    return {name: str(value) for name, value in vars(options).items() if name not in ("data", "out", "vectors")}


def write_part(file: Path, options: argparse.Namespace, rows: Sequence[Row], *, simulation: bool, **also: Any) -> None:
    """One part of the results, for pgkd_page.py to put beside the others."""
    record = {
        "commit": commit(),
        "simulation": simulation,
        "asked": asked_of(options),
        "rows": [asdict(row) for row in rows],
    }
    file.write_text(json.dumps({**record, **also}, indent=1), encoding="utf-8")


def arms_of(study: Study, seed: int, options: argparse.Namespace, done: Sequence[Row]) -> Iterator[Row]:
    """The arms that are not done, on the same texts. Labelling gets the money that `pgkd` spent on its teacher."""
    known = {row.arm: row for row in done if row.data == study.name}
    if set(options.arms) <= set(known):
        return
    with tempfile.TemporaryDirectory() as scratch:
        world = world_of(options.data / study.name, seed, options, Path(scratch))
        spent = 0.0
        for arm in options.arms:
            if arm in known:
                spent = known[arm].llm_usd if arm == "pgkd" else spent
                continue
            given = world
            if arm == "labelling":
                given = with_pool(world, affordable(world, spent))
                if given is world:
                    continue
            elif "query_strategy" in ARMS[arm]:
                given = with_pool(world, POOL)
            elif "more" in ARMS[arm]:
                given = with_pool(world, ARMS[arm]["more"], "train")
            row = run_arm(study, arm, seed, options, given, Path(scratch) / arm)
            spent = row.llm_usd if arm == "pgkd" else spent
            yield row


def world_of(folder: Path, seed: int, options: argparse.Namespace, scratch: Path) -> World:
    """1,000 labelled texts, the test texts, and what the teacher may write, drawn with the seed."""
    draw = np.random.default_rng(seed)
    train, test = (labelled(folder / f"{split}.parquet") for split in ("train", "test"))
    order = [train[i] for i in draw.permutation(len(train))]
    firsts = list({label: (text, label) for text, label in reversed(order)}.values())
    chosen = set(firsts)
    others = [row for row in order if row not in chosen]
    gold = (firsts + others)[: options.gold]
    rest = others[options.gold - len(firsts) :][: options.held_back]
    n_train = options.gold - round(VALIDATION_SHARE * options.gold)
    measured = [test[i] for i in draw.permutation(len(test))[: options.test]]
    rows = [
        *((text, label, "train") for text, label in gold[:n_train]),
        *((text, label, "validation") for text, label in gold[n_train:]),
        *((text, label, "test") for text, label in measured),
    ]
    held_back = scratch / "held_back.jsonl"
    lines = [json.dumps({"text": text, "label": label}) for text, label in rest]
    held_back.write_text("\n".join(lines), encoding="utf-8")
    return World(pool_of(rows), held_back, tuple(rest))


def labelled(path: Path) -> list[tuple[str, str]]:
    table = read_table(path)
    pairs = zip(table.column("text"), table.column("label"), strict=True)
    return [(text, label) for text, label in pairs if text and label]


def pool_of(rows: Sequence[tuple[str, str, str]], labels: Sequence[str] = ()) -> Pool:
    columns = dict(zip(("text", "label", "split"), (list(column) for column in zip(*rows, strict=True)), strict=True))
    # The test set may hold copies of training texts in the source itself: they are dropped from training.
    options = PoolOptions(text="text", label="label", split="split")
    return build_pool(Table.from_columns(columns), labels=labels, options=options).pool


def affordable(world: World, usd: float) -> int:
    """How many texts so much money has labelled."""
    prices = np.cumsum([(200 + len(text.encode()) / 4 + 1) * USD_PER_MILLION / 1e6 for text, _ in world.rest])
    return int(np.searchsorted(prices, usd))


def with_pool(world: World, n: int, split: str = "pool") -> World:
    """The same world with n more texts, unlabelled if they go into the pool; the world itself if none."""
    if not n:
        return world
    parts = [(name, world.pool.subset(name)) for name in ("train", "validation", "test")]  # type: ignore[arg-type]
    rows = [(t, world.pool.labels[k], s) for s, part in parts for t, k in zip(part.texts, part.gold, strict=True)]
    return replace(world, pool=pool_of([*rows, *((text, label, split) for text, label in world.rest[:n])]))


def labelling(run: Run) -> Student:
    """The student after the gold and what the teacher says of the pool, and nothing else that costs."""
    gold = run.pool.subset("train")
    answers = run.ask(run.teacher(), run.pool.subset("pool").texts)
    texts = [text for text, there in zip(answers.texts, answers.answered, strict=True) if there]
    targets = np.concatenate([one_hot(gold.gold, run.task.n_labels), softmax(answers.scores[answers.answered])])
    return run.learn([*gold.texts, *texts], targets, trust=RowTrust(noisy=np.arange(len(targets)) >= len(gold)))


def run_arm(study: Study, arm: str, seed: int, options: argparse.Namespace, world: World, folder: Path) -> Row:
    teacher: dict[str, Any] = {
        "name": "replay",
        "file": str(world.held_back),
        "generate_from": str(world.held_back),
        "accuracy": study.accuracy,
        "usd_per_million_tokens": USD_PER_MILLION,
    }
    if options.write_accuracy:
        measured = options.write_accuracy == "measured"
        teacher["generation_accuracy"] = MEASURED if measured else float(options.write_accuracy)
    procedure = {name: value for name, value in ARMS[arm].items() if name != "more"}
    if procedure["name"] == "pgkd":
        procedure = {
            "rounds": options.rounds,
            "texts_per_round": options.texts,
            "cv_folds": options.folds,
            **procedure,
        }
    student_options = {name: float(x) for name, x in (each.split("=") for each in options.option)}
    record = {
        "budget": 1000,
        "seed": seed,
        "teacher": teacher,
        "student": {"name": options.student, **student_options},
        "procedure": procedure,
    }
    spec = Spec.from_dict({**record, "cache": False})
    began = time.perf_counter()
    with Run.open(folder, spec, Task(world.pool.labels, name=study.name), world.pool) as run:
        student = (labelling if arm == "labelling" else recipe_kind(spec.procedure.kind))(run)
        evaluation = run.evaluate(student, world.pool.subset("test"), "test")
        llm_usd = run.ledger.totals().by_category["llm"] / 1e6
        end = next((note.record for note in run.notes() if isinstance(note.record, RoundsFinished)), None)
    return Row(
        data=study.name,
        arm=arm,
        seed=seed,
        accuracy=evaluation.accuracy.value,
        macro_f1=evaluation.macro_f1.value,
        llm_usd=llm_usd,
        seconds=time.perf_counter() - began,
        best_round=end.best_round if end else None,
        accepted=end.n_accepted if end else None,
        rejected=dict(end.rejected_by_reason) if end else None,
        gold=options.gold,
    )


def table(rows: Sequence[Row], *, simulation: bool = True) -> Iterator[str]:
    """Means over the seeds with their standard deviation, beside the paper's figures."""
    yield ""
    yield f"{'set':<12} {'arm':<18} {'accuracy':>15} {'gain on base':>13} {'macro-F1':>9} {'LLM $':>8} {'paper':>6}"
    for name in dict.fromkeys(row.data for row in rows):
        mine = [row for row in rows if row.data == name]
        base = {row.seed: row.accuracy for row in mine if row.arm == "base"}
        for arm in dict.fromkeys(row.arm for row in mine):
            some = [row for row in mine if row.arm == arm]
            accuracy = np.array([row.accuracy for row in some])
            gains = [row.accuracy - base[row.seed] for row in some if row.seed in base]
            f1, usd = (float(np.mean([getattr(row, what) for row in some])) for what in ("macro_f1", "llm_usd"))
            paper = STUDIES[name].paper.get(arm)
            gain = f"{np.mean(gains):+.3f}" if gains else ""
            yield (
                f"{name:<12} {arm:<18} {accuracy.mean():>7.3f} ± {accuracy.std():.3f} {gain:>13} {f1:>9.3f} "
                f"{usd:>8.4f} {paper or '':>6}"
            )
    yield "± is over seeds, not over texts."
    if simulation:
        yield "A simulation: the teacher replays real texts and its skill is assumed."


if __name__ == "__main__":
    main()
