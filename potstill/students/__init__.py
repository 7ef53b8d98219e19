"""Students: they learn from texts and soft targets, then predict for nearly nothing.

A kind is one file and one line here.
"""

from __future__ import annotations

from potstill.registry import Menu

MENU = Menu(
    "student",
    {
        "linear": "potstill.students.linear:Linear",
        "static": "potstill.students.static:Static",
        "encoder": "potstill.students.encoder:Encoder",
        "cloze": "potstill.students.cloze:Cloze",
    },
)


def revision(kind: str) -> int:
    """Which way of learning a kind has come to: its class's `revision`, 1 where it says nothing.

    A class raises it when the same options and the same lesson come to other weights, as by another default. It is a
    part of the keys under which weights and results are kept, so that nothing learnt the old way passes for new.
    """
    return int(getattr(MENU.resolve(kind), "revision", 1))
