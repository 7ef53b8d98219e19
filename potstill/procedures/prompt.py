"""P: prompt-based training. The text in a pattern, the label as the words a language model would say next.

The student is a language model with its own head (`cloze:...`): what it learnt of the label words before it saw a gold
label is where training starts (PET: Schick and Schütze 2021; LM-BFF: Gao et al. 2021; P in Aina et al. 2022). The
recipe is that of FT; what differs is who learns.
"""

from __future__ import annotations

from potstill.errors import BadData, BadSpec
from potstill.procedures.base import ANY_TASK, Recipe, quote_nothing
from potstill.registry import NoOptions
from potstill.run.run import Run
from potstill.students.base import Student

LANGUAGE_HEAD_KINDS = ("cloze",)  # the students that are asked in words


def prompt(run: Run) -> Student:
    """The student after learning to say the gold label of each train text.

    Raises:
        BadSpec: the student has no language-model head.
        BadData: there is no gold.
    """
    require_language_head(run.spec.student.name)
    gold = run.pool.subset("train")
    if not gold.texts:
        raise BadData("Prompt-based training needs labelled texts and there are none.", "Label one of each class.")
    return run.learn(gold.texts, gold.targets(run.task.n_labels))


def require_language_head(name: str) -> None:
    """Raise BadSpec for a student that cannot be asked in words."""
    if name.partition(":")[0] not in LANGUAGE_HEAD_KINDS:
        raise BadSpec(
            f"{name!r} has no language-model head, so it cannot be trained by prompts (P).",
            "Take --student cloze:smollm2, or --procedure finetune.",
        )


RECIPE = Recipe("prompt", prompt, NoOptions, ANY_TASK, asks_teacher=False, quote=quote_nothing)
