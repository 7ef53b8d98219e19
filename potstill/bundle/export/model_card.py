"""The model card of a bundle: `README.md`, written from its record.

Markdown with the front matter that model hubs read. A fact that the record lacks is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from potstill.bundle.export.front_matter import front_matter, has_config
from potstill.bundle.layout import INT8, TRANSFORMERS_WEIGHTS
from potstill.bundle.record import BundleRecord
from potstill.evaluation.guarantees import Guarantees, scored_texts
from potstill.evaluation.multilabel_thresholds import MultilabelGuarantees

CARD_FILE = "README.md"
# What it reads of a text, by `long` of the preprocessor's config and the number of tokens.
LENGTH_NOTES = {
    "head": "It reads the first {} tokens of a text.",
    "head+tail": "It reads {} tokens of a text: of a longer one half from its beginning and half from its end.",
    "windows": "It reads all of a text, in windows of {} tokens whose scores are averaged.",
}


def write_model_card(folder: Path, record: BundleRecord, name: str = "this-folder") -> None:
    """Write `README.md` beside the record; `name` is what the examples load."""
    lines = (*front_matter(folder, record), *_lines(folder, record, name))
    (folder / CARD_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def _lines(folder: Path, record: BundleRecord, name: str) -> Iterator[str]:
    yield from _usage(folder, record, name)
    if record.task.labels:
        yield from ("", "## Labels" if record.task.form is None else "## Types of entities", "")
    for label in record.task.labels:
        described = record.task.descriptions.get(label)
        yield f"- {_plain(label)}" + (f": {_plain(described)}" if described else "")
    yield from _metrics(record)
    yield from _table("Training", {name: value for name, value in asdict(record.lineage).items() if value})
    yield from _table("The student", record.student)
    yield from ("", "## To know", "")
    yield from (f"- {_plain(note)}" for note in record.notes)
    yield from _guarantees(record)
    config = record.preprocessor.config
    if record.task.form == "entities":
        yield f"- It reads all of a text, in windows of {config['max_length']} tokens."
    elif "max_length" in config:
        yield f"- {LENGTH_NOTES[config.get('long', 'head')].format(config['max_length'])}"
    yield "- Figures of speed and int8 were measured on the machine that made it."


def _usage(folder: Path, record: BundleRecord, name: str) -> Iterator[str]:
    pairs = record.task.kind == "pair"
    yield f"# {_plain(record.task.name)}"
    yield ""
    n, made = len(record.task.labels), f"made with {record.made_by} on {record.made_at}"
    does = {
        None: f"A text classifier with {n} labels",
        "entities": f"Finds entities of {n} type{'s' * (n != 1)} in a text",
        "free": "Answers a text in words",
    }
    yield f"{does[record.task.form]}, {made}."
    given = '("a text", "another")' if pairs else '"a text"'
    yield from ("", "```python", "import potstill", f'potstill.load("{name}").predict([{given}])', "```")
    if record.task.form == "free":
        yield from _writing_usage(folder, record, name)
        return
    if (folder / TRANSFORMERS_WEIGHTS).exists():
        given = '{"text": "a text", "text_pair": "another"}' if pairs else '["a text"]'
        call = f'pipeline("text-classification", "{name}", truncation=True)({given})'
        yield from ("", "transformers gives the same probabilities, except for how long texts are cut:", "")
        yield from ("```python", "from transformers import pipeline", call, "```")
    if has_config(folder) and not pairs:
        dtype = "q8" if record.graph == INT8 else "fp32"
        yield from ("", "So does transformers.js, in a browser and on Node.js:", "")
        yield from ("```js", 'import { pipeline } from "@huggingface/transformers";')
        yield f'const classify = await pipeline("text-classification", "{name}", {{ dtype: "{dtype}" }});'
        yield from ('await classify("a text", { top_k: null });', "```")
    if record.calibration_in_graph:
        yield from ("", f"The logits of `{record.graph}` are calibrated: their {_link(record)} is what potstill gives.")


def _writing_usage(folder: Path, record: BundleRecord, name: str) -> Iterator[str]:
    """How transformers answers a text."""
    if not (folder / TRANSFORMERS_WEIGHTS).exists():
        return
    yield from ("", "transformers answers alike; the tokenizer puts the prompt around a text, which is one line:", "")
    if "start_id" in record.preprocessor.config:
        yield from ("```python", "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer")
        yield f'read, model = (kind.from_pretrained("{name}") for kind in (AutoTokenizer, AutoModelForSeq2SeqLM))'
        yield 'written = model.generate(**read("a text", return_tensors="pt"))'
        yield from ("read.batch_decode(written, skip_special_tokens=True)", "```")
        return
    yield from ("```python", "from transformers import pipeline")
    yield f'pipeline("text-generation", "{name}")("a text", return_full_text=False)'
    yield "```"


def _link(record: BundleRecord) -> str:
    return "sigmoid" if record.task.kind == "multi" else "softmax"


def _metrics(record: BundleRecord) -> Iterator[str]:
    if record.metrics:
        yield from ("", "## Test metrics", "", "| | value | 95 % interval |", "|---|---|---|")
    for name, score in record.metrics.items():
        yield f"| {_plain(name)} | {_plain(score.value)} | {_plain(score.low)} to {_plain(score.high)} |"


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
    elif record.task.form == "free":
        limit = record.preprocessor.config["max_tokens"]
        yield f"- `predict` gives an answer to each text, of {limit} tokens at most, the most probable token each time."
    elif record.task.form == "entities":
        yield "- `predict` gives the entities of each text: start, end, type, text and confidence."
        yield (
            "- A confidence is the geometric mean of the probabilities of the labels of an entity's words; it orders "
            "entities, and is no frequency."
        )
    elif record.task.kind != "multi" and record.temperature == 1.0:
        yield "- Probabilities were not calibrated on held-out labels."
    elif record.task.kind != "multi":
        yield f"- Probabilities are calibrated with the temperature {record.temperature:.3g}."
    if record.abstain_threshold:  # at 0 every answer is confident
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
