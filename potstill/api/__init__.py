"""The functions of potstill, one per command. Heavy libraries are imported when a function is called.

A function's annotated parameters are the options of its command, its docstring is the help; a result has `to_text` for
the terminal and `to_json`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from potstill.api.annotate import annotate, label_errors
from potstill.api.bench import bench
from potstill.api.compare import compare
from potstill.api.distill import distill, plan
from potstill.api.export import export
from potstill.api.init import fetch, init
from potstill.api.predict import predict
from potstill.api.push import push
from potstill.api.serve import serve
from potstill.api.show import ledger, report, show

# Title -> commands, in the order a newcomer needs them.
COMMAND_GROUPS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Before training": (init, label_errors, plan),
    "Training": (distill, annotate, compare),
    "With a trained model": (predict, serve, export, push, bench),
    "What a run did": (report, show, ledger),
    "Weights and sample data": (fetch,),
}
COMMANDS = tuple(command for group in COMMAND_GROUPS.values() for command in group)

__all__ = ["COMMANDS", "COMMAND_GROUPS", *sorted(command.__name__ for command in COMMANDS)]
