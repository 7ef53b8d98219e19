"""P: prompt-based training. The text in a pattern, the label as the words a language model would predict next.

The student is a language model with its own head: training starts from what pretraining taught it about the label
words (PET: Schick and Schütze 2021; LM-BFF: Gao et al. 2021; P in Aina et al. 2022). The recipe is that of FT; only the
student differs.
"""

from __future__ import annotations

from potstill.errors import BadData, BadSpec
from potstill.procedures.base import ANY_TASK, Recipe, quote_nothing
from potstill.registry import NoOptions
from potstill.run.run import Run
from potstill.students.base import Student
from potstill.students.kinds import student_kind


def prompt(run: Run) -> Student:
    """The student trained to predict the gold label of each train text.

    Raises:
        BadSpec: the student has no language-model head.
        BadData: there is no gold.
    """
    student = run.spec.student
    if not student_kind(student.kind).capabilities.language_head:
        raise BadSpec(
            f"{student.name!r} has no language-model head, so it cannot be trained by prompts (P).",
            "Take --student cloze:smollm2, or --procedure finetune.",
        )
    gold = run.pool.subset("train")
    if not gold.texts:
        raise BadData("Prompt-based training needs labelled texts and there are none.", "Label one of each class.")
    return run.learn(gold.texts, gold.targets(run.task.n_labels))


RECIPE = Recipe("prompt", prompt, NoOptions, ANY_TASK, asks_teacher=False, quote=quote_nothing)
