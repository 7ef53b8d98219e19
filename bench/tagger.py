"""Entities in wet-lab protocols (WLP): the tagger beside a CRF on words and a list of known words.

    python bench/tagger.py --data ../shared/data --crf-python /path/to/python [--sizes 500 2000 0] [--seeds 1] [--page]

On the official split of WNUT 2020 (`wlp_ner`): as many of its training sentences as `--sizes` says (0 is all), the
first 600 validation sentences to stop by, all test sentences. Leaks are kept: the split is the official one. The
CRF runs under `--crf-python`, an interpreter that has sklearn-crfsuite; without it its rows are left out. Seconds are
processor seconds of one thread. Results are added to bench/results/tagger.json row by row, and a row that is there is
not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sections import commit, table, write_section

from potstill.bundle.entity_bundle import EntityBundle, load_entities
from potstill.bundle.export.export_entities import export_entities
from potstill.data.entities.build import build_entity_pool
from potstill.data.entities.pool import EntityPool, EntitySubset
from potstill.data.entities.tags import read_tags
from potstill.data.pool import PoolOptions
from potstill.data.task import Task
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics, compute_entity_scores
from potstill.evaluation.text2text.known_words import learn_words
from potstill.students.base import StudentConfig
from potstill.students.entity_student import EntityTrainingData, MarkedTexts
from potstill.students.tagger import TaggerStudent

RESULTS = Path(__file__).with_name("results") / "tagger.json"
RIVAL = Path(__file__).with_name("rivals") / "crf.py"
VALIDATED, TIMED = 600, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--crf-python", default="")
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2000, 0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--weights", default="minilm")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the section")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    pool = None if options.page else read_wlp(options.data)
    for size in options.sizes if pool is not None else []:
        for seed in options.seeds:
            for arm in ("known words", "crf", f"tagger:{options.weights}"):
                key = {"arm": arm, "size": size, "seed": seed}
                if any(key.items() <= row.items() for row in rows) or (arm == "crf" and not options.crf_python):
                    continue
                assert pool is not None
                row = {**key, **measure(pool, arm, size, seed, options.crf_python), "commit": commit()}
                print(row, flush=True)
                rows.append(row)
                RESULTS.write_text(json.dumps({"format": 1, "bench": "tagger", "rows": rows}, indent=1) + "\n")
    section = page(rows)
    write_section("tagger", section)
    print(section)


def read_wlp(data: Path) -> EntityPool:
    """The official split, with its repeated texts; sentences that are marked in two ways keep the first."""
    files = {split: data / "wlp_ner" / f"{split}.parquet" for split in ("train", "validation", "test")}
    options = PoolOptions(on_leak="allow", on_duplicate="keep", on_conflict="first")
    return build_entity_pool(files, options=options).pool


def measure(pool: EntityPool, arm: str, size: int, seed: int, crf_python: str) -> dict[str, Any]:
    """Train on `size` sentences drawn by `seed`, and evaluate on the test sentences."""
    rows = pool.subset("train")
    drawn = np.random.default_rng(seed).permutation(len(rows))[: size or len(rows)]
    train = pool.take(rows.rows[drawn])
    marked, test = MarkedTexts(train.texts, train.entities), pool.subset("test")
    if arm == "known words":
        words = learn_words(marked.texts, marked.entities)
        return scores(test, [words.find(text) for text in test.texts], pool.labels, len(train))
    if arm == "crf":
        return measure_crf(marked, test, pool.labels, crf_python)
    student = TaggerStudent(StudentConfig(pool.labels, arm.partition(":")[2], kind="text2text"))
    held_out = pool.subset("validation")
    validation = MarkedTexts(held_out.texts[:VALIDATED], held_out.entities[:VALIDATED])
    started = time.process_time()
    student.fit(EntityTrainingData(marked, validation, seed))
    seconds = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        task = Task(pool.labels, kind="text2text")
        bundle = export_entities(student, Path(folder) / "bundle", task=task, check=validation)
        found = [each.entities for each in bundle.find_entities(test.texts)]
        facts = {"int8": bundle.record.int8.reason if bundle.record.int8 else "", "graph": bundle.graph}
        speed = {**facts, "texts_per_s": texts_per_s(bundle, test.texts[:TIMED]), "size_mb": bundle.size_mb}
        exact = load_entities(folder + "/bundle", graph="fp32")
        speed["fp32_texts_per_s"] = texts_per_s(exact, test.texts[:TIMED])
    return {**scores(test, found, pool.labels, len(train)), "train_seconds": seconds, **speed}


def measure_crf(train: MarkedTexts, test: EntitySubset, types: Sequence[str], python: str) -> dict[str, Any]:
    """The CRF in its own process."""
    rows = [(text.split(), tags_of(text, marks)) for text, marks in zip(train.texts, train.entities, strict=True)]
    given = json.dumps({"train": rows, "test": [text.split() for text in test.texts]})
    done = subprocess.run([python, str(RIVAL)], input=given, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    found = [read_tags(text.split(), tags)[1] for text, tags in zip(test.texts, answer["tags"], strict=True)]
    speed = {"train_seconds": answer["seconds"]["train"], "texts_per_s": len(test) / answer["seconds"]["test"]}
    return {**scores(test, found, types, len(train)), **speed}


def tags_of(text: str, entities: Entities) -> list[str]:
    """The BIO tags of words that blanks divide."""
    tags, at = [], 0
    for word in text.split():
        own = next((each for each in entities if each.start <= at < each.end), None)
        tags.append("O" if own is None else f"{'B' if own.start == at else 'I'}-{own.type}")
        at += len(word) + 1
    return tags


def scores(test: EntitySubset, found: Sequence[Entities], types: Sequence[str], n_train: int) -> dict[str, Any]:
    """The figures of one arm."""
    result = compute_entity_metrics(test.entities, found, types)
    more = compute_entity_scores(test.texts, test.entities, found, types, n_resamples=2)
    f1 = result.main_score
    return {
        "n_train": n_train,
        "n_test": result.n,
        "f1": [f1.value, f1.low, f1.high],
        "macro_f1": result.macro_f1.value,
        "lenient_f1": more.lenient_f1.value,
    }


def texts_per_s(bundle: EntityBundle, texts: Sequence[str]) -> float:
    """Texts a second of one thread's processor time, the best of three rounds."""
    bundle.threads = 1
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        bundle.predict(texts)
        best = min(best, time.process_time() - started)
    return len(texts) / best


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The section of RESULTS.md."""
    lines = [
        [
            row["arm"],
            f"{row['n_train']:,}",
            f"{100 * row['f1'][0]:.1f} ({100 * row['f1'][1]:.1f}–{100 * row['f1'][2]:.1f})",
            f"{100 * row['macro_f1']:.1f}",
            f"{100 * row['lenient_f1']:.1f}",
            f"{row['train_seconds']:,.0f}" if "train_seconds" in row else "",
            f"{row['texts_per_s']:,.0f}" if "texts_per_s" in row else "",
            str(row["seed"]),
            row["commit"],
        ]
        for row in sorted(rows, key=lambda row: (row["n_train"], row["f1"][0]))
    ]
    heads = ["model", "sentences", "entity F1, %", "macro F1", "lenient", "training, s", "texts/s", "seed", "commit"]
    about = (
        "`python bench/tagger.py`: entities in wet-lab protocols, official split of WNUT 2020 (2,813 test sentences). "
        "Seconds and texts/s are processor time of one thread; the tagger's are those of the graph that is served."
    )
    return f"## Entities in wet-lab protocols\n\n{about}\n\n{table(heads, lines)}"


if __name__ == "__main__":
    main()
