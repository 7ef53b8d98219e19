"""An evaluation as a report: the same facts, with the sentences a reader needs. Measures, reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from potstill.evaluation.guarantees import scored_texts
from potstill.evaluation.label_free_accuracy import labels_for_interval
from potstill.evaluation.multilabel_thresholds import MultilabelGuarantees
from potstill.reports.records import Baseline, EgressFacts, Evaluation, Report

EXAMPLE_ARGUMENTS = {"single": '"your own text"', "pair": '"one text" "another"'}


def build_report(evaluation: Evaluation) -> Report:
    """The report of an evaluated run."""
    task = evaluation.task
    example = EXAMPLE_ARGUMENTS.get(task.kind, EXAMPLE_ARGUMENTS["single"])
    return Report(
        task=task.name,
        labels=task.labels,
        student=evaluation.student,
        teacher=evaluation.teacher,
        money=evaluation.money,
        baselines=evaluation.baselines,
        duration_s=evaluation.duration_s,
        data=evaluation.data,
        answers=evaluation.answers,
        unreadable=evaluation.unreadable,
        reliability=evaluation.reliability,
        rounds=evaluation.rounds,
        mcnemar=evaluation.mcnemar,
        entities=evaluation.entities,
        free_text=evaluation.free_text,
        samples=evaluation.samples,
        settings=evaluation.settings,
        simulation=_simulation(evaluation.simulated_teachers),
        egress=_egress(evaluation.egress),
        notes=tuple(_notes(evaluation)),
        finished_at=evaluation.finished_at,
        next_command=f"potstill predict {evaluation.folder} {example}",
    )


def _simulation(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    verb, their = ("returns", "its") if len(names) == 1 else ("return", "their")
    return f"Simulation: {' and '.join(names)} {verb} known labels; {their} cost and accuracy are assumed."


def _egress(facts: EgressFacts) -> str:
    if not facts.host:
        return "No text left this machine."
    sent = f"{facts.pool_texts} texts of the pool, and the gold examples in the prompt, were sent to {facts.host}."
    if facts.pool_texts is None:
        sent = f"Training texts and their labels were sent to {facts.host}, and test texts to measure it."
    if facts.redacted is None:
        return sent
    removed = ", ".join(f"{n} {kind}" for kind, n in sorted(facts.redacted.items())) or "nothing"
    return f"{sent} Removed from them before, in this session: {removed}."


def _notes(evaluation: Evaluation) -> Iterator[str]:
    bundle, student, teacher = evaluation.bundle, evaluation.student.evaluation, evaluation.teacher
    yield from bundle.notes
    if bundle.int8 is not None and bundle.int8.accepted and not evaluation.data.validation:
        yield "Int8 was checked on training texts, as none were held out: the check says little about new texts."
    if isinstance(bundle.guarantees, MultilabelGuarantees):
        how = "one for all labels" if len(bundle.guarantees.label_thresholds.thresholds) == 1 else "one per label"
        scored = scored_texts(bundle.guarantees.n, bundle.guarantees.n_folds)
        yield f"A label is given from its threshold on ({how}), chosen on {scored}."
    yield from evaluation.recipe_sentences
    if student is None:
        yield (
            "There are no labelled test texts, so the student's quality is unknown: give some with --test FILE. "
            f"{labels_for_interval(0.5)} measure any accuracy to within 5 points."
        )
        return
    if teacher is None or teacher.evaluation is None:
        return
    alone = _student_alone(evaluation)
    if alone is None or alone.main_score is None:
        return
    reached = alone.main_score.value
    if reached >= student.main_score.value:
        yield (
            f"The teacher did not help: {alone.name} reaches {reached:.1%} without it. "
            "Take --procedure finetune, or a better teacher."
        )
    elif reached > teacher.evaluation.main_score.value:
        yield f"From the gold labels alone the student reaches {reached:.1%}, more than its teacher."


def _student_alone(evaluation: Evaluation) -> Baseline | None:
    """The baseline that is the student without a teacher."""
    name = evaluation.student.name
    return next((each for each in evaluation.baselines if each.name.startswith(name) and each.accuracy), None)
