"""Contract suites: what every teacher, student, recipe and engine promises, as tests that a plug-in subclasses.

    class TestMyTeacher(TeacherContract):
        def open_teacher(self, task, examples=()):
            return open_teacher(TeacherSetup(task, "my-model", examples))

Run by pytest, or by `run_contract` without it; nothing here needs pytest. A suite tests what a kind must never get
wrong, not how good a teacher or a student is.
"""

from __future__ import annotations

from potstill.testing.checks import ODD_TEXTS, run_contract
from potstill.testing.engine import EngineContract
from potstill.testing.entity_student import EntityStudentContract
from potstill.testing.entity_teacher import EntityTeacherContract
from potstill.testing.form_recipe import FormRecipeContract
from potstill.testing.free_text_student import FreeTextStudentContract
from potstill.testing.free_text_teacher import FreeTextTeacherContract
from potstill.testing.recipe import RecipeContract
from potstill.testing.student import MultiLabelStudentContract, PairStudentContract, StudentContract
from potstill.testing.teacher import TeacherContract

__all__ = [
    "ODD_TEXTS",
    "EngineContract",
    "EntityStudentContract",
    "EntityTeacherContract",
    "FormRecipeContract",
    "FreeTextStudentContract",
    "FreeTextTeacherContract",
    "MultiLabelStudentContract",
    "PairStudentContract",
    "RecipeContract",
    "StudentContract",
    "TeacherContract",
    "run_contract",
]
