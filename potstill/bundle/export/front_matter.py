"""The front matter of a model card: what model hubs read of a bundle. A fact that the record lacks is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.bundle.layout import CONFIG_FILES, GENERATION_CONFIG, TRANSFORMERS_WEIGHTS
from potstill.bundle.record import BundleRecord
from potstill.data.task import JsonObject

# Licences that the Hugging Face hub has names for, as far as pretrained encoders have them; others are "other".
LICENCES = frozenset(
    "apache-2.0 mit openrail bsd bsd-2-clause bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0"
    " cc-by-nc-sa-4.0 cc-by-sa-3.0 cc-by-nc-sa-3.0 gpl-3.0 lgpl-3.0 agpl-3.0 afl-3.0 gemma"
    " llama3 llama3.1 llama3.2 unlicense".split()
)
# Our metric -> the hub's, and how it is written.
METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "entity_f1": ("f1", "Entity F1"),
    "macro_f1": ("f1", "Macro F1"),
    "micro_f1": ("f1", "Micro F1"),
    "exact_match": ("exact_match", "Exact match"),
    "token_f1": ("f1", "Token F1"),
    "rouge_l": ("rouge", "ROUGE-L"),
    "bleu": ("bleu", "BLEU"),
}
TASKS = {None: "text-classification", "entities": "token-classification", "free": "text-generation"}


def front_matter(folder: Path, record: BundleRecord) -> Iterator[str]:
    """The lines of YAML at the head of the card of the bundle in `folder`."""
    yield "---"
    yield from _yaml(_facts(folder, record))
    yield "---"


def library_of(folder: Path) -> str:
    """The library that loads the bundle in `folder`, by its hub name: transformers, transformers.js or potstill."""
    if (folder / TRANSFORMERS_WEIGHTS).exists():
        return "transformers"
    return "transformers.js" if has_config(folder) and not writes(folder) else "potstill"


def has_config(folder: Path) -> bool:
    """Whether the bundle in `folder` has the configuration that transformers.js reads."""
    return all((folder / name).exists() for name in CONFIG_FILES)


def writes(folder: Path) -> bool:
    """Whether the bundle in `folder` answers in words; what transformers.js makes of it is not known."""
    return (folder / GENERATION_CONFIG).exists()


def _facts(folder: Path, record: BundleRecord) -> dict[str, Any]:
    student = record.student
    licence = str(student.get("licence", "unknown"))
    facts: dict[str, Any] = {}
    if licence.lower() in LICENCES:
        facts["license"] = licence.lower()
    elif licence != "unknown":
        facts |= {"license": "other", "license_name": licence}
    facts |= {"library_name": library_of(folder), "pipeline_tag": _task_of(record)}
    for name in ("base_model", "language"):
        facts |= {name: student[name]} if student.get(name) else {}
    facts["tags"] = ["potstill", "onnx", *(["transformers.js"] if has_config(folder) and not writes(folder) else [])]
    if record.task.kind == "multi":
        facts["tags"].append("multi-label-classification")
    measured = [name for name in METRICS if name in record.metrics]
    if measured:
        facts["metrics"] = sorted({METRICS[name][0] for name in measured})
        facts["model-index"] = [_evaluation(record, measured)]
    return facts


def _task_of(record: BundleRecord) -> str:
    """The hub's name of the task."""
    return TASKS[record.task.form]


def _evaluation(record: BundleRecord, names: Sequence[str]) -> JsonObject:
    """The test metrics as the hub's "model-index"; the interval is a part of a metric's name."""
    metrics, kind_of_task = [], _task_of(record)
    for name in names:
        score, (kind, shown) = record.metrics[name], METRICS[name]
        interval = f"{shown} (95 % interval {score.low:.3f} to {score.high:.3f})"
        metrics.append({"type": kind, "name": interval, "value": round(score.value, 4)})
    name = record.task.name or "text classification"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "texts"
    result = {
        "task": {"type": kind_of_task, "name": kind_of_task.replace("-", " ").capitalize()},
        "dataset": {"type": slug, "name": f"{name} (own test texts)", "split": "test"},
        "metrics": metrics,
    }
    return {"name": name, "results": [result]}


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Dictionaries and lists in blocks, and everything else as JSON, which is YAML."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield f"{indent}{name}:"
            yield from _yaml(each, indent + "  ")
        elif isinstance(each, list):
            yield f"{indent}{name}:"
            for one in each:
                lines = list(_yaml(one, indent + "    ")) if isinstance(one, Mapping) else [json.dumps(one)]
                yield f"{indent}  - {lines[0].strip()}"
                yield from lines[1:]
        else:
            yield f"{indent}{name}: {json.dumps(each, ensure_ascii=False)}"
