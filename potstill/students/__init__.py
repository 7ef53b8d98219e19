"""Students: they learn from texts and soft targets, then predict for nearly nothing.

A kind is one file and one line here.
"""

from __future__ import annotations

from potstill.registry import Registry

REGISTRY = Registry(
    "student",
    {
        "linear": "potstill.students.linear:LinearStudent",
        "static": "potstill.students.static:StaticStudent",
        "encoder": "potstill.students.encoder:EncoderStudent",
        "cloze": "potstill.students.cloze:ClozeStudent",
    },
)
DEFAULT_STUDENT = "encoder"  # of a run that names none
BASELINE_STUDENT = "linear"  # needs no weights and trains in moments


def revision(kind: str) -> int:
    """Which way of learning a kind has come to: its class's `revision`, 1 where it says nothing.

    A class raises it when the same options and the same lesson come to other weights, as by another default. It is a
    part of the keys under which weights and results are kept, so that nothing learnt the old way passes for new.
    """
    return int(getattr(REGISTRY.resolve(kind), "revision", 1))
