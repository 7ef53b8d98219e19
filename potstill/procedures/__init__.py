"""Procedures: recipes that spend a run's ledger until a student can do the task.

A recipe is one file and one line here. The line leads to a `Recipe` record (`procedures/base.py`), or to a bare
function `Run -> Student`.
"""

from __future__ import annotations

from potstill.registry import Registry

REGISTRY = Registry(
    "procedure",
    {
        "allocate": "potstill.procedures.allocate.recipe:RECIPE",
        "annotate": "potstill.procedures.annotate:RECIPE",
        "finetune": "potstill.procedures.finetune:RECIPE",
        "ft-kd": "potstill.procedures.trained_teacher_kd:FT_KD",
        "kd": "potstill.procedures.kd:RECIPE",
        "p-kd": "potstill.procedures.trained_teacher_kd:P_KD",
        "pgkd": "potstill.procedures.pgkd.recipe:RECIPE",
        "prompt": "potstill.procedures.prompt:RECIPE",
        "selftrain": "potstill.procedures.selftrain:RECIPE",
    },
)
LABELS_ONLY_PROCEDURE = "finetune"  # learns the gold and asks no teacher
