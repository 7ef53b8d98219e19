"""Options of the encoder student, the rules that derive unset ones, and the limits of one training. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StrictBool

from potstill.models.device import DeviceName
from potstill.models.tokens.tokenizer import LongTextMode
from potstill.registry import Options
from potstill.students.base import PositiveFloat, PositiveInt
from potstill.students.epoch_rule import EpochRule

EncoderMode = Literal["auto", "frozen", "full", "lora"]
HeadKind = Literal["linear", "label"]
ENCODER_EPOCHS = EpochRule(target_steps=200, min_epochs=3, max_epochs=15)
# With fewer rows than this none are held out: they are worth more for training than for validation.
MIN_ROWS_TO_HOLD_OUT = 500


class EncoderOptions(Options):
    """The `[student]` table of an encoder.

    Attributes:
        mode: "frozen" trains only the head; "full" fine-tunes all weights; "lora" fine-tunes low-rank matrices beside
            them (Hu et al. 2022), merged afterwards; "auto" fine-tunes all weights, and goes back to the frozen ones if
            those are better on held-out rows.
        epochs: epochs of fine-tuning; None derives them from the number of rows.
        lr: peak learning rate of fine-tuning; LoRA's is ten times that.
        batch_size: rows per step.
        max_length: maximum tokens of a text; None takes 256 or what the weights allow.
        long_texts: what is read of a text with more tokens: its "head"; its "head+tail", half each; or all of it in
            "windows", whose scores are averaged (training then uses head and tail). Pairs always keep both heads.
        c: inverse strength of the head's L2 penalty; None selects one by cross-validation.
        head: "linear"; or "label", which is initialised with the embedded names (and descriptions) of the labels, so
            that it needs no rows.
        label_names: add the label names as one example each, if there are few rows and it helps held-out rows.
        anchor_at_names: pull a linear head to the weights that the label names give, not to zero, with the names as
            rows beside it; None does so in the mode "frozen" if few rows are fitted by the names better than by chance.
        trust_labels: train on all of a teacher's answers; else only on those that cross-validation confirms.
        few_shot: train as on few rows: without a validation set, with token dropout, with the label names. None
            decides by the number of rows. For rows that are mostly pseudo-labels, which are no use for validation.
        n_averaged: number of fine-tunings whose weights are averaged, if there are few rows: slightly more accurate,
            `n_averaged` times as slow.
        device: device for training and prediction; "auto" is a GPU if PyTorch has one. Bundles run on the CPU.
    """

    mode: EncoderMode = "auto"
    epochs: PositiveFloat | None = None
    lr: PositiveFloat = 1e-4
    batch_size: PositiveInt = 32
    max_length: PositiveInt | None = None
    long_texts: LongTextMode = "head+tail"
    c: PositiveFloat | None = None
    head: HeadKind = "linear"
    label_names: StrictBool = True
    anchor_at_names: StrictBool | None = None
    trust_labels: StrictBool = False
    few_shot: StrictBool | None = None
    n_averaged: Annotated[int, Field(strict=True, ge=1, le=20)] = 1
    device: DeviceName = "auto"


@dataclass(frozen=True)
class TrainingStrategy:
    """What to train, and for how long.

    Attributes:
        options: the user's.
        seed: seeds the order, the dropout and the choice of validation rows.
        deadline: `time.monotonic()` at which to stop cleanly.
        progress: called with (share done, a few words).
    """

    options: EncoderOptions
    seed: int = 0
    deadline: float | None = None
    progress: Callable[[float, str], None] | None = None

    def past_deadline(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def report_progress(self, share: float, words: str) -> None:
        """Call `progress`, if there is one."""
        if self.progress is not None:
            self.progress(share, words)
