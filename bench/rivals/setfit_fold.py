"""SetFit on one fold, in a process and a virtual environment of its own: JSON in on stdin, JSON out on stdout.

    SETFIT_PYTHON bench/rivals/setfit_fold.py < fold.json

In: `weights` (a transformers BERT folder), `texts`, `labels` (ints), `test`, `iterations` (SetFit's num_iterations:
that many positive and as many negative pairs a text), `seed`, `threads`. Out: `predictions`, `seconds` and
`cpu_seconds` (training alone: embedding stage and head), `steps`, `versions`. Imports nothing of potstill.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    if "--help" in sys.argv:
        print(__doc__)
        return
    asked = json.load(sys.stdin)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as scratch:
        found = teach(asked, Path(scratch))
    json.dump(found, sys.stdout)


def teach(asked: dict[str, Any], scratch: Path) -> dict[str, Any]:
    import datasets
    import sentence_transformers
    import setfit
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.set_num_threads(asked["threads"])
    datasets.disable_progress_bars()
    # What all-MiniLM-L6-v2's own folder says: mean of the tokens, length one, 256 tokens at most.
    word = models.Transformer(asked["weights"], max_seq_length=256)
    pooled = models.Pooling(word.get_word_embedding_dimension(), pooling_mode="mean")
    body = SentenceTransformer(modules=[word, pooled, models.Normalize()], device="cpu")
    body.save(str(scratch / "body"))
    began, worked = time.perf_counter(), time.process_time()
    model = SetFitModel.from_pretrained(str(scratch / "body"), local_files_only=True)
    arguments = TrainingArguments(
        output_dir=str(scratch / "out"),
        batch_size=16,
        num_epochs=1,
        num_iterations=asked["iterations"],
        seed=asked["seed"],
        report_to="none",
        show_progress_bar=False,
        save_strategy="no",
    )
    rows = datasets.Dataset.from_dict({"text": asked["texts"], "label": asked["labels"]})
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    said = [int(each) for each in model.predict(asked["test"], batch_size=64, use_labels=False)]
    parts = {"setfit": setfit, "sentence-transformers": sentence_transformers, "transformers": transformers}
    return {
        "predictions": said,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "steps": -(-2 * asked["iterations"] * len(asked["texts"]) // 16),
        "versions": {name: part.__version__ for name, part in parts.items()},
    }


if __name__ == "__main__":
    main()
