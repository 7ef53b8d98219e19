"""The cells of pgkd_real.py: their records, the JSON file they are stored in, and their section of RESULTS.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from pgkd_page import half_width
from sections import table

from potstill.data.atomic import atomic_file

RESULTS = Path(__file__).parents[1] / "results" / "pgkd_real.json"
COMMAND = "python bench/papers/pgkd_real.py"
DOCS = Path(__file__).parents[2] / "docs" / "papers.md"
BASES = {"sparse pgkd": "sparse base"}  # arm -> what its gain is measured against, if not `base`


@dataclass(frozen=True)
class LabelAccuracy:
    """How many texts there are, and the share whose label is the arbiter's."""

    n: int
    right: float


@dataclass(frozen=True)
class CellRow:
    """One arm on one set with one seed, or why it is not there.

    Attributes:
        data, arm, seed: which cell.
        state: "done", or "failed" with the `reason`.
        accuracy, macro_f1: on the test texts.
        validation: accuracy on the validation texts after each round, the base first.
        best_round: whose student was returned.
        rejected: reason -> number of written texts.
        written, accepted: texts before and after the filters, by the arbiter.
        teacher_s, train_s: seconds of this machine for the teacher, and for all students.
        asked: the options of the command that decide the result.
        commit: what was measured.
    """

    data: str
    arm: str
    seed: int
    state: str
    reason: str = ""
    accuracy: float | None = None
    macro_f1: float | None = None
    validation: tuple[float, ...] = ()
    best_round: int | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    written: LabelAccuracy | None = None
    accepted: LabelAccuracy | None = None
    teacher_s: float = 0.0
    train_s: float = 0.0
    asked: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells the cell from others."""
        return self.data, self.arm, self.seed, json.dumps(dict(self.asked), sort_keys=True)


def read_rows(file: Path) -> list[CellRow]:
    if not file.exists():
        return []
    rows = []
    for record in json.loads(file.read_text(encoding="utf-8"))["rows"]:
        for name in ("written", "accepted"):
            record[name] = None if record[name] is None else LabelAccuracy(**record[name])
        rows.append(CellRow(**{**record, "validation": tuple(record["validation"])}))
    return rows


def store(file: Path, row: CellRow) -> None:
    """Add a row, in place of that of the same cell."""
    rows = [*(each for each in read_rows(file) if each.key != row.key), row]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as path:
        record = {"command": COMMAND, "rows": [asdict(each) for each in rows]}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def summary(row: CellRow) -> str:
    if row.state != "done":
        return f"{row.state}: {row.reason}"
    written = "" if row.written is None else f", {row.written.n} written, {row.written.right:.0%} right"
    learnt = "" if row.accepted is None else f", {row.accepted.n} learnt, {row.accepted.right:.0%} right"
    return f"{row.accuracy:.4f}{written}{learnt}, {dict(row.rejected)}"


# --- the section of RESULTS.md ---------------------------------------------------------------------------------


def page(rows: Sequence[CellRow]) -> str:
    folds = ", ".join(sorted({row.asked["folds"] for row in rows if "folds" in row.asked}))
    lines = [
        "## PGKD with a real writer",
        "",
        f"`{COMMAND}`: 800 gold texts to learn, 200 to validate; errors from folds ({folds or 'none'}; quick: their "
        "students learn a head on frozen weights); no simulation. "
        "Right: the share of labels that an arbiter agrees with, `encoder:minilm` trained on all labels of the set.",
    ]
    done = [row for row in rows if row.state == "done"]
    for asked in dict.fromkeys((row.data, row.asked["student"]) for row in done):
        lines += ["", f"### {asked[0]}, {asked[1]}", "", *_table([row for row in done if _of(row) == asked])]
    failed = [f"- {row.data}, {row.arm}, seed {row.seed}: {row.reason}" for row in rows if row.state == "failed"]
    return "\n".join([*lines, *(["", "Not measured:", "", *failed] if failed else [])])


QUESTIONS = {
    "PGKD raises accuracy (AG News .884 -> .895, HuffPost .474 -> .519)": ("pgkd", "base"),
    "the report helps (-.002 to -.024 without it)": ("pgkd", "no report"),
    "hard negatives help (-.008 to -.010 without them)": ("pgkd", "no hard negatives"),
    "guidance helps at all": ("pgkd", "blind"),
    "better than EvoKD (IMDB, Inshorts; here what EvoKD shows)": ("pgkd", "like EvoKD"),
    "it reaches labels without gold (AMZN: 335 labels; here a third has none)": ("sparse pgkd", "sparse base"),
    "(beyond the paper) better than labelling real texts for the same seconds": ("pgkd", "labelling"),
    "(beyond the paper) better than as many more gold texts": ("pgkd", "more gold"),
    "(beyond the paper) asking again for rejected texts helps, `top_up = 2`": ("top up", "pgkd"),
    '(beyond the paper) checking the labels helps, `agree = "teacher"`': ("agree teacher", "pgkd"),
    "(beyond the paper) `noisy_labels` helps": ("noisy labels", "pgkd"),
    "(beyond the paper) `soft_labels` helps": ("soft labels", "pgkd"),
    "(beyond the paper) allocation by error reduction helps": ("error-reduction allocation", "pgkd"),
}
MIN_SEEDS = 3
REPEATS = ("duplicate", "copies its request")  # reasons of the filters


def verdicts(rows: Sequence[CellRow], sets: Sequence[str]) -> str:
    """The table of docs/papers.md: the difference in accuracy that answers a claim, with its 95 % interval."""
    done = [row for row in rows if row.state == "done" and row.asked["student"] == "encoder:minilm"]
    minutes = sum(row.teacher_s + row.train_s for row in done) / 60
    commits = ", ".join(f"`{each}`" for each in sorted({row.commit for row in done})) or "none"
    lines = [f"{len(done)} cells are done (commit {commits}; {minutes:.0f} minutes of a shared machine).", ""]
    lines += ["| claim of the paper | cells | " + " | ".join(sets) + " |", "|---|---|" + "---|" * len(sets)]
    for claim, (one, other) in QUESTIONS.items():
        cells = [_answer([row for row in done if row.data == name], one, other) for name in sets]
        lines.append(f"| {claim} | `{one}` less `{other}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _answer(rows: Sequence[CellRow], one: str, other: str) -> str:
    value = {(row.arm, row.seed): row.accuracy for row in rows if row.accuracy is not None}
    seeds = [seed for arm, seed in value if arm == one and (other, seed) in value]
    if not seeds:
        return "not measured"
    gaps = np.array([value[one, seed] - value[other, seed] for seed in seeds])
    if len(gaps) < MIN_SEEDS:
        return f"undecided: {gaps.mean():+.4f}, {len(gaps)} of {MIN_SEEDS} seeds"
    half = half_width(gaps)
    verdict = "held" if gaps.mean() > half else "did not hold" if gaps.mean() < -half else "undecided"
    return f"**{verdict}** {gaps.mean():+.4f} ± {half:.4f}, {len(gaps)} seeds"


def _of(row: CellRow) -> tuple[str, str]:
    return row.data, row.asked["student"]


def _table(rows: Sequence[CellRow]) -> Iterator[str]:
    head = ["arm", "seeds", "accuracy", "macro-F1", "gain", "95 %", "written", "right", "learnt", "right", "repeats"]
    lines = []
    for arm in dict.fromkeys(row.arm for row in rows):
        some = [row for row in rows if row.arm == arm]
        gains = gains_of(rows, arm)
        lines.append(
            [
                arm,
                str(len(some)),
                f"{np.mean([row.accuracy for row in some if row.accuracy is not None]):.4f}",
                f"{np.mean([row.macro_f1 for row in some if row.macro_f1 is not None]):.4f}",
                f"{np.mean(gains):+.4f}" if len(gains) else "",
                f"± {half_width(gains):.4f}" if len(gains) > 1 else "",
                *_checked([row.written for row in some]),
                *_checked([row.accepted for row in some]),
                str(sum(row.rejected.get(name, 0) for row in some for name in REPEATS)) if some[0].rejected else "",
            ]
        )
    yield table(head, lines)
    teacher, train = (sum(getattr(row, name) for row in rows) / 60 for name in ("teacher_s", "train_s"))
    commits = ", ".join(sorted({row.commit for row in rows}))
    yield ""
    yield f"Commit {commits}. Teacher {teacher:.0f} and students {train:.0f} minutes in all, one thread."


def gains_of(rows: Sequence[CellRow], arm: str) -> np.ndarray:
    """The arm less its base, for each seed that has both."""
    base = BASES.get(arm, "base")
    value = {(row.arm, row.seed): row.accuracy for row in rows if row.accuracy is not None}
    if arm == base:
        return np.array([])
    return np.array(
        [value[arm, seed] - value[base, seed] for name, seed in value if name == arm and (base, seed) in value]
    )


def _checked(found: Sequence[LabelAccuracy | None]) -> list[str]:
    some = [each for each in found if each is not None]
    n = sum(each.n for each in some)
    return [str(n), f"{sum(each.n * each.right for each in some) / n:.0%}"] if n else ["", ""]
