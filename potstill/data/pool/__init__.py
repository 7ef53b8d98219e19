"""The texts, and who said what of them: read from files, checked, cleaned and split. Knows no model and no money.

`build_pool` makes a `Pool` of one file, of several, or of tables in memory, and a `PoolReport` of all that was found
and decided on the way. Does NOT cover several labels a text, or free-text targets.
"""

from potstill.data.pool.base import SPLITS, Pool, Split, Subset
from potstill.data.pool.build import build_pool
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import PoolBuild, PoolReport, SourceReport

__all__ = [
    "SPLITS",
    "Pool",
    "PoolBuild",
    "PoolOptions",
    "PoolReport",
    "SourceReport",
    "Split",
    "Subset",
    "build_pool",
]
