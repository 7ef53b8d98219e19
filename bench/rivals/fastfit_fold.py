"""FastFit on one fold, in a process and a virtual environment of its own: JSON in on stdin, JSON out on stdout.

    FASTFIT_PYTHON bench/rivals/fastfit_fold.py < fold.json

In: `weights` (a transformers folder), `texts`, `labels` (ints), `names` (of the labels), `test`, `seed`, `threads`.
Out: `predictions`, `seconds` and `cpu_seconds` (training alone), `steps`, `versions`. The settings are those of
FastFit's own example for BANKING77 (40 epochs, batches of 32, four repetitions). Imports nothing of potstill.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

EPOCHS, BATCH_SIZE, REPEATS = 40, 32, 4


def main() -> None:
    if "--help" in sys.argv:
        print(__doc__)
        return
    asked = json.load(sys.stdin)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as scratch:
        found = train(asked, Path(scratch))
    json.dump(found, sys.stdout)


def train(asked: dict[str, Any], scratch: Path) -> dict[str, Any]:
    import datasets
    import fastfit
    import torch
    import transformers
    from transformers import AutoTokenizer, pipeline

    torch.set_num_threads(asked["threads"])
    names = asked["names"]
    labels = [names[label] for label in asked["labels"]]
    rows = datasets.Dataset.from_dict({"text": asked["texts"], "label": labels})
    # Its trainer asks for validation and test texts; nothing is chosen by them.
    trainer = fastfit.FastFitTrainer(
        model_name_or_path=asked["weights"],
        label_column_name="label",
        text_column_name="text",
        train_dataset=rows,
        validation_dataset=rows,
        test_dataset=rows,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=64,
        num_repeats=REPEATS,
        max_text_length=128,
        dataloader_drop_last=False,
        optim="adafactor",
        clf_loss_factor=0.1,
        fp16=False,
        use_cpu=True,
        seed=asked["seed"],
        report_to="none",
        output_dir=str(scratch / "out"),
        save_strategy="no",
    )
    began, worked = time.perf_counter(), time.process_time()
    model = trainer.train()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    model.save_pretrained(str(scratch / "model"))
    saved = fastfit.FastFit.from_pretrained(str(scratch / "model"))
    tokenizer = AutoTokenizer.from_pretrained(asked["weights"])
    classify = pipeline("text-classification", model=saved, tokenizer=tokenizer, device=-1)
    column = {name: number for number, name in enumerate(names)}
    found = [column[each["label"]] for each in classify(asked["test"], batch_size=64, truncation=True)]
    return {
        "predictions": found,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "steps": EPOCHS * -(-len(labels) // BATCH_SIZE),
        "versions": {"fast-fit": version("fast-fit"), "transformers": transformers.__version__},
    }


if __name__ == "__main__":
    main()
