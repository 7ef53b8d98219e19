"""What a teacher is shown of a student's answers before it writes texts with their answers for it.

The sibling of `task.Feedback` in text-to-text tasks. In requests and in what comes back an answer is JSON, as
`teachers.written_answers` writes it, in the place of a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.data.task import Feedback
from potstill.evaluation.text2text.text_groups import GroupScore


@dataclass(frozen=True)
class FormFeedback(Feedback):
    """A student's performance in a text-to-text task; a request with it asks for texts and their answers.

    `accuracy` is the score by `metric` on the validation texts, `report` the scores of the types of entities, and in
    `correct`, `incorrect` and `hard_negatives` labels are answers; what else is about labels stays empty.

    Attributes:
        metric: what students are compared by, in words ("entity F1").
        groups: of answers in words, the score of each group of validation texts; empty to leave it out.
    """

    metric: str = ""
    groups: Sequence[GroupScore] = ()
