"""What a server says about the life of a model: whether it lists it, and when it shuts down. Records; asks nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol, runtime_checkable

_LATER = "From then on no run that needs it can be resumed; the students it taught go on working."
_ADVICE = "Take another model with --teacher."


@dataclass(frozen=True)
class ModelLife:
    """A model in a server's catalogue.

    Attributes:
        shutdown: the last day it is announced for; None if no date is announced.
        retired: it answers no more.
    """

    shutdown: date | None = None
    retired: bool = False


@dataclass(frozen=True)
class ModelStatus:
    """What a server says about one model.

    Attributes:
        model: its name.
        host: the server.
        life: None if the server does not list the model, or could not be asked.
        problem: why it could not be asked, in words; empty if it was.
        others: models that it lists instead.
    """

    model: str
    host: str
    life: ModelLife | None = None
    problem: str = ""
    others: tuple[str, ...] = ()

    @property
    def ends(self) -> bool:
        """Whether the model ends, or has ended."""
        return self.life is not None and (self.life.retired or self.life.shutdown is not None)

    def sentence(self, today: date) -> str:
        """What the user reads: which model, which day, how far away, what to do."""
        if self.problem:
            return f"{self.host} was not asked about {self.model}: {self.problem}."
        if self.life is None:
            named = f"; it lists {', '.join(self.others)}" if self.others else ""
            return f"{self.host} does not list {self.model}{named}."
        if self.life.shutdown is None:
            if self.life.retired:
                return f"{self.host} has shut {self.model} down. {_ADVICE}"
            return f"{self.host} lists {self.model} and announces no shutdown."
        day = f"{self.life.shutdown.day} {self.life.shutdown:%B %Y}"
        days = (self.life.shutdown - today).days
        if self.life.retired or days < 0:
            return f"{self.model} was to shut down on {day}, says {self.host}. {_ADVICE}"
        when = {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")
        return f"{self.model} shuts down on {day}, {when}, says {self.host}. {_LATER} {_ADVICE}"


@runtime_checkable
class ReportsModelStatus(Protocol):
    """A teacher whose server has a catalogue of models."""

    def model_status(self) -> ModelStatus:
        """What the server says about the teacher's model. Sends no text; never raises."""
