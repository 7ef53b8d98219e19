"""The ways to write that `writer.py` measures, and the record of what it measured for one."""

from __future__ import annotations

from dataclasses import dataclass, field

from potstill.teachers.llamacpp import Sampling

BLOCK = 4
PLAIN, WARM = Sampling(0.8, 0.0, 0.05), Sampling(1.1, 0.0, 0.05)
RECIPE = Sampling(1.1, 0.8, 0.05)
STYLE = "in haste, as people write on a phone; a few words each"


@dataclass(frozen=True)
class Means:
    """A way to write: what the prompt shows and asks, and how tokens are drawn."""

    words: str
    sampling: Sampling = RECIPE
    shows_texts: bool = True
    other_words: bool = True
    style: str = ""
    block: int = BLOCK
    whole: bool = False
    in_torch: bool = False


CELLS: dict[str, Means] = {
    "recipe": Means(
        "real texts as earlier answers, other words, temperature 1.1, presence penalty 0.8 (**the default**)"
    ),
    "torch": Means("the same by PyTorch, 32 at once (**the default where bfloat16 is native**)", in_torch=True),
    "name": Means("the label's name alone, temperature 0.8", PLAIN, shows_texts=False),
    "texts": Means("with four real texts of the label", PLAIN, other_words=False),
    "other words": Means('the same, "in other words"', PLAIN),
    "warm": Means("the same, temperature 1.1", WARM),
    "whole": Means("the whole request, JSON, as the default samples", whole=True),
    "style": Means("the default and a style", style=STYLE),
    "single": Means("the default, one text of a label instead of four", block=1),
}
CHECKS = {
    "model": "the default, what the model labels so again",
    "student": 'the default, what `agree = "student"` keeps',
}


@dataclass(frozen=True)
class Cell:
    """What was measured for one means; `texts` are those that passed the filters."""

    name: str
    model: str
    asked: int
    written: int
    passed: int
    reasons: dict[str, int]
    right_share: float
    distinct2: float
    self_bleu: float
    seconds: float
    cpu_seconds: float
    prompt_tokens: int
    written_tokens: int
    texts: list[list[str]] = field(default_factory=list)
    commit: str = ""
