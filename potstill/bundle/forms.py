"""What bundles give, by the form of their task's answers, in words; and the refusal of a bundle of another form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from potstill.data.task import OutputForm, Task
from potstill.errors import BadInput

GIVES: Mapping[OutputForm | None, str] = {
    None: "gives labels",
    "entities": "finds entities",
    "free": "answers in words",
}
GIVES_NO: Mapping[OutputForm | None, str] = {
    None: "gives no labels",
    "entities": "finds no entities",
    "free": "gives no answers in words",
}


def check_form(folder: Path, task: Task, form: OutputForm | None) -> None:
    """Raise BadInput unless the bundle in a folder is of this form; None stands for labels."""
    if task.form != form:
        raise BadInput(
            f"{folder} {GIVES[task.form]}, and {GIVES_NO[form]}.",
            "Take potstill predict, or potstill.load(...).predict(texts).",
        )
