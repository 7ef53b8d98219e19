"""The options of the procedure `annotate`: how many texts people are asked about, and which."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from potstill.registry import Options


class AnnotateOptions(Options):
    """`[procedure] name = "annotate"`.

    Attributes:
        n: how many texts people label; None takes as many as the money reaches, at most all.
        rounds: in so many parts; before each but the first a student learns what is there and says what it doubts.
        choose: which texts come next: "random"; those the student doubts by "margin" or by "entropy".
    """

    n_texts: int | None = Field(default=None, gt=0)
    rounds: int = Field(default=1, ge=1, le=1000)
    query_strategy: Literal["random", "margin", "entropy"] = "random"
