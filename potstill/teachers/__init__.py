"""Teachers: they answer for money. A kind is one file and one line here."""

from __future__ import annotations

from potstill.registry import Registry

MENU = Registry(
    "teacher",
    {
        "anthropic": "potstill.teachers.anthropic:open_teacher",
        "human": "potstill.teachers.human:open_teacher",
        "local": "potstill.teachers.local:open_teacher",
        "openai": "potstill.teachers.openai:open_teacher",
        "replay": "potstill.teachers.replay:open_teacher",
        "trained": "potstill.teachers.trained:open_teacher",
    },
)
