"""How exact label scoring is in int8 and bfloat16: beside float32, on the same texts.

    nice python bench/local_exactness.py [--data ../shared/data] [--model qwen-0.5b] [--texts 100] [--threads 1]
    python bench/local_exactness.py --model qwen-1.5b --sets sst2 ag_news --texts 300 --quick   # some six minutes

The reference renders each conversation with the tokenizer's own `apply_chat_template` and runs the whole of it, once a
label, through a float32 model that was loaded without any of our code. With `--quick` it is label scoring in float32
instead, which tests hold to 2e-4 of such passes and which is many times faster. Shown are the share of texts with the
same label, and how far the scores are apart. A model of N parameters needs 6 N bytes of memory.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sections import commit, write_section

from potstill.data.task import Task
from potstill.models.weights import find_weights
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher

RESULTS = Path(__file__).parent / "results" / "local_exactness.json"
SETS = ("sst2", "trec6", "ag_news")


def reference(teacher: LocalTeacher, model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """(N, K) log-probabilities of each label and the end of its turn, by full passes."""
    import torch

    rows = []
    for text in texts:
        turns = [
            {"role": "system", "content": teacher.text.system},
            {"role": "user", "content": f"{teacher.text.head} {text}"},
        ]
        chat = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        answered = [*turns, {"role": "assistant", "content": "LABEL"}]
        end = tokenizer.apply_chat_template(answered, tokenize=False).rpartition("LABEL")[2]
        before = tokenizer(chat, add_special_tokens=False)["input_ids"]
        row = []
        for word in teacher.text.label_words:
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            ids = [*ids, tokenizer(end, add_special_tokens=False)["input_ids"][0]]
            with torch.inference_mode():
                logs = model(torch.tensor([[*before, *ids]])).logits[0, len(before) - 1 :].log_softmax(-1)
            row.append(sum(float(logs[at, token]) for at, token in enumerate(ids)))
        rows.append(row)
        if len(rows) % 20 == 0:
            print(f"{len(rows)}/{len(texts)}", flush=True)
    return np.array(rows)


def page(stored: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "## Label scoring beside full float32 passes",
        "",
        "`python bench/local_exactness.py`: a number format and a shared prompt here; there float32 and whole",
        "conversations, or label scoring in float32 (`--quick`). Scores are log-probabilities of a label and the end",
        "of its turn.",
        "",
        "| model | format | beside | texts | same label | scores apart, mean | most | commit |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {row['model']} | {row['dtype']} | {row['beside']} | {row['n_texts']} of {row['dataset']} | "
        f"{100 * row['same_label']:.1f} % | "
        f"{row['mean_apart']} | {row['max_apart']} | {row['commit']} |"
        for row in stored
    ]
    return "\n".join(lines)


def read_texts(data: Path, name: str, n: int) -> tuple[list[str], tuple[str, ...]]:
    """N test texts of a set, and its labels."""
    table = pq.read_table(data / name / "test.parquet").to_pydict()
    order = np.random.default_rng(0).permutation(len(table["text"]))[:n]
    return [" ".join(table["text"][at].split()) for at in order], tuple(sorted(set(table["label"])))


def scored(given: argparse.Namespace, dtype: str) -> dict[str, np.ndarray]:
    """Set -> (N, K) scores of its texts in a number format; the model is loaded once and let go afterwards."""
    found, model = {}, None
    for name in given.sets:
        texts, labels = read_texts(given.data, name, given.texts)
        options = {"prompt_format": "chat", "dtype": dtype, "threads": given.threads}
        teacher = open_teacher(TeacherSetup(Task(labels), given.model, (), options))
        if model is not None:
            teacher.model.lm = model
        model = teacher.model.lm
        batches = [texts[at : at + teacher.batch_size] for at in range(0, len(texts), teacher.batch_size)]
        found[name] = np.array([answer.scores for batch in batches for answer in teacher.answer(batch).answers])
        print(f"{dtype}, {name}: {teacher.metadata.extra['texts_per_s']} texts/s", flush=True)
    return found


def full_passes(given: argparse.Namespace) -> dict[str, np.ndarray]:
    """Set -> (N, K) scores of its texts by whole conversations in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    weights = find_weights(given.model)
    where = {"pretrained_model_name_or_path": str(weights.folder), "gguf_file": weights.path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    exact = AutoModelForCausalLM.from_pretrained(
        **where, dtype="float32", quantization_config=GgufConfig(dequantize=True)
    ).eval()
    found = {}
    for name in given.sets:
        texts, labels = read_texts(given.data, name, given.texts)
        teacher = open_teacher(TeacherSetup(Task(labels), given.model, (), {"prompt_format": "chat"}))
        found[name] = reference(teacher, exact, tokenizer, texts)
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask.add_argument("--model", default="qwen-0.5b")
    ask.add_argument("--sets", nargs="+", default=["sst2", "trec6"], choices=SETS)
    ask.add_argument("--texts", type=int, default=100)
    ask.add_argument("--threads", type=int, default=0)
    ask.add_argument("--dtypes", nargs="+", default=["int8", "bfloat16"], choices=("int8", "bfloat16", "float32"))
    ask.add_argument("--quick", action="store_true", help="the reference is label scoring in float32")
    given = ask.parse_args()
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    full = scored(given, "float32") if given.quick else full_passes(given)
    stored = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    for dtype in given.dtypes:
        for name, scores in scored(given, dtype).items():
            apart = np.abs(scores - full[name])
            row = {
                "model": given.model,
                "dtype": dtype,
                "beside": "label scoring" if given.quick else "whole conversations",
                "dataset": name,
                "n_texts": len(scores),
                "same_label": round(float((scores.argmax(1) == full[name].argmax(1)).mean()), 4),
                "mean_apart": round(float(apart.mean()), 4),
                "max_apart": round(float(apart.max()), 4),
                "commit": commit(),
            }
            print(row, flush=True)
            same = ("model", "dtype", "beside", "dataset")
            stored = [each for each in stored if any(each[key] != row[key] for key in same)] + [row]
    RESULTS.write_text(json.dumps({"rows": stored}, indent=1) + "\n", encoding="utf-8")
    write_section("local-exactness", page(stored))


if __name__ == "__main__":
    main()
