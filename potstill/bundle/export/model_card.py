"""The model card of a bundle: `README.md`, from the same record that `potstill.json` holds.

Writes Markdown with the front matter that model hubs read. Invents nothing: what the record lacks is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What it reads of a text, by `long` of its settings and the number of tokens.
LENGTH_NOTES = {
    "head": "It reads the first {} tokens of a text.",
    "head+tail": "It reads {} tokens of a text: of a longer one half from its beginning and half from its end.",
    "windows": "It reads all of a text, in windows of {} tokens whose scores are averaged.",
}


def write_model_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `README.md` beside the record."""
    (folder / "README.md").write_text("\n".join(_lines(folder, record)) + "\n", encoding="utf-8")


def _lines(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    task, student = record["task"], record["student"]
    yield "---"
    if student.get("licence", "unknown") != "unknown":
        yield f"license: {json.dumps(student['licence'].lower())}"
    yield "library_name: potstill"
    yield "pipeline_tag: text-classification"
    yield "---"
    yield f"# {_plain(task['name'])}"
    yield ""
    yield f"A text classifier with {len(record['labels'])} labels, made with {record['made_by']} on {record['made']}."
    yield ""
    yield "```python"
    yield "import potstill"
    pairs = task["kind"] == "pair"
    given = '("a text", "another")' if pairs else '"a text"'
    yield f'potstill.load("this-folder").predict([{given}])'
    yield "```"
    if (folder / "config.json").exists():
        yield ""
        yield "The folder also loads without potstill, but for how long texts are cut:"
        yield ""
        yield "```python"
        yield "from transformers import pipeline"
        given = '{"text": "a text", "text_pair": "another"}' if pairs else '["a text"]'
        yield f'pipeline("text-classification", "this-folder", truncation=True)({given})'
        yield "```"
    yield ""
    yield "## Labels"
    yield ""
    for label in record["labels"]:
        described = task["descriptions"].get(label)
        yield f"- {_plain(label)}" + (f": {_plain(described)}" if described else "")
    yield from _table("How good it is", record["metrics"])
    yield from _table("What it learnt from", record["lineage"])
    yield from _table("The student", student)
    yield ""
    yield "## To know"
    yield ""
    for note in record["notes"]:
        yield f"- {_plain(note)}"
    yield from _trusted(record)
    if "max_length" in record["settings"]:
        reads = LENGTH_NOTES[record["settings"].get("long", "head")]
        yield f"- {reads.format(record['settings']['max_length'])}"
    yield "- Figures of speed and int8 were measured on the machine that made it."


def _trusted(record: Mapping[str, Any]) -> Iterator[str]:
    """How far its probabilities may be trusted."""
    trust = record.get("trust")
    if record["task"]["kind"] == "multi":
        yield "- A text may have several labels: `predict` gives a tuple for each. Nothing is promised of a set."
        if trust:
            how = "one for all labels" if len(trust["cut"]["thresholds"]) == 1 else "one a label"
            yield (
                f"- The thresholds ({how}) and the calibration ({trust['scaling']['method']}) were chosen on "
                f"{trust['n']:,} held-out texts: calibration error of all decisions {trust['ece_after']['value']:.1%}."
            )
        return
    if trust:
        ece, how = trust["quality"]["ece_after"], trust["scaling"]["method"]
        means = "its own" if how == "none" else f"calibrated by {how} scaling"
        yield (
            f"- Probabilities are {means}, measured on {trust['n']:,} held-out texts of the graph `{record['serve']}`: "
            f"calibration error {ece['value']:.1%} (95 % interval {ece['low']:.1%} to {ece['high']:.1%})."
        )
        yield "- `predict_sets(texts, coverage=0.9)` gives the labels among which the right one is nine times in ten."
    elif record["temperature"] == 1.0:
        yield "- Probabilities are the student's own; they were not calibrated on held-out labels."
    else:
        yield f"- Probabilities are calibrated with the temperature {record['temperature']:.3g}."
    if record["abstain_below"] is not None:
        yield f"- Below a probability of {record['abstain_below']:.3g} it is not sure: let somebody else decide."


def _table(title: str, facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts:
        return
    yield from ("", f"## {title}", "", "| | |", "|---|---|")
    for name, value in facts.items():
        shown = value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)
        yield f"| {_plain(name)} | {_plain(shown)} |"


def _plain(value: Any) -> str:
    """On one line, and without breaking out of a table's cell."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(shown.split()).replace("|", "\\|").replace("<", "&lt;")
