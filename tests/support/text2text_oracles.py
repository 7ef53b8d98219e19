"""Writes tests/files/text2text_oracles.json: cases of answers and entities, scored by the reference libraries.

Run it where these are installed: pip install seqeval rouge-score sacrebleu. The tests read the file and need none.
"""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).parent.parent / "files" / "text2text_oracles.json"
WORDS = (
    "the a cat sat on mat, mat. it's 1,000 3.5 twenty-one 10-12 (red) Blue! é naïve 東京 & &amp; $5 U.S. x-y".split()
)
TYPES = ("Amount", "Reagent", "Time")


def _texts(draw: random.Random, most: int = 14) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(0, most)))


def _near(draw: random.Random, text: str) -> str:
    """The text with some words left out, doubled or exchanged."""
    words = []
    for word in text.split():
        words += draw.choice([[word]] * 6 + [[], [word, word], [draw.choice(WORDS)]])
    return " ".join(words)


def answers(draw: random.Random, n: int) -> list[dict[str, object]]:
    """Predictions with references, and ROUGE and sentence BLEU of each."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    scorer, bleu = RougeScorer(["rouge1", "rouge2", "rougeL"]), BLEU(effective_order=True)
    cases: list[dict[str, object]] = []
    for _ in range(n):
        references = [_texts(draw) for _ in range(draw.randint(1, 3))]
        prediction = _near(draw, draw.choice(references)) if draw.random() < 0.8 else _texts(draw)
        rouge = {name: score.fmeasure for name, score in scorer.score_multi(references, prediction).items()}
        cases.append(
            {
                "prediction": prediction,
                "references": references,
                **rouge,
                "bleu": bleu.sentence_score(prediction, references).score / 100,
            }
        )
    return cases


def corpora(cases: list[dict[str, object]]) -> list[dict[str, object]]:
    """Corpus BLEU of runs of cases, with one reference each and with all."""
    from sacrebleu.metrics import BLEU

    found: list[dict[str, object]] = []
    for start in range(0, len(cases), 20):
        some = cases[start : start + 20]
        predictions = [case["prediction"] for case in some]
        references = [list(case["references"]) for case in some]  # type: ignore[call-overload]
        columns = [[row[k] if k < len(row) else None for row in references] for k in range(3)]
        scores = {
            "bleu_one": BLEU().corpus_score(predictions, [[row[0] for row in references]]).score / 100,
            "bleu_all": BLEU().corpus_score(predictions, columns).score / 100,
        }
        found.append({"start": start, "end": start + len(some), **scores})
    return found


def _tags(draw: random.Random, n: int) -> list[str]:
    tags, at = ["O"] * n, 0
    while at < n:
        length = draw.randint(1, 3)
        if draw.random() < 0.5 and at + length <= n:
            name = draw.choice(TYPES)
            tags[at : at + length] = [f"B-{name}", *[f"I-{name}"] * (length - 1)]
        at += length
    return tags


def _near_tags(draw: random.Random, tags: list[str]) -> list[str]:
    if draw.random() < 0.4:
        return tags
    return [a if draw.random() < 0.7 else b for a, b in zip(tags, _tags(draw, len(tags)), strict=True)]


def entities(draw: random.Random, n: int) -> list[dict[str, object]]:
    """Sets of tagged sentences, and seqeval's report of each. Stray I- tags begin an entity, as there."""
    from seqeval.metrics import classification_report

    cases: list[dict[str, object]] = []
    for _ in range(n):
        gold = [_tags(draw, draw.randint(1, 12)) for _ in range(draw.randint(1, 8))]
        predicted = [_near_tags(draw, tags) for tags in gold]
        if not any(tag != "O" for tags in gold + predicted for tag in tags):
            continue
        report = classification_report(gold, predicted, output_dict=True, zero_division=0)
        scores = {name: {key: float(value) for key, value in row.items()} for name, row in report.items()}
        cases.append({"gold": gold, "predicted": predicted, "scores": scores})
    return cases


def main() -> None:
    """Write the file."""
    draw = random.Random(0)
    some = answers(draw, 120)
    made_with = {name: version(name) for name in ("seqeval", "rouge-score", "sacrebleu")}
    record = {"made_with": made_with, "answers": some, "corpora": corpora(some), "entities": entities(draw, 40)}
    FILE.write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
