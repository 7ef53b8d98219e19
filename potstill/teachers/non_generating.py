"""The generation methods of a teacher that generates no texts: one sentence in place of three methods a teacher."""

from __future__ import annotations

from typing import ClassVar

from potstill.data.task import GenerationRequest
from potstill.ledger.prices import Usage
from potstill.teachers.base import GeneratedTexts, UsageEstimate
from potstill.teachers.rate_limit import unbilled_error


class NonGeneratingTeacher:
    """Base of a teacher that generates no texts.

    Attributes:
        name: as the user types it.
        generation_hint: what to use instead.
    """

    name: str
    generation_hint: ClassVar[str] = "Use an LLM, or replay."

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """Nothing: no text is generated."""
        return Usage()

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """Nothing: no text is generated."""
        return UsageEstimate(Usage(), Usage())

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Raises TeacherError: no text is generated, and nothing is billed."""
        raise unbilled_error(f"The teacher {self.name!r} generates no texts.", self.generation_hint)
