"""Students: they learn from texts and soft targets, then predict for nearly nothing.

A kind is one file and one line here.
"""

from __future__ import annotations

from potstill.menu import Menu

MENU = Menu(
    "student",
    {
        "linear": "potstill.students.linear:Linear",
        "static": "potstill.students.static:Static",
        "encoder": "potstill.students.encoder:Encoder",
        "cloze": "potstill.students.cloze:Cloze",
    },
)
