"""Lets a teacher write a sentence about each label, from the names of all labels and a few texts; priced as all else.

The texts are training texts of the label, or unlabelled ones if it has none; never texts for validation or the test.
What is written is a proposal: the caller shows it, and the user corrects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.data.pool import Pool
from potstill.data.task import ANSWERS, DescriptionRequest, LabelledText, Task
from potstill.errors import BadSpec, BudgetExceeded
from potstill.ledger.prices import micros_to_usd
from potstill.run.run import Run
from potstill.teachers.base import Teacher, TeacherCapabilities
from potstill.teachers.description_prompts import clean_description

TEXTS_SHOWN = 4  # of a label


@dataclass(frozen=True)
class LabelDescriptions:
    """The descriptions that a teacher wrote.

    Attributes:
        teacher: its name.
        descriptions: label -> one sentence, of the labels that got one.
        missing: labels that were asked about and have none: the budget ended, or the reply said nothing.
        usd: what the run has cost so far.
        simulated: whether the teacher only replays texts.
    """

    teacher: str
    descriptions: Mapping[str, str]
    missing: tuple[str, ...]
    usd: float
    simulated: bool = False


def description_requests(task: Task, pool: Pool, seed: int) -> list[DescriptionRequest]:
    """A request for each label without a description, with up to `TEXTS_SHOWN` texts."""
    gold, unlabelled = pool.labelled("train"), pool.subset("pool").texts
    draw = np.random.default_rng(seed)
    others = [LabelledText(unlabelled[row], "") for row in draw.permutation(len(unlabelled))[:TEXTS_SHOWN]]
    order = draw.permutation(len(gold))
    requests = []
    for column, label in enumerate(task.labels):
        if task.descriptions.get(label, "").strip():
            continue
        rows = [row for row in order if (gold.gold[row] == column if gold.gold.ndim == 1 else gold.gold[row, column])]
        own = [LabelledText(gold.texts[row], label) for row in rows[:TEXTS_SHOWN]]
        requests.append(DescriptionRequest(label, 1, tuple(own or others), seed=seed))
    return requests


def check_has_labels(task: Task) -> None:
    """Raise BadSpec if the task has no labels to describe."""
    if task.form is not None:
        mend = "describe the types" if task.labels else "write an instruction"
        raise BadSpec(
            f"Labels are described, and these data have {ANSWERS[task.form]}.",
            f"Leave --describe out, and {mend} in the file.",
        )


def check_describes(name: str, capabilities: TeacherCapabilities) -> None:
    """Raise BadSpec if the teacher, or all of its kind, write no descriptions."""
    if not capabilities.describes_labels:
        raise BadSpec(
            f"The teacher {name!r} writes no descriptions of labels.",
            "Take --teacher local:qwen-1.5b, openai:MODEL or anthropic:MODEL",
        )


def describe_labels(run: Run, teacher: Teacher, requests: Sequence[DescriptionRequest]) -> LabelDescriptions:
    """Ask the teacher for each description; if the budget ends, the rest is missing.

    Raises:
        BudgetExceeded: the budget does not suffice for one description.
    """
    written: dict[str, str] = {}
    for done, request in enumerate(requests):
        run.reporter.progress(f"{teacher.name} describes the labels", done, len(requests), request.label)
        try:
            texts = run.generate(teacher, request)
        except BudgetExceeded as error:
            if not written:
                raise
            run.reporter.info(f"The budget ends here: {error.message}")
            break
        written[request.label] = clean_description(texts[0].text, request.label) if texts else ""
    found = {label: text for label, text in written.items() if text}
    missing = tuple(request.label for request in requests if request.label not in found)
    usd = micros_to_usd(run.store.totals(run.spec.limit_micros).charged)
    return LabelDescriptions(teacher.name, found, missing, usd, teacher.simulated)
