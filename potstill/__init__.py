"""potstill: a big model's knowledge, distilled into a compact text classifier, with every dollar counted.

`potstill.distill(...)`, `potstill.load(path)` and the rest of `potstill.api` are reachable from here; each is
imported when first used, so that importing potstill costs nothing and a machine that only serves needs no more
than numpy, onnxruntime and tokenizers.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

# onnxruntime sends usage data to its publisher from version 1.31 on, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"

_WHERE = {
    "load": "potstill.bundle.load",
    "Bundle": "potstill.bundle.bundle",
    "EntityBundle": "potstill.bundle.entity_bundle",
    "FreeTextBundle": "potstill.bundle.free_text_bundle",
    "Classifier": "potstill.api.sklearn",
    "Task": "potstill.data.task",
    "Pool": "potstill.data.pool",
    "build_pool": "potstill.data.pool",
    "Run": "potstill.run.run",
    "PotstillError": "potstill.errors",
    "bench": "potstill.api",
    "compare": "potstill.api",
    "distill": "potstill.api",
    "annotate": "potstill.api",
    "label_errors": "potstill.api",
    "init": "potstill.api",
    "plan": "potstill.api",
    "predict": "potstill.api",
    "report": "potstill.api",
    "serve": "potstill.api",
    "show": "potstill.api",
    "fetch": "potstill.api",
    "export": "potstill.api",
    "push": "potstill.api",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
