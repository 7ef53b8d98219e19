"""`plan` and `distill`: the expected cost of a teacher, and a small student within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from potstill.api.table_options import SEVERAL, TableOptions
from potstill.data.paths import as_path, as_path_or_none, folder_name, utf8_folder
from potstill.reports.console import terminal_options

if TYPE_CHECKING:
    from potstill.data.pool import Pool
    from potstill.data.task import JsonObject, Task
    from potstill.planning import OptionComparison
    from potstill.planning.cost import CostPlan
    from potstill.reports import Report
    from potstill.run import ProgressReporter
    from potstill.run.inputs import RunInputs

NO_COMPARISON = "there is nothing to measure, and no page to write"
NO_TEST_TEXTS = "No labelled test texts: nothing will measure the student. {n} measure any accuracy to within 5 points."
NO_GOLD = (
    "No label at all: with two opinions of texts (--teacher trained:bge-small) the report says how often they agree "
    "and which accuracy would follow, a hint that is mostly too high. Without a second one nothing estimates it."
)
NO_TEACHER = "This recipe asks no teacher: it costs only this machine's time."


class TextOptions(TableOptions, total=False):
    """Which texts are used for what."""

    train: Annotated[str | Path | Any, "More labelled texts.", SEVERAL]
    validation: Annotated[
        str | Path | Any, "Labelled texts for model selection; else split from the labelled ones.", SEVERAL
    ]
    validation_share: Annotated[
        float, "Share of the labelled texts set aside for validation; else a tenth, and of few labels none."
    ]
    test: Annotated[
        str | Path | Any, "Labelled texts for the final evaluation; else a fifth of the labelled ones.", SEVERAL
    ]
    gold: Annotated[int, "Use only so many labels; the other texts join the pool. For experiments."]
    limit: Annotated[int, "Read only so many rows."]


class RecipeOptions(TextOptions, total=False):
    """Who answers, how the student is trained, and what that costs."""

    procedure: Annotated[
        str, "The recipe: kd (default), finetune, selftrain, pgkd, allocate, annotate, prompt, ft-kd or p-kd."
    ]
    base_url: Annotated[str, "The address of the teacher's server, if it is not the provider's own."]
    batch: Annotated[bool, "Ask through the provider's batch queue: half the price, answers later (exit code 75)."]
    redact: Annotated[bool, "Remove addresses, numbers and the like before a text leaves this machine."]
    usd_per_hour: Annotated[float, "What an hour of this machine costs (0.10 assumed)."]
    usd_per_label: Annotated[float, "What one label by a person costs, for --teacher human."]
    peer: Annotated[str, "selftrain: another student that labels the texts in the student's place: encoder:minilm."]
    no_validation_report: Annotated[bool, "pgkd: do not show the teacher the validation report (the paper's ablation)."]
    no_hard_negatives: Annotated[bool, "pgkd: do not show it the most confident errors of the student (an ablation)."]


class PlanOptions(RecipeOptions, total=False):
    """The options of `plan` and `distill`."""

    seed: Annotated[int, "The seed of everything random (0)."]


class CheckOptions(PlanOptions, total=False):
    """The options of `plan` besides its main parameters."""

    check: Annotated[bool, "Ask the teacher's server whether it has the model and when that shuts down; sends no text."]


class DistillOptions(PlanOptions, total=False):
    """The options of `distill` besides its main parameters."""

    yes: Annotated[bool, "Spend without asking first."]
    give_up_batch: Annotated[bool, "Book a batch that the provider no longer has as lost, and ask its texts again."]


@dataclass(frozen=True)
class DistillResult:
    """The run's folder, and its report."""

    folder: Path
    report: Report

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """The student's label for each text, its entities, or the answer to it."""
        from potstill.bundle.load import load

        return list(load(self.folder).predict(texts))

    def to_json(self) -> JsonObject:
        """The report."""
        return self.report.to_json()

    def to_text(self) -> str:
        """The report for a terminal."""
        from potstill.reports import render_terminal

        return render_terminal(self.report, page=str(self.folder / "report.html"), **terminal_options())


def distill(
    data: Annotated[str | Path | Task | Any, "The file with the texts, or several, or a potstill.toml.", SEVERAL],
    pool: Annotated[
        str | Path | Pool | Any, "Unlabelled texts for the teacher; several files: repeat it.", SEVERAL
    ] = None,
    *,
    teacher: Annotated[
        str | None, "The teacher: local:MODEL, openai:MODEL, anthropic:MODEL, trained:BACKBONE, human, replay.", "-t"
    ] = None,
    student: Annotated[
        str | None,
        "The student: encoder, static, linear, cloze, decoder, tagger, causal, seq2seq; or KIND:WEIGHTS.",
        "-s",
    ] = None,
    budget: Annotated[
        str | float | None, "US dollars for everything: model calls, labels, compute.", "-b", "=USD"
    ] = None,
    out: Annotated[str | Path | None, "The run's folder; else runs/NAME. The same command resumes it.", "-o"] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[DistillOptions],
) -> DistillResult:
    """Distill a large teacher into a small student, within a budget.

    DATA is a table (CSV, TSV, JSON Lines, JSON, Parquet, a workbook; also compressed) with a text column and, in some
    rows at least, a label; the teacher labels rows without one. Several tables need the same columns; - is standard
    input. Or it is a potstill.toml with all settings; options override it.

    From Python DATA may also be a data frame, Arrow table, data set or list of dictionaries, or a `Task` with its
    texts in the `Pool`.

    Raises:
        BadInput: an argument cannot be used; nothing was spent.
        RunConflict: the folder holds another run.
        MoneyError: the budget does not suffice.
    """
    from potstill.procedures.kinds import recipe_kind, recipe_validates
    from potstill.procedures.out_of_fold import out_of_fold_scores
    from potstill.reports.finish_run import finish_run, finished_report
    from potstill.run.inputs import read_inputs, spec_overrides
    from potstill.run.run import Run

    agreed, gives_up = options.pop("yes", False), options.pop("give_up_batch", False)
    inputs = read_inputs(data, pool, spec_overrides(teacher, student, budget, options), recipe_validates)
    _check_learnable(inputs)
    recipe = recipe_kind(inputs.spec.procedure.name)
    recipe.check(inputs.spec, inputs.task)
    recipe.check_pool(inputs.pool)
    folder = utf8_folder(as_path(out or Path("runs") / folder_name(inputs.name)))
    if recipe.asks(inputs.spec):
        _confirm_spending(inputs, folder, reporter, agreed)
    with Run.open(folder, inputs.spec, inputs.task, inputs.pool, reporter) as run:
        for sentence in inputs.messages:
            run.reporter.info(sentence)
        run.client.gives_up_batches = gives_up
        report = finished_report(run)
        if report is None:
            labels = inputs.task.output is None
            trained = recipe.train(run)
            texts = tuple(inputs.columns[name] for name in ("text", "text_b") if name in inputs.columns)
            report = finish_run(
                run,
                trained,
                cleaning=inputs.messages,
                source=inputs.source,
                text_columns=texts,
                layout=inputs.layout,
                out_of_fold=out_of_fold_scores(run, recipe) if labels else None,
            )
        return DistillResult(folder, report)


def _check_learnable(inputs: RunInputs) -> None:
    """Raise BadData if there are texts to evaluate on and no others."""
    from potstill.errors import BadData

    if not inputs.pool.subset("train").texts and not inputs.pool.subset("pool").texts:
        raise BadData(
            f"{inputs.source} has only texts to evaluate on: there is nothing to learn from or to ask about.",
            "Add labelled texts (--train FILE) or unlabelled ones (--pool FILE).",
        )


def _confirm_spending(inputs: RunInputs, folder: Path, reporter: ProgressReporter | None, agreed: bool) -> None:
    """Show what a teacher that sends texts away will cost; ask before a new run spends it, unless the user `agreed`.

    Raises:
        SpendingDeclined: the user said no.
    """
    from potstill.errors import SpendingDeclined
    from potstill.ledger.store import is_begun
    from potstill.planning.cost_estimate import estimate_cost, is_remote

    if not is_remote(inputs.spec):
        return
    begins = not is_begun(folder)
    # Also without a reporter: what cannot be priced is an error before the run begins.
    cost = estimate_cost(inputs, check=begins and reporter is not None)
    if reporter is None or cost is None:
        return
    reporter.info(cost.summary())
    reporter.info(cost.egress)
    if cost.model_ends:
        reporter.info(cost.model_status)
    if cost.costs_money and begins and not agreed and not reporter.confirm("Spend it?"):
        raise SpendingDeclined("Nothing was asked and nothing was spent.", "Add --yes to go on without a question.")


@dataclass(frozen=True)
class PlanResult:
    """The expected cost of the teacher, and the expected score of each way to spend the budget.

    `n_to_measure`: labelled test texts that measure any accuracy to within five points; 0 if there are test texts.
    `has_gold`: whether there are labels to learn.
    """

    teacher: CostPlan | None
    options: OptionComparison | None = None
    page: Path | None = None
    n_to_measure: int = 0
    has_gold: bool = True

    def to_json(self) -> JsonObject:
        """The teacher's figures, and the options."""
        teacher = {} if self.teacher is None else self.teacher.to_json()
        return {**teacher, "options": None if self.options is None else self.options.to_json()}

    def to_text(self) -> str:
        """The cost estimate and the strategies, for a terminal."""
        parts = [NO_TEACHER if self.teacher is None else self.teacher.to_text()]
        if self.n_to_measure:
            parts.append(NO_TEST_TEXTS.format(n=self.n_to_measure))
        if not self.has_gold:
            parts.append(NO_GOLD)
        if self.options is not None:
            parts.append(self.options.to_text())
        if self.page is not None:
            parts.append(f"Page: {self.page}")
        return "\n\n".join(parts)


def plan(
    data: Annotated[str | Path | Task | Any, "The file with the texts, or several, or a potstill.toml.", SEVERAL],
    pool: Annotated[
        str | Path | Pool | Any, "Unlabelled texts for the teacher; several files: repeat it.", SEVERAL
    ] = None,
    *,
    teacher: Annotated[
        str | None, "The teacher: local:MODEL, openai:MODEL, anthropic:MODEL, trained:BACKBONE, human, replay.", "-t"
    ] = None,
    student: Annotated[
        str | None,
        "The student: encoder, static, linear, cloze, decoder, tagger, causal, seq2seq; or KIND:WEIGHTS.",
        "-s",
    ] = None,
    budget: Annotated[
        str | float | None, "US dollars for everything: model calls, labels, compute.", "-b", "=USD"
    ] = None,
    measure: Annotated[bool | None, "Train the student on your labels, at a few sizes, to predict the gain."] = None,
    page: Annotated[str | Path | None, "Also write the options with a chart into this HTML file."] = None,
    **options: Unpack[CheckOptions],
) -> PlanResult:
    """Estimate what a teacher costs and which strategy is expected to gain most, before any money is spent.

    Builds the real prompts for a sample of the texts and sends none; --check asks the teacher's server about its model,
    with your key, and says when that shuts down. Shows the lowest and highest cost, how many texts
    the budget buys, how long it takes, and what would leave this machine. With --measure, --page, the procedure
    allocate, or a price of labels, it also compares the options: labels by people, a large model as teacher, answers
    of a language model, or a mix.

    Raises:
        BadInput: an argument cannot be used.
        UnknownPrice: the price of this teacher is unknown.
    """
    from potstill.data.atomic import atomic_file
    from potstill.errors import BadSpec
    from potstill.evaluation.label_free_accuracy import labels_for_interval
    from potstill.planning import compare_options
    from potstill.planning.cost_estimate import estimate_cost
    from potstill.procedures.kinds import recipe_kind, recipe_validates
    from potstill.run.inputs import read_inputs, spec_overrides

    check = options.pop("check", False)
    inputs = read_inputs(data, pool, spec_overrides(teacher, student, budget, options), recipe_validates)
    _check_learnable(inputs)
    if inputs.task.form is not None and (measure or page is not None):
        of = {"entities": "entities", "free": "answers in words"}[inputs.task.form]
        raise BadSpec(
            f"Strategies are compared for tasks of labels, and this one is of {of}: {NO_COMPARISON}.",
            "Leave --measure and --page out.",
        )
    asked = [flag for flag, given in (("--measure", measure), ("--page", page is not None)) if given]
    if asked and inputs.task.kind == "multi":
        raise BadSpec(
            f"Strategies are compared for one label a text, and here a text may have several: {NO_COMPARISON}.",
            "; ".join(f"Leave {flag} out" for flag in asked),
        )
    wanted = bool(asked) or "usd_per_label" in inputs.spec.prices
    wanted = wanted or recipe_kind(inputs.spec.procedure.name).compares_strategies
    wanted = wanted and inputs.task.kind not in ("multi", "text2text")
    comparison = compare_options(inputs, measure=bool(measure)) if wanted else None
    if page is not None and comparison is not None:
        with atomic_file(as_path(page)) as path:
            path.write_text(comparison.page(), encoding="utf-8")
    untested = inputs.task.output is None and not inputs.pool.subset("test").texts
    n_to_measure = labels_for_interval(0.5) if untested else 0
    has_gold = inputs.task.kind != "single" or bool(inputs.pool.subset("train").texts)
    cost = estimate_cost(inputs, check=bool(check))
    return PlanResult(cost, comparison, as_path_or_none(page), n_to_measure, has_gold)
