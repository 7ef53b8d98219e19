"""A small causal student on real weights: its graph beside PyTorch and transformers, in answers and in speed.

    OMP_NUM_THREADS=1 python bench/causal.py --data ../shared/data [--set multipit_gen] [--rows 400] [--layers 8]
        [--minutes 5] [--page]

Trains `causal:smollm2` with its first layers on paraphrases of tweets (`multipit_gen`) or on the entities of a wet-lab
protocol, written out (`wlp_text`), exports it, and answers 200
validation texts, none of which it was trained on, in five ways: the student in PyTorch, the fp32 and the int8 graph,
transformers' pipeline on the exported folder, and transformers one text at a time. Everything runs on one thread in one
process. Training ends after so many minutes. A row is added to bench/results/causal.json, and one that is there is not
measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from sections import commit, table, write_section
from transformers import pipeline

from potstill.bundle.export.export_free_text import export_free_text
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.data.task import Output, Task
from potstill.errors import RunNotFound
from potstill.evaluation.text2text.answer_metrics import answer_score
from potstill.students.base import StudentConfig
from potstill.students.causal import CausalStudent
from potstill.students.free_text_student import AnsweredTexts, FreeTextTrainingData

RESULTS = Path(__file__).with_name("results") / "causal.json"
INSTRUCTIONS = {
    "multipit_gen": "Write the tweet in other words.",
    "wlp_text": "Write down the entities of the sentence, and behind each its type.",
}
MAX_TOKENS = {"multipit_gen": 48, "wlp_text": 96}  # of an answer
VALIDATED, ANSWERED, ALONE = 64, 200, 50  # texts to stop by, that are answered, and that are answered one by one
BATCH = 16  # texts a batch, as `models.greedy_decoding` takes them


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", choices=sorted(INSTRUCTIONS), default="multipit_gen")
    parser.add_argument("--weights", default="smollm2")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--page", action="store_true", help="measure nothing, write the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    key = {
        "set": options.set,
        "weights": options.weights,
        "layers": options.layers,
        "n_train": options.rows,
        "minutes": options.minutes,
    }
    if not options.page and not any(key.items() <= row.items() for row in rows):
        torch.set_num_threads(1)
        rows.append({**key, **measure(options.data / options.set, options), "commit": commit()})
        RESULTS.write_text(json.dumps({"format": 1, "bench": "causal", "rows": rows}, indent=1) + "\n")
    section = page(rows)
    write_section("causal", section)
    print(section)


def read(file: Path) -> AnsweredTexts:
    """The texts of a file, and the answer of each."""
    columns = pq.read_table(file).to_pydict()
    return AnsweredTexts(columns["text"], [(answer,) for answer in columns["answer"]])


def part(texts: AnsweredTexts, rows: Sequence[int]) -> AnsweredTexts:
    """Some of the texts."""
    return AnsweredTexts([texts.texts[i] for i in rows], [texts.references[i] for i in rows])


def measure(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train, export, and answer in every way."""
    known, unseen = read(data / "train.parquet"), read(data / "validation.parquet")
    drawn = np.random.default_rng(1).permutation(len(known)).tolist()
    train = part(known, drawn[: options.rows])
    held_out = part(known, drawn[options.rows : options.rows + VALIDATED])
    check = part(unseen, np.random.default_rng(1).permutation(len(unseen)).tolist()[:ANSWERED])
    instruction, output = INSTRUCTIONS[options.set], Output("free", "rouge_l", MAX_TOKENS[options.set])
    config = StudentConfig((), options.weights, {}, {"layers": options.layers}, "text2text", instruction, output)
    student, started = CausalStudent(config), time.process_time()
    student.fit(FreeTextTrainingData(train, held_out, 1, time_limit_s=60 * options.minutes))
    print(f"trained: {student.fit_info}", flush=True)
    facts = {"train_seconds": time.process_time() - started, **student.fit_info.to_json()}
    facts["millions"] = sum(each.numel() for each in student._loaded()[0].parameters()) / 1e6
    task = Task((), kind="text2text", instruction=instruction, output=output)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        bundle = export_free_text(student, folder, task=task, check=check)
        record = bundle.record
        facts |= {
            "forced_difference": record.parity.max_abs_difference if record.parity else None,
            "transformers_difference": record.transformers_difference,
            "int8": record.int8.reason if record.int8 else "",
            "graph": bundle.graph,
            "sizes_mb": {name: round(file.bytes / 1e6, 1) for name, file in record.files.items()},
        }
        print(facts, flush=True)
        facts["ways"] = ways(student, folder, check)
    return facts


def ways(student: CausalStudent, folder: Path, check: AnsweredTexts) -> list[dict[str, Any]]:
    """The answers of each way beside those of the student in PyTorch, and their speed."""
    tokenizer, texts = student._loaded()[1], list(check.texts)
    lines = [" ".join(text.split()) for text in texts]
    write = pipeline("text-generation", str(folder))
    assert write.tokenizer is not None

    def by_pipeline(given: Sequence[str], batch: int) -> list[str]:
        found = write(list(given), return_full_text=False, batch_size=batch)
        return [each[0]["generated_text"].strip() for each in found]

    def by_graph(graph: str) -> Callable[[Sequence[str]], list[str]]:
        loaded = FreeTextBundle.open(folder, graph=graph, threads=1)
        return lambda given: loaded.predict(given)

    found = [("PyTorch", lambda given: [each.text for each in student.generate(given)], texts)]
    found += [("graph, fp32", by_graph("fp32"), texts)]
    try:
        found.append(("graph, int8", by_graph("int8"), texts))
    except RunNotFound:
        print("int8 is not served, and its graph not kept", flush=True)
    found += [(f"transformers, batches of {BATCH}", lambda given: by_pipeline(given, BATCH), lines)]
    found += [("graph that is served, one by one", one_by_one(by_graph(served(folder))), texts[:ALONE])]
    found += [("transformers, one by one", lambda given: by_pipeline(given, 1), lines[:ALONE])]
    rows: list[dict[str, Any]] = []
    expected: list[str] = []
    for name, answer, given in found:
        answer(given[:BATCH])  # warm
        started = time.process_time()
        answers = answer(given)
        seconds = time.process_time() - started
        expected = expected or answers
        n_tokens = sum(map(len, tokenizer.encode_answers(answers)))
        row = {
            "way": name,
            "texts": len(answers),
            "equal": float(np.mean([one == other for one, other in zip(answers, expected, strict=False)])),
            "rouge_l": answer_score("rouge_l", answers, check.references[: len(answers)]),
            "tokens_per_s": n_tokens / seconds,
            "texts_per_s": len(answers) / seconds,
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def served(folder: Path) -> str:
    """The graph that is served."""
    return FreeTextBundle.open(folder).graph


def one_by_one(answer: Callable[[Sequence[str]], list[str]]) -> Callable[[Sequence[str]], list[str]]:
    """The same, a text a call."""
    return lambda given: [answer([text])[0] for text in given]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The section of RESULTS.md."""
    parts = ["## A small causal student on real weights"]
    parts.append(
        "`python bench/causal.py`: answers in words to 200 texts. The others are compared with the student in "
        "PyTorch: *equal* is the share of texts with the same answer to the letter. Tokens/s are of "
        "answers, by processor time of one thread, prompts included. So little training makes no good student; the "
        "section is about export and speed."
    )
    for row in rows:
        lines = [
            [
                each["way"],
                str(each["texts"]),
                f"{100 * each['equal']:.1f} %",
                f"{100 * each['rouge_l']:.1f}",
                f"{each['tokens_per_s']:,.0f}",
                f"{each['texts_per_s']:,.2f}",
            ]
            for each in row["ways"]
        ]
        sizes = ", ".join(f"{name} {size:,.1f} MB" for name, size in row["sizes_mb"].items() if size >= 1)
        parts += [
            f"{row['set']}: `{row['weights']}`, {row['layers']} layers, {row['millions']:,.1f} M parameters, "
            f"{row['n_train']:,} texts, {row['steps']:,} steps in {row['train_seconds']:,.0f} s "
            f"({row['stop_reason']}); commit {row['commit']}.",
            f"Largest difference of a score of given answers: graph {row['forced_difference']:.1e}, transformers "
            f"{row['transformers_difference']:.1e}. {row['int8']} {sizes}.",
        ]
        parts.append(table(["answered by", "texts", "equal", "ROUGE-L", "tokens/s", "texts/s"], lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
