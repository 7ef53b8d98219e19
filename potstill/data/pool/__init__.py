"""The pool: texts with their gold labels and splits, read from files, checked, cleaned and split.

`build_pool` makes a `Pool` from one file, several files or tables in memory, and a `PoolReport` of what was read, left
out and set aside. Free-text targets are not supported.
"""

from potstill.data.pool.base import Pool, Subset
from potstill.data.pool.build import build_pool
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import PoolBuild, PoolReport, SourceReport
from potstill.data.task import SPLITS, Split

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
