"""The contract suites: what every teacher and every student promises, as tests that a plug-in subclasses.

    class TestMyTeacher(TeacherContract):
        def open_teacher(self, task, examples=()):
            return open_teacher(Setup(task, "my-model", examples))

Run by pytest, or by `broken_promises` without it; nothing here needs pytest. A suite says what a kind must never do
wrong; it does not say how good a teacher or a student is.
"""

from __future__ import annotations

from potstill.testing.checks import ODD_TEXTS, run_contract
from potstill.testing.engine import EngineContract
from potstill.testing.recipe import RecipeContract
from potstill.testing.student import MultiLabelStudentContract, PairStudentContract, StudentContract
from potstill.testing.teacher import TeacherContract

__all__ = [
    "ODD_TEXTS",
    "EngineContract",
    "MultiLabelStudentContract",
    "PairStudentContract",
    "RecipeContract",
    "StudentContract",
    "TeacherContract",
    "run_contract",
]
