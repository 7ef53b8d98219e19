"""Procedures: recipes that spend a ledger until a student can do the task. A recipe is one file and one line here.

A recipe is any callable `Run -> Student`. It decides what is asked, learnt and judged, and may not touch the test
part of the pool: what is chosen with it can no longer be measured with it.
"""

from __future__ import annotations

from potstill.registry import Registry

MENU = Registry(
    "procedure",
    {
        "allocate": "potstill.procedures.allocate.recipe:allocate",
        "annotate": "potstill.procedures.annotate:annotate",
        "finetune": "potstill.procedures.finetune:finetune",
        "ft-kd": "potstill.procedures.trained_teacher_kd:ft_kd",
        "kd": "potstill.procedures.kd:kd",
        "p-kd": "potstill.procedures.trained_teacher_kd:p_kd",
        "pgkd": "potstill.procedures.pgkd.recipe:pgkd",
        "prompt": "potstill.procedures.prompt:prompt",
        "selftrain": "potstill.procedures.selftrain:selftrain",
    },
)
