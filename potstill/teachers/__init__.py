"""Teachers answer for money. A kind is one file and one line here."""

from __future__ import annotations

from potstill.registry import Registry

REGISTRY = Registry(
    "teacher",
    {
        "anthropic": "potstill.teachers.anthropic:KIND",
        "human": "potstill.teachers.human:KIND",
        "local": "potstill.teachers.local:KIND",
        "openai": "potstill.teachers.openai:KIND",
        "replay": "potstill.teachers.replay:KIND",
        "trained": "potstill.teachers.trained:KIND",
    },
)

DEFAULT_ANNOTATOR = "human"  # of a recipe that buys labels
DEFAULT_TEACHER = "local"  # of a run that names none
SIMULATED_TEACHER = "replay"  # answers from a file of labels; what contract suites and trials use
TRAINED_TEACHER = "trained"  # a student that is trained first, named after the colon
