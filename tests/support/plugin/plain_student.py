"""A plug-in student: logistic regression with a given penalty, on the features of the student that ships."""

from __future__ import annotations

from dataclasses import replace

from potstill.students.base import StudentConfig
from potstill.students.linear import LinearStudent


class PlainStudent(LinearStudent):
    """Has no option, so that nothing is chosen."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(replace(config, options={"c": 3.0}))
