"""Planning: what a budget buys, before it is spent. Buys nothing and calls no teacher.

`cost_estimate` prices what a recipe plans to buy. `compare_options` compares strategies (labels by people, a large
model, a language model, a mix) by their expected scores: measured, if students are trained on the existing labels, or
priors. How a run then spends is decided in `procedures/allocate/`.
"""

from potstill.planning.compare_options import compare_options
from potstill.planning.records import OptionComparison

__all__ = ["OptionComparison", "compare_options"]
