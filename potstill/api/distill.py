"""`plan` and `distill`: what a teacher will cost, and a small student within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

from potstill.reports.console import terminal_options

if TYPE_CHECKING:
    from potstill.data.pool import Pool
    from potstill.data.task import JsonObject, Task
    from potstill.planning import OptionComparison
    from potstill.planning.cost import CostPlan
    from potstill.reports import Report
    from potstill.run import ProgressReporter

ASKS_NOBODY = "This recipe asks no teacher: all it may spend is this machine's time."


class DistillOptions(TypedDict, total=False):
    """What `distill` may be told besides its main parameters."""

    procedure: Annotated[
        str, "The recipe: kd (default), finetune, selftrain, pgkd, allocate, annotate, prompt, ft-kd or p-kd."
    ]
    train: Annotated[Path, "More labelled texts."]
    validation: Annotated[Path, "Labelled texts to choose with; else carved from the labelled ones."]
    test: Annotated[Path, "Labelled texts to measure with; else a fifth of the labelled ones."]
    text: Annotated[str, "The column with the text; else guessed."]
    text_b: Annotated[str, "The column with the second text, where two are compared; else guessed."]
    label: Annotated[str, "The column with the label; else guessed."]
    label_separator: Annotated[str, "What separates several labels in a cell: | ; , or json (a list); else guessed."]
    kind: Annotated[str, "single, pair (two texts compared) or multi (several labels); else by the columns."]
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
    usd_per_label: Annotated[float, "What one label by a person costs, for --teacher human."]
    seed: Annotated[int, "Draws everything that is drawn (0)."]
    no_report: Annotated[bool, "pgkd: the teacher is not told the validation report (the paper's ablation)."]
    no_hard_negatives: Annotated[bool, "pgkd: it is not shown the errors the student is surest of (an ablation)."]
    yes: Annotated[bool, "Do not ask before money is spent."]


@dataclass(frozen=True)
class DistillResult:
    """What `distill` made: the run's folder, and the report that lies in it."""

    folder: Path
    report: Report

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The student's label for each text."""
        from potstill.bundle.bundle import load

        return load(self.folder).predict(texts)

    def to_json(self) -> JsonObject:
        """The report."""
        return self.report.to_json()

    def to_text(self) -> str:
        """The report for a terminal."""
        from potstill.reports import render_terminal

        return render_terminal(self.report, page=str(self.folder / "report.html"), **terminal_options())


def distill(
    data: Annotated[Path | Task, "The file with the texts, or a potstill.toml."],
    pool: Annotated[Path | Pool | None, "Unlabelled texts for the teacher."] = None,
    *,
    teacher: Annotated[str | None, "Who teaches: local, openai:MODEL, trained:BACKBONE, human, replay.", "-t"] = None,
    student: Annotated[str | None, "Who learns: encoder[:WEIGHTS], static[:WEIGHTS], linear, cloze.", "-s"] = None,
    budget: Annotated[str | float | None, "US dollars for everything: model calls, labels, compute.", "-b"] = None,
    out: Annotated[Path | None, "The run's folder; else runs/NAME. The same command again goes on.", "-o"] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[DistillOptions],
) -> DistillResult:
    """Teach a small student what a big teacher knows, within a budget.

    DATA is a table (CSV, TSV, JSON Lines, JSON, Parquet) with a text column and, in some rows at least, a label; rows
    without one are for the teacher. Or it is a potstill.toml, which can say everything; options win over it.

    From Python DATA may be a `Task`, and `pool` the `Pool` with its texts.

    Raises:
        BadInput: something given cannot be used; nothing was spent.
        RunConflict: the folder holds another run.
        MoneyError: the money does not reach.
    """
    from potstill.errors import SpendingDeclined
    from potstill.planning.cost_estimate import estimate_cost, is_remote
    from potstill.procedures.kinds import recipe_kind
    from potstill.reports.finish_run import finish_run
    from potstill.run.inputs import read_inputs, spec_overrides
    from potstill.run.run import Run

    agreed = options.pop("yes", False)
    order = read_inputs(data, pool, spec_overrides(teacher, student, budget, options))
    recipe = recipe_kind(order.spec.procedure.name)
    recipe.check(order.spec, order.task.kind)
    folder = out or Path("runs") / "-".join(order.name.split())
    if recipe.asks_teacher and is_remote(order.spec):
        expected = estimate_cost(order)
        if reporter is not None and expected is not None:
            reporter.info(expected.summary())
            begun = folder.exists()
            if expected.costs_money and not agreed and not begun and not reporter.confirm("Spend it?"):
                raise SpendingDeclined(
                    "Nothing was asked and nothing was spent.", "Add --yes to go on without a question."
                )
    with Run.open(folder, order.spec, order.task, order.pool, reporter) as run:
        for sentence in order.messages:
            run.reporter.info(sentence)
        learnt = recipe(run)
        return DistillResult(folder, finish_run(run, learnt, cleaning=order.messages, source=order.source))


@dataclass(frozen=True)
class PlanResult:
    """What `plan` found: what the teacher costs, and what each way to spend the budget is expected to bring."""

    teacher: CostPlan | None
    options: OptionComparison | None = None
    page: Path | None = None

    def to_json(self) -> JsonObject:
        """The teacher's figures, and the ways beside them."""
        teacher = {} if self.teacher is None else self.teacher.to_json()
        return {**teacher, "options": None if self.options is None else self.options.to_json()}

    def to_text(self) -> str:
        """Both, for a terminal."""
        parts = [ASKS_NOBODY if self.teacher is None else self.teacher.to_text()]
        if self.options is not None:
            parts.append(self.options.to_text())
        if self.page is not None:
            parts.append(f"Page: {self.page}")
        return "\n\n".join(parts)


def plan(
    data: Annotated[Path | Task, "The file with the texts, or a potstill.toml."],
    pool: Annotated[Path | Pool | None, "Unlabelled texts for the teacher."] = None,
    *,
    teacher: Annotated[str | None, "Who teaches: local, openai:MODEL, anthropic:MODEL, human, replay.", "-t"] = None,
    student: Annotated[str | None, "Who learns: encoder[:WEIGHTS], static[:WEIGHTS], linear, cloze.", "-s"] = None,
    budget: Annotated[str | float | None, "US dollars for everything: model calls, labels, compute.", "-b"] = None,
    measure: Annotated[bool | None, "Teach the student the labels there are, at a few sizes, to foretell more."] = None,
    page: Annotated[Path | None, "Also write the ways to spend the budget, with a chart, into this HTML file."] = None,
    **options: Unpack[DistillOptions],
) -> PlanResult:
    """Say what a teacher will cost and which way to spend the budget promises most, before any money moves.

    Builds the real prompts for a sample of the texts; asks nobody. The cost is given from at least to at most, with
    how many texts the budget buys, how long it takes, and what would leave this machine. With --measure, --page, the
    procedure allocate, or a price of labels, the ways to spend the budget are weighed too: labels by people, a large
    model that teaches, answers of a language model, a mix.

    Raises:
        BadInput: something given cannot be used.
        UnknownPrice: nobody knows what this teacher costs.
    """
    from potstill.data.atomic import atomic_file
    from potstill.planning import compare_options
    from potstill.planning.cost_estimate import estimate_cost
    from potstill.procedures.kinds import recipe_kind
    from potstill.run.inputs import read_inputs, spec_overrides

    order = read_inputs(data, pool, spec_overrides(teacher, student, budget, options))
    wanted = measure or page is not None or "usd_per_label" in order.spec.prices
    wanted = wanted or recipe_kind(order.spec.procedure.name).compares_strategies
    ways = compare_options(order, measure=bool(measure)) if wanted and order.task.kind != "multi" else None
    if page is not None and ways is not None:
        with atomic_file(Path(page)) as path:
            path.write_text(ways.page(), encoding="utf-8")
    return PlanResult(estimate_cost(order), ways, None if page is None else Path(page))
