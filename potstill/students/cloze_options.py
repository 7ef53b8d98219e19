"""Options of the cloze student, and the rule it derives its epochs by. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from potstill.models.device import DeviceName
from potstill.registry import InvalidOption, Options
from potstill.students.base import PositiveFloat, PositiveInt
from potstill.students.epoch_rule import EpochRule

CLOZE_EPOCHS = EpochRule(target_steps=150, min_epochs=3, max_epochs=20)
DEFAULT_LR = {"lora": 5e-4, "full": 3e-5, "frozen": 1e-3}  # by mode


class ClozeOptions(Options):
    """The `[student]` table of a cloze.

    Attributes:
        pattern: the template around a text, with {text} and {label} once each, and {text_b} for pairs; a causal model
            needs {label} last.
        label_words: label -> the word, or the words, that stand for it; default is the label's name.
        verbalizer: how label words are chosen: "names"; "descriptions" (names, but a salient word of the description
            for labels whose names begin with the same token); "data" (single tokens that separate the labels on the
            training rows before training); "auto" takes the first of names, descriptions, data under which the first
            tokens of all labels differ, else names.
        token_aggregation: how the tokens of a word of several are scored; "auto" sums them (a masked model: takes
            their mean) while that is cheap, and else blends them.
        mode: "lora", "full" or "frozen" (only the label bias and the soft prompt); "auto": LoRA in a causal model, all
            weights in a masked one. "zero-shot" trains nothing and needs no rows.
        trainable_layers: number of top layers that are trained; None: half of a causal model's, all of a masked one's.
        lora_rank: rank of LoRA.
        soft_prompt_tokens: number of trained vectors at the beginning of the input (a soft prompt).
        epochs, lr, batch_size: of training; None derives epochs from the rows, lr from the mode.
        max_length: tokens of a row; None takes 256 or what the model reads.
        dtype: number format of predictions. "bfloat16" is faster; such a student cannot be exported.
        device: device for training and prediction; "auto" is a GPU if PyTorch has one. Bundles run on the CPU.
    """

    pattern: str = ""
    label_words: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict)
    verbalizer: Literal["auto", "names", "descriptions", "data"] = "auto"
    token_aggregation: Literal["auto", "sum", "mean", "blend"] = "auto"
    mode: Literal["auto", "lora", "full", "frozen", "zero-shot"] = "auto"
    trainable_layers: PositiveInt | None = None
    lora_rank: PositiveInt = 8
    soft_prompt_tokens: Annotated[int, Field(strict=True, ge=0)] = 0
    epochs: PositiveFloat | None = None
    lr: PositiveFloat | None = None
    batch_size: PositiveInt = 16
    max_length: PositiveInt | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: DeviceName = "auto"

    @field_validator("pattern")
    @classmethod
    def _has_places(cls, pattern: str) -> str:
        for place in ("{text}", "{label}"):
            if pattern and pattern.count(place) != 1:
                raise InvalidOption(f"it needs {place} exactly once", 'Write one such as "{text} Topic: {label}".')
        return pattern
