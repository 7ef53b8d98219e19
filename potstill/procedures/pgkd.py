"""PGKD: the teacher writes what the student needs, guided by what the student gets wrong (Palo et al., EMNLP 2024).

Each round the teacher is shown the student's validation report, and training texts it gets right, wrong, and surely
wrong; it writes some labelled texts, and a new student learns them with all before. The student with the lowest
validation loss is returned. The paper does not say whether its student goes on or begins anew; this one begins anew.
Validation texts are never shown, nor may the teacher write one: the loss on them decides when to stop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.asking import Answers
from potstill.briefing import PgkdOptions, Rows, gold_of, make_brief, read_options
from potstill.calibrate import Calibration, one_hot
from potstill.errors import BadData, BadSpec, OverBudget
from potstill.examples import offered_examples
from potstill.gates import Gate, Sorted, agreeing
from potstill.pool import Part
from potstill.procedures.kd import read_scores
from potstill.procedures.rounds import Bought, Diary, Round
from potstill.run import Run
from potstill.students.base import Student
from potstill.task import Brief, Written
from potstill.teachers.base import Teacher, can_write, takes_guides
from potstill.teachers.writing import one_label_each

ASKED_FOR_BIAS = 200  # gold texts that tell the label bias of a teacher that has one


def pgkd(run: Run) -> Student:
    """The best student of all rounds.

    Raises:
        BadData: no validation texts, or a label without gold.
        BadSpec: an option nobody knows, or a teacher that cannot write.
    """
    options = read_options(run.spec.procedure.options)
    gold = _checked(run)
    teacher, reading = _writer(run, gold)
    gate = Gate(run.task.labels, gold.texts, run.pool.guarded())
    best = now = _taught(run, Rows.of(gold), options, 0)
    diary = Diary()
    waited = 0

    for number in range(1, options.rounds + 1):
        try:
            probs = _predicted(run, now, options)
            brief = make_brief(run.task, now.rows, probs, now.judgement, options, (run.spec.seed, number))
            bought = _write(run, teacher, brief, now)
            passed = _agreed(run, teacher, reading, now, gate(bought.texts), options.agree)
            after = _taught(run, now.rows.plus(passed.accepted, run.task), options, number)
        except OverBudget:
            diary.money_ended = True
            break
        better = after.loss < best.loss
        diary.add(run, after, brief, bought, passed, better)
        best, waited = (after, 0) if better else (best, waited + 1)
        now = best if options.roll_back else after
        if bought.money_ended or waited >= options.patience:
            break

    diary.close(run, teacher, best)
    return best.student


def _checked(run: Run) -> Part:
    if run.task.kind != "single":
        raise BadSpec(
            f"PGKD writes single texts with one label, and the task is of the kind {run.task.kind!r}.",
            "Take --procedure kd or finetune.",
        )
    gold = run.pool.part("train")
    if not len(run.pool.part("validation")):
        raise BadData(
            "PGKD stops by the loss on validation texts and there are none.",
            "Give some with --validation FILE, or set validation_share under [data].",
        )
    empty = [label for label, n in run.pool.counts("train").items() if not n]
    if empty:
        named = ", ".join(map(repr, empty[:3])) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise BadData(f"PGKD needs a gold text of every label and has none of {named}.", "Label one or two of each.")
    return gold


def _writer(run: Run, gold: Part) -> tuple[Teacher, Calibration]:
    named = run.spec.teacher
    if named is not None and named.kind == "trained":
        raise _cannot_write(named.name)
    teacher = run.teacher(offered_examples(gold, run.spec, run.task))
    if not can_write(teacher):
        raise _cannot_write(teacher.name)
    nothing = Answers((), np.empty((0, run.task.n_labels)), (), ())
    reading = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
    if teacher.scores_need_prior:
        rows = np.random.default_rng(run.spec.seed).permutation(len(gold))[:ASKED_FOR_BIAS]
        asked = run.ask(teacher, [gold.texts[i] for i in rows], leave_micros=run.training_reserve)
        if asked.answered.any():
            reading = read_scores(teacher, asked, asked, gold.gold[rows], run)
    run.taught_by(teacher, reading, nothing)
    return teacher, reading


def _cannot_write(name: str) -> BadSpec:
    return BadSpec(
        f"The teacher {name!r} cannot write texts, and PGKD is made of what a teacher writes.",
        "Take an LLM (openai, anthropic, or local with a GGUF file), replay with held_back, or --procedure kd.",
    )


def _taught(run: Run, rows: Rows, options: PgkdOptions, number: int) -> Round:
    student = _learn(run, rows, options)
    return Round(number, rows, student, run.judge(student, run.pool.part("validation"), f"round {number}"))


def _learn(run: Run, rows: Rows, options: PgkdOptions) -> Student:
    doubtful = rows.written if options.doubt and rows.written.any() else None
    return run.learn(rows.texts, one_hot(rows.gold, run.task.n_labels), doubtful=doubtful)


def _predicted(run: Run, now: Round, options: PgkdOptions) -> NDArray[np.floating]:
    """(N, K) what the student thinks of its training texts, or with folds, students that did not learn them."""
    texts = now.rows.texts
    if options.folds < 2:
        return now.student.predict_proba(texts)
    fold = np.random.default_rng(run.spec.seed).permutation(len(texts)) % options.folds
    probs = np.empty((len(texts), run.task.n_labels), dtype=np.float32)
    for k in range(options.folds):
        student = _learn(run, now.rows.at(np.flatnonzero(fold != k)), options)
        probs[fold == k] = student.predict_proba([texts[i] for i in np.flatnonzero(fold == k)])
    return probs


def _write(run: Run, teacher: Teacher, brief: Brief, now: Round) -> Bought:
    """What the teacher writes; one label at a time if it cannot take the whole brief."""
    briefs = [brief]
    if not takes_guides(teacher):
        draw = np.random.default_rng(brief.seed)
        briefs = one_label_each(brief, run.task.labels, gold_of(run.task, now.rows), draw)
    texts: list[Written] = []
    for each in briefs:
        try:
            texts += run.write(teacher, each, leave_micros=run.training_reserve)
        except OverBudget:
            return Bought(tuple(texts), money_ended=True)
    return Bought(tuple(texts))


def _agreed(run: Run, teacher: Teacher, reading: Calibration, now: Round, found: Sorted, agree: str) -> Sorted:
    """`found` less what the teacher, or the student, would not label so."""
    texts = [each.text for each in found.accepted]
    if agree == "nobody" or not texts:
        return found
    columns = np.array([run.task.index(each.label) for each in found.accepted])
    if agree == "teacher":
        answers = run.ask(teacher, texts, leave_micros=run.training_reserve)
        likely = np.where(
            answers.answered, np.nan_to_num(answers.scores + np.array(reading.offsets)).argmax(axis=1), -1
        )
        return agreeing(found, list(likely == columns))
    probs = now.student.predict_proba(texts)[np.arange(len(texts)), columns]
    return agreeing(found, list(probs >= 1 / run.task.n_labels))
