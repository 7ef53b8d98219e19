"""When rounds of labelling without gold end, and which round is kept. Functions of numbers; no gold is read.

Rounds that change hardly a label have settled. Where the label names say nothing, labels go on changing in each round.
If a second opinion is refined in the same way, alone, both come closer as long as a round adds something (co-training:
Blum and Mitchell 1998); once they agree less, the round in which they agreed most is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

# Chosen on the pools of five sets (docs/log.md). Share of labels that a round changes, below which rounds have settled.
SETTLED = 0.005
MAX_ROUNDS = 10
UNSETTLED_ROUND = 3  # is kept where no round settles
Reason = Literal["settled", "agreement", "unsettled", "given"]


@dataclass(frozen=True)
class KeptRound:
    """The round that is kept, 0 before the first, and why.

    `reason`: the next rounds would change hardly a label ("settled"); two opinions agreed most ("agreement"); rounds
    were given out before they settled ("unsettled"); or the number of rounds was given ("given").
    """

    round: int
    reason: Reason


def keep_round(
    changed: Sequence[float], agreement: Sequence[float], n: int, max_rounds: int = MAX_ROUNDS
) -> KeptRound | None:
    """The round to keep after `len(changed)` rounds; None to go on.

    Args:
        changed: for each round the share of labels that it changed, in [0, 1].
        agreement: how often two opinions agree, before the first round and after each; empty if there is only one.
        n: number of texts, for the standard error of an agreement.
        max_rounds: rounds at most.
    """
    if agreement:
        best = max(range(len(agreement)), key=lambda number: agreement[number])
        standard_error = sqrt(agreement[best] * (1 - agreement[best]) / max(n, 1))
        if agreement[best] - agreement[-1] > standard_error:
            return KeptRound(best, "agreement")
    if changed and changed[-1] < SETTLED:
        return KeptRound(len(changed), "settled")
    if len(changed) >= max_rounds:
        return KeptRound(min(UNSETTLED_ROUND, len(changed)), "unsettled")
    return None
