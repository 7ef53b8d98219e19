"""How exact label scoring is: bfloat16 with a shared prompt beside a full float32 pass of transformers over each text.

    nice python bench/local_exactness.py [--data ../shared/data] [--model qwen-0.5b] [--texts 100] [--threads 1]

The reference renders each conversation with the tokenizer's own `apply_chat_template` and runs the whole of it, once a
label, through a float32 model that was loaded without any of our code. Shown are the share of texts with the same
label, and how far the scores are apart. A model of N parameters needs 6 N bytes of memory.
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
        "`python bench/local_exactness.py`: bfloat16 and a shared prompt here, float32 and whole conversations there;",
        "the scores are log-probabilities of a label and the end of its turn.",
        "",
        "| model | texts | same label | scores apart, mean | most | commit |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {row['model']} | {row['n_texts']} of {row['dataset']} | {100 * row['same_label']:.1f} % | "
        f"{row['mean_apart']} | {row['max_apart']} | {row['commit']} |"
        for row in stored
    ]
    return "\n".join(lines)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask.add_argument("--model", default="qwen-0.5b")
    ask.add_argument("--sets", nargs="+", default=["sst2", "trec6"], choices=SETS)
    ask.add_argument("--texts", type=int, default=100)
    ask.add_argument("--threads", type=int, default=0)
    given = ask.parse_args()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if given.threads:
        torch.set_num_threads(given.threads)
    found = find_weights(given.model)
    where = {"pretrained_model_name_or_path": str(found.folder), "gguf_file": found.path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    exact = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    ).eval()
    stored = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    for name in given.sets:
        table = pq.read_table(given.data / name / "test.parquet").to_pydict()
        order = np.random.default_rng(0).permutation(len(table["text"]))[: given.texts]
        texts = [" ".join(table["text"][at].split()) for at in order]
        labels = tuple(sorted(set(table["label"])))
        options = {"prompt_format": "chat", "dtype": "bfloat16", "threads": given.threads}
        teacher = open_teacher(TeacherSetup(Task(labels), given.model, (), options))
        teacher.max_usage(texts[:1])
        fast = np.array([answer.scores for answer in teacher.answer(texts).answers])
        full = reference(teacher, exact, tokenizer, texts)
        apart = np.abs(fast - full)
        row = {
            "model": given.model,
            "dataset": name,
            "n_texts": len(texts),
            "same_label": round(float((fast.argmax(1) == full.argmax(1)).mean()), 4),
            "mean_apart": round(float(apart.mean()), 4),
            "max_apart": round(float(apart.max()), 4),
            "commit": commit(),
        }
        print(row, flush=True)
        stored = [each for each in stored if (each["model"], each["dataset"]) != (given.model, name)] + [row]
        RESULTS.write_text(json.dumps({"rows": stored}, indent=1) + "\n", encoding="utf-8")
        write_section("local-exactness", page(stored))


if __name__ == "__main__":
    main()
