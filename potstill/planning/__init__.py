"""Distill or annotate, before any money moves: what each way to spend this budget can be expected to bring.

Measured or prior, and it says which: with `measure` the student is taught the labels there are, at a few sizes, and its
learning curve is drawn on; without, the outlook is experience with other data sets (`outlooks.Experience`). Asks nobody
and spends nothing; measuring takes this machine's time. How a run then spends is `procedures/allocate/`.
"""

from potstill.planning.compare_options import compare_options
from potstill.planning.records import OptionComparison

__all__ = ["OptionComparison", "compare_options"]
