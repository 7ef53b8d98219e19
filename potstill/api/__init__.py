"""The functions of potstill, one per command. Heavy libraries are imported when a function is called.

A function's annotated parameters are the options of its command, its docstring is the help; a result has `to_text` for
the terminal and `to_json`.
"""

from __future__ import annotations

from potstill.api.annotate import annotate, label_errors
from potstill.api.bench import bench
from potstill.api.compare import compare
from potstill.api.distill import distill, plan
from potstill.api.init import fetch, init
from potstill.api.predict import predict
from potstill.api.show import ledger, report, show

COMMANDS = (init, label_errors, plan, distill, annotate, predict, report, compare, bench, show, ledger, fetch)
# in the order a newcomer needs them

__all__ = ["COMMANDS", *sorted(command.__name__ for command in COMMANDS)]
