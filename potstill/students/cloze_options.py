"""What may be said of a cloze under `[student]`, checked. Does nothing with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from potstill.errors import BadSpec, did_you_mean
from potstill.models.device import DeviceName, check_device

CHOICES = {
    "verbalizer": ("auto", "names", "descriptions", "data"),
    "several": ("auto", "sum", "mean", "blend"),
    "mode": ("auto", "lora", "full", "frozen", "zero-shot"),
    "dtype": ("float32", "bfloat16"),
}
INTEGER_OPTIONS, NUMBER_OPTIONS = ("layers", "rank", "soft", "batch", "max_length"), ("epochs", "lr")


@dataclass(frozen=True)
class ClozeOptions:
    """The `[student]` table of a cloze.

    Attributes:
        pattern: what surrounds a text, with {text} and {label} in it once each, and {text_b} for pairs; a causal model
            wants {label} last.
        words: label -> the word, or the words, that stand for it; by default its name.
        verbalizer: "names"; "descriptions" (names, but a salient word of the description where names begin alike);
            "data" (single tokens that tell the labels apart in the rows, before learning); "auto" takes the first of
            names, descriptions, data that tells all labels apart by their first token, else names.
        several: how tokens of a word of several are read; "auto" sums them (a masked model: their mean) while that
            is cheap, and else blends them.
        mode: "lora", "full" or "frozen" (only the label bias and the soft prompt); "auto": LoRA in a causal model, all
            weights in a masked one. "zero-shot" learns nothing and needs no row.
        layers: how many of the top layers learn; None: half of a causal model's, all of a masked one's.
        rank: of LoRA.
        soft: how many learnt vectors are put at the beginning of the row (a soft prompt); 0 for none.
        epochs, lr, batch: of learning; None derives epochs from the rows, lr from the mode.
        max_length: tokens of a row; None takes 256 or what the model reads.
        dtype: what predictions are computed in. In "bfloat16" they are quicker, and the student cannot be exported.
        device: what it learns and predicts on; "auto" is a GPU where PyTorch has one. Its bundle runs on the CPU.
    """

    pattern: str = ""
    label_words: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    verbalizer: Literal["auto", "names", "descriptions", "data"] = "auto"
    token_aggregation: Literal["auto", "sum", "mean", "blend"] = "auto"
    mode: Literal["auto", "lora", "full", "frozen", "zero-shot"] = "auto"
    trainable_layers: int | None = None
    lora_rank: int = 8
    soft_prompt_tokens: int = 0
    epochs: float | None = None
    lr: float | None = None
    batch_size: int = 16
    max_length: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: DeviceName = "auto"

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> ClozeOptions:
        """The options a user wrote.

        Raises:
            BadSpec: an unknown key, or a value that cannot be.
        """
        known = {each.name for each in fields(cls)}
        for key in table:
            if key not in known:
                raise BadSpec(f"The cloze has no option {key!r}.", did_you_mean(key, known))
        options = cls(**table)
        for key, allowed in CHOICES.items():
            if getattr(options, key) not in allowed:
                raise BadSpec(f"The cloze's {key} is {getattr(options, key)!r}.", f"Choose {', '.join(allowed)}.")
        for key in (*INTEGER_OPTIONS, *NUMBER_OPTIONS):
            value = getattr(options, key)
            right = isinstance(value, int if key in INTEGER_OPTIONS else int | float) and not isinstance(value, bool)
            if value is not None and not (right and (value > 0 or (key == "soft" and value == 0))):
                raise BadSpec(f"The cloze's {key} is {value!r}.", "Give a number above zero.")
        for place in ("{text}", "{label}"):
            if options.pattern and str(options.pattern).count(place) != 1:
                raise BadSpec(f"The cloze's pattern needs {place} in it, exactly once.", 'As "{text} Topic: {label}".')
        if not isinstance(options.label_words, Mapping):
            raise BadSpec("The cloze's words are no table.", 'Write words = { label = "word", ... }.')
        check_device(options.device)
        return options
