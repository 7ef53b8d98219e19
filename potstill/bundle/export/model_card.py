"""The model card of a bundle: `README.md`, written from its record.

Markdown with the front matter that model hubs read. A fact that the record lacks is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from potstill.bundle.record import BundleRecord
from potstill.evaluation.guarantees import Guarantees, scored_texts
from potstill.evaluation.multilabel_thresholds import MultilabelGuarantees

# What it reads of a text, by `long` of the preprocessor's config and the number of tokens.
LENGTH_NOTES = {
    "head": "It reads the first {} tokens of a text.",
    "head+tail": "It reads {} tokens of a text: of a longer one half from its beginning and half from its end.",
    "windows": "It reads all of a text, in windows of {} tokens whose scores are averaged.",
}


def write_model_card(folder: Path, record: BundleRecord) -> None:
    """Write `README.md` beside the record."""
    (folder / "README.md").write_text("\n".join(_lines(folder, record)) + "\n", encoding="utf-8", errors="replace")


def _lines(folder: Path, record: BundleRecord) -> Iterator[str]:
    yield from _front_matter(record)
    yield from _usage(folder, record)
    yield from ("", "## Labels", "")
    for label in record.task.labels:
        described = record.task.descriptions.get(label)
        yield f"- {_plain(label)}" + (f": {_plain(described)}" if described else "")
    yield from _table("Test metrics", {name: score.to_json() for name, score in record.metrics.items()})
    yield from _table("Training", {name: value for name, value in asdict(record.lineage).items() if value})
    yield from _table("The student", record.student)
    yield from ("", "## To know", "")
    yield from (f"- {_plain(note)}" for note in record.notes)
    yield from _guarantees(record)
    config = record.preprocessor.config
    if "max_length" in config:
        yield f"- {LENGTH_NOTES[config.get('long', 'head')].format(config['max_length'])}"
    yield "- Figures of speed and int8 were measured on the machine that made it."


def _front_matter(record: BundleRecord) -> Iterator[str]:
    licence = record.student.get("licence", "unknown")
    yield "---"
    if licence != "unknown":
        yield f"license: {json.dumps(licence.lower())}"
    yield from ("library_name: potstill", "pipeline_tag: text-classification", "---")


def _usage(folder: Path, record: BundleRecord) -> Iterator[str]:
    pairs = record.task.kind == "pair"
    yield f"# {_plain(record.task.name)}"
    yield ""
    yield f"A text classifier with {len(record.task.labels)} labels, made with {record.made_by} on {record.made_at}."
    given = '("a text", "another")' if pairs else '"a text"'
    yield from ("", "```python", "import potstill", f'potstill.load("this-folder").predict([{given}])', "```")
    if (folder / "config.json").exists():
        given = '{"text": "a text", "text_pair": "another"}' if pairs else '["a text"]'
        call = f'pipeline("text-classification", "this-folder", truncation=True)({given})'
        yield from ("", "The folder also loads without potstill, except for how long texts are cut:", "")
        yield from ("```python", "from transformers import pipeline", call, "```")


def _guarantees(record: BundleRecord) -> Iterator[str]:
    """How far its probabilities may be trusted."""
    measured = record.guarantees
    scored = "" if measured is None else scored_texts(measured.n, measured.n_folds)
    if record.task.kind == "multi":
        yield "- A text may have several labels: `predict` gives a tuple for each. Nothing is guaranteed of a set."
    if isinstance(measured, MultilabelGuarantees):
        how = "one for all labels" if len(measured.label_thresholds.thresholds) == 1 else "one per label"
        yield (
            f"- The thresholds ({how}) and the calibration ({measured.scaling.method}) were chosen on "
            f"{scored}: calibration error of all decisions {measured.ece_after.value:.1%}."
        )
    elif isinstance(measured, Guarantees):
        ece, method = measured.calibration_quality.ece_after, measured.scaling.method
        how = "not scaled" if method == "none" else f"calibrated by {method} scaling"
        yield (
            f"- Probabilities are {how}, measured on {scored} "
            f"{'of students trained alike' if measured.n_folds else f'of the graph `{record.graph}`'}: "
            f"calibration error {ece.value:.1%} (95 % interval {ece.low:.1%} to {ece.high:.1%})."
        )
        yield "- `predict_sets(texts, coverage=0.9)` gives label sets that contain the right label nine times in ten."
    elif record.task.kind != "multi" and record.temperature == 1.0:
        yield "- Probabilities were not calibrated on held-out labels."
    elif record.task.kind != "multi":
        yield f"- Probabilities are calibrated with the temperature {record.temperature:.3g}."
    if record.abstain_threshold is not None:
        yield f"- Below a probability of {record.abstain_threshold:.3g} it is not confident: have the text checked."


def _table(title: str, facts: Mapping[str, object]) -> Iterator[str]:
    if not facts:
        return
    yield from ("", f"## {title}", "", "| | |", "|---|---|")
    for name, value in facts.items():
        shown = value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)
        yield f"| {_plain(name)} | {_plain(shown)} |"


def _plain(value: object) -> str:
    """On one line, and without breaking out of a table's cell."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(shown.split()).replace("|", "\\|").replace("<", "&lt;")
