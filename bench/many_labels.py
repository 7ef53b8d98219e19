"""A language model on this machine and 77 labels: names or codes, all of them or a shortlist, by accuracy and tokens.

    nice python bench/many_labels.py [--data ../shared/data] [--model qwen-1.5b] [--texts 200] [--threads 1]

The ways of asking about the same BANKING77 test texts, without an example:

- `names`: all labels are in the question, once; their names are scored behind each text;
- `codes`: the same with numbers of two digits for the names, which share their first digits;
- `names, first m by similarity`: as `names`, and only the m labels are scored whose names are most similar to the text
  (TF-IDF, or potion-8m where it was fetched). Their scores are those of `names`, so nothing is computed for it here;
- `shortlist of 20`: so asked, with the option of that name; what is not scored gets the lowest score less 6;
- `+ similarity`: the scores plus those of the similarity, each standardised over the labels, with equal weight.

Tokens a text are what a text costs beyond the prompt; a token costs about the same in each way. Label priors are
matched over the test texts to equal shares. Scores are stored by way in `bench/results/many_labels.json` when each is
done.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sections import commit, write_section

from potstill.data.task import Task
from potstill.errors import MissingWeights
from potstill.evaluation.calibration import match_prior
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher
from potstill.teachers.shortlist import ShortlistIndex, split_label_name

RESULTS = Path(__file__).parent / "results" / "many_labels.json"
SIZES = (5, 10, 20)
SPACES = ("tfidf", "potion-8m")


@dataclass(frozen=True)
class Asked:
    """One way of asking: (N, K) scores, what a text cost, and the commit; `cpu_seconds` are the processor's."""

    scores: np.ndarray
    tokens_per_text: float
    label_tokens: int
    prompt_tokens: int
    seconds: float
    cpu_seconds: float = 0.0
    commit: str = ""


def ask(teacher: LocalTeacher, texts: list[str]) -> Asked:
    """Ask about all texts."""
    teacher.max_usage(texts[:1])
    started, began, size, rows = time.perf_counter(), time.process_time(), teacher.batch_size, []
    for at in range(0, len(texts), size):
        rows += [answer.scores for answer in teacher.answer(texts[at : at + size]).answers]
        print(f"{len(rows)}/{len(texts)}", flush=True)
    tokens = teacher._counts["tokens"] / teacher._counts["texts"]
    scorer = teacher._scorers[0]
    seconds = round(time.perf_counter() - started, 1), round(time.process_time() - began, 1)
    return Asked(np.array(rows), tokens, scorer.tokens_per_text, len(scorer.prompt), *seconds, commit())


def ways(labels: list[str], model: str, threads: int) -> dict[str, LocalTeacher]:
    """A teacher for each way of asking."""
    options = {"threads": threads, "prompt_format": "chat", "batch_size": 16, "shortlist": 0}
    codes = {label: str(10 + at) for at, label in enumerate(labels)}
    described = Task(tuple(labels), descriptions={label: split_label_name(label) for label in labels})
    return {
        "names": open_teacher(TeacherSetup(Task(tuple(labels)), model, (), options)),
        "codes": open_teacher(TeacherSetup(described, model, (), {**options, "label_words": codes})),
    } | {
        f"shortlist of 20 by {space}": open_teacher(
            TeacherSetup(Task(tuple(labels)), model, (), {**options, "shortlist": 20, "embedding": space})
        )
        for space in SPACES
    }


def similarities(labels: list[str], texts: list[str]) -> dict[str, np.ndarray]:
    """Space -> (N, K) cosines of texts to label names."""
    found = {}
    for space in SPACES:
        try:
            index = ShortlistIndex(Task(tuple(labels)), (), space)
        except MissingWeights:
            continue
        found[space] = np.array([index.similarities(text).label_similarities for text in texts])
    return found


def accuracies(scores: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """Accuracy of the raw scores, and after matching the prior."""
    matched = scores + match_prior(scores, np.full(scores.shape[1], 1 / scores.shape[1]))
    return tuple(round(float((each.argmax(1) == gold).mean()), 3) for each in (scores, matched))


def standardised(scores: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and standard deviation 1."""
    return (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True).clip(1e-9)


def table(labels: list[str], texts: list[str], gold: np.ndarray, asked: dict[str, Asked]) -> list[dict[str, object]]:
    """The rows of the page."""
    rows: list[dict[str, object]] = []

    def add(way: str, scores: np.ndarray, tokens: float) -> None:
        raw, matched = accuracies(scores, gold)
        rows.append({"way": way, "raw": raw, "matched": matched, "tokens_per_text": round(tokens, 1)})

    spaces = similarities(labels, texts)
    for space, cosines in spaces.items():
        add(f"similarity to the names alone, {space}", cosines, 0)
    for way, found in asked.items():
        add(way, found.scores, found.tokens_per_text)
    if "names" not in asked:
        return rows
    names = asked["names"]
    own = names.tokens_per_text - names.label_tokens
    matched = names.scores + match_prior(names.scores, np.full(len(labels), 1 / len(labels)))
    for space, cosines in spaces.items():
        ranks = (-cosines).argsort(1).argsort(1)
        for size in SIZES:
            kept = np.where(ranks < size, matched, -np.inf)
            right = float((kept.argmax(1) == gold).mean())
            tokens = own + names.label_tokens * size / len(labels)
            row = {"way": f"names, first {size} by {space}", "raw": None, "matched": round(right, 3)}
            rows.append({**row, "tokens_per_text": round(tokens, 1)})
        both = standardised(matched) + standardised(cosines)
        add(f"names + similarity, {space}", both, names.tokens_per_text)
        kept = np.where(ranks < max(SIZES), both, -np.inf)
        row = {"way": f"names + similarity, first {max(SIZES)} by {space}", "raw": None}
        right = round(float((kept.argmax(1) == gold).mean()), 3)
        tokens = own + names.label_tokens * max(SIZES) / len(labels)
        rows.append({**row, "matched": right, "tokens_per_text": round(tokens, 1)})
    return rows


def main() -> None:
    ask_for = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask_for.add_argument("--model", default="qwen-1.5b")
    ask_for.add_argument("--texts", type=int, default=200)
    ask_for.add_argument("--threads", type=int, default=0)
    given = ask_for.parse_args()
    rows = pq.read_table(given.data / "banking77" / "test.parquet").to_pydict()
    labels = sorted(set(rows["label"]))
    chosen = np.random.default_rng(0).permutation(len(rows["text"]))[: given.texts]
    texts = [rows["text"][at] for at in chosen]
    gold = np.array([labels.index(rows["label"][at]) for at in chosen])
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"ways": {}}
    asked: dict[str, Asked] = {}
    model = None
    for way, teacher in ways(labels, given.model, given.threads).items():
        if model is not None:  # weights are read once
            teacher.model.lm = model
        saved = stored["ways"].get(way)
        if saved is None or len(saved["scores"]) != len(texts):
            found = ask(teacher, texts)
            model = teacher.model.lm
            saved = {**asdict(found), "scores": np.round(found.scores, 3).tolist()}
            stored["ways"][way] = saved
            RESULTS.write_text(json.dumps(stored) + "\n", encoding="utf-8")
        asked[way] = Asked(**{**saved, "scores": np.array(saved["scores"])})
    found = table(labels, texts, gold, asked)
    lines = [
        "## 77 labels and a language model on this machine",
        "",
        f"`python bench/many_labels.py`, commits {', '.join(sorted({each.commit for each in asked.values()}))}, "
        f"{given.model}, {len(texts)} BANKING77 test texts, no example; accuracy in %, standard error 4. Tokens a text "
        "are what it costs beyond the prompt, computed once. Rows of a shortlist were asked so; those of the first "
        "labels are computed from the scores of all.",
        "",
        "| way | raw | prior matched | tokens a text |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in found:
        raw = "" if row["raw"] is None else f"{100 * float(str(row['raw'])):.1f}"
        matched = f"{100 * float(str(row['matched'])):.1f}"
        lines.append(f"| {row['way']} | {raw} | {matched} | {row['tokens_per_text']} |")
    stored["table"] = found
    RESULTS.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    write_section("many-labels", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
