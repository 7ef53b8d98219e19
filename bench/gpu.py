"""Parity and speed of scoring, training and writing on a CUDA GPU, and what they cost there; ten minutes at most.

    python bench/gpu.py --weights ~/.cache/potstill --data ../shared/data --usd-per-hour 2.00
    python bench/gpu.py --device cpu --small --out small.json      # every step, in seconds, on tiny random models

The machine needs no network: `--weights` is a folder as `potstill fetch` fills it (qwen-0.5b, qwen-1.5b, minilm,
mpnet), `--data` has sst2 and banking77. A step whose weights are not there is left out and named. Every step is stored
in `--out` when it is done, and the same command goes on with the first that is missing; no step begins after
`--limit-s`.

- *score*: `local:MODEL` on SST-2. Parity is with float32 on the CPU of the same machine, in float32 and in the format
  that is taken by default; speed is that of the default format.
- *train*: `encoder:WEIGHTS` on BANKING77, 10 texts a class. Parity is of the trained network's logits on both devices.
- *write*: greedy tokens through transformers, several replies at once, in the default format; parity is of the first
  tokens in float32. llama.cpp writes as well: on the GPU if this build of it has one, else on the CPU; the table says
  which. `local:` itself writes labelled texts on the GPU, and JSON through llama.cpp on the CPU.

Asserts nothing. Figures of the CPU are those of this machine, with all its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gpu_small import small_texts, write_small_models
from gpu_table import page
from sections import commit, write_section

OUT = Path(__file__).parent / "results" / "gpu.json"
MODELS, ENCODERS = ("qwen-0.5b", "qwen-1.5b"), ("minilm", "mpnet")
USD_PER_HOUR = 2.00  # assumed: about a cloud machine with one GPU
BATCHES = (64, 512)
PROMPT = "Text: a letter to the bank about a card that was declined.\n"
FORMAT = 1


@dataclass(frozen=True)
class Size:
    """How much is measured: texts scored on the GPU and for parity, tokens written, texts tested."""

    texts: int = 2000
    parity_texts: int = 64
    tokens: int = 128
    replies: int = 16
    parity_tokens: int = 32
    tested: int = 2000


SMALL = Size(texts=24, parity_texts=8, tokens=8, replies=2, parity_tokens=4, tested=24)


@dataclass(frozen=True)
class Bench:
    """What the steps share.

    Attributes:
        device: "cuda" or "cpu".
        size: how much is measured.
        data: the folder with data sets; None for generated texts.
        names: short name of weights -> name or folder that is opened.
        cpu_training: whether the CPU trains as well.
    """

    device: str
    size: Size
    data: Path | None
    names: dict[str, str]
    cpu_training: bool

    def texts(self, name: str, part: str, n: int) -> list[tuple[str, str]]:
        """n texts with their labels, always the same."""
        if self.data is None:
            return small_texts(n, seed=len(part))
        import pyarrow.parquet as pq

        rows = pq.read_table(self.data / name / f"{part}.parquet").to_pydict()
        order = np.random.default_rng(0).permutation(len(rows["text"]))[:n]
        return [(" ".join(rows["text"][at].split()), rows["label"][at]) for at in order]


def main() -> None:
    options = arguments()
    import torch

    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device here; `--device cpu --small` tries every step without one.")
    if options.weights is not None:
        os.environ["POTSTILL_CACHE"] = str(options.weights.expanduser().resolve())
    device = "cpu" if options.device == "cpu" else "cuda"
    begun = time.monotonic()
    torch.zeros(1, device=device)  # starting CUDA is no part of a step
    record = read_record(options.out, machine(device), options.small)
    with tempfile.TemporaryDirectory() as scratch:
        names = {name: name for name in (*MODELS, *ENCODERS)}
        if options.small:
            causal, encoder = write_small_models(Path(scratch))
            names = dict.fromkeys(MODELS[:1], str(causal)) | dict.fromkeys(ENCODERS[:1], str(encoder))
        size, data = (SMALL, None) if options.small else (Size(), options.data)
        bench = Bench(device, size, data, names, not options.no_cpu_training)
        for name, step in steps(bench, options.steps):
            run_step(name, step, record, options.out, begun + options.limit_s)
    print(page(record, options.usd_per_hour))
    if options.out == OUT and device == "cuda" and record["rows"]:
        write_section("gpu", page(record, options.usd_per_hour))


def arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    ask.add_argument("--small", action="store_true", help="tiny random models and texts, to try every step")
    ask.add_argument("--weights", type=Path, help="the folder of fetched weights; else that of potstill fetch")
    ask.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask.add_argument("--usd-per-hour", type=float, default=USD_PER_HOUR, help="price of an hour of this machine")
    ask.add_argument("--steps", nargs="*", default=["score", "train", "write"], choices=("score", "train", "write"))
    ask.add_argument("--no-cpu-training", action="store_true", help="do not time minilm on the CPU")
    ask.add_argument("--limit-s", type=float, default=480.0, help="begin no step after so many seconds")
    ask.add_argument("--out", type=Path, default=OUT)
    return ask.parse_args()


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    gpu = torch.cuda.get_device_name() if device == "cuda" else "none: the CPU stands in"
    return {"gpu": gpu, "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(),
            "torch": torch.__version__}  # fmt: skip


def read_record(out: Path, here: dict[str, Any], small: bool) -> dict[str, Any]:
    """What is stored for this machine; a new record for another one."""
    fresh = {"format": FORMAT, "machine": here, "small": small, "rows": {}}
    if not out.exists():
        return fresh
    stored: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if (stored.get("format"), stored.get("machine"), stored.get("small")) == (FORMAT, here, small):
        return stored
    print(f"{out} is of another machine or format: it is replaced.")
    return fresh


def steps(bench: Bench, kinds: list[str]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The small models first, so that a short time shows every kind of step."""
    for model, encoder in zip(MODELS, ENCODERS, strict=True):
        todo = {"score": (model, score), "train": (encoder, train), "write": (model, write)}
        for kind, (name, run) in todo.items():
            if kind in kinds and name in bench.names:
                yield f"{kind} {name}", lambda run=run, name=name: run(bench, name)


def run_step(name: str, step: Callable[[], dict[str, Any]], record: dict[str, Any], out: Path, until: float) -> None:
    """Measure a step that is not stored, and store it."""
    from potstill.errors import PotstillError

    if name in record["rows"]:
        print(f"{name}: stored")
        return
    if time.monotonic() > until:
        print(f"{name}: no time left; the same command goes on with it")
        return
    began = time.monotonic()
    try:
        row = step()
    except (PotstillError, FileNotFoundError) as error:
        print(f"{name}: left out: {error}")
        return
    record["rows"][name] = {**row, "commit": commit(), "took_s": round(time.monotonic() - began, 1)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: {record['rows'][name]}", flush=True)


# --- scoring -----------------------------------------------------------------------------------------------


def score(bench: Bench, model: str) -> dict[str, Any]:
    """Label scores of one model: parity with float32 on the CPU, texts a second, accuracy."""
    pairs = bench.texts("sst2", "test", bench.size.texts)
    texts, few = [text for text, _ in pairs], [text for text, _ in pairs][: bench.size.parity_texts]
    teacher = opened(bench, model, pairs, "cpu", "float32")
    exact, cpu_s = scored(teacher, few)
    row: dict[str, Any] = {"n": len(texts), "n_parity": len(few), "cpu_texts_per_s": round(len(few) / cpu_s, 2)}
    row["float32"] = parity(exact, scored(opened(bench, model, pairs, bench.device, "float32"), few)[0])
    rates, scores = {}, exact
    for batch in BATCHES:
        teacher = opened(bench, model, pairs, bench.device, "auto", batch_size=batch)
        row |= {"dtype": teacher.dtype, teacher.dtype: parity(exact, scored(teacher, few)[0])}
        scores, seconds = scored(teacher, texts)
        rates[batch] = round(len(texts) / seconds, 1)
    gold = np.array([teacher.task.index(label) for _, label in pairs])
    accuracy = round(float((scores.argmax(1) == gold).mean()), 4)
    return {**row, "texts_per_s": max(rates.values()), "by_batch": rates, "raw_accuracy": accuracy}


def opened(bench: Bench, model: str, pairs: list[tuple[str, str]], device: str, dtype: str, **options: Any) -> Any:
    """`local:MODEL`, loaded and warm."""
    from potstill.data.task import Task
    from potstill.teachers.base import TeacherSetup
    from potstill.teachers.local import open_teacher

    labels = tuple(sorted({label for _, label in pairs}))
    options = {"device": device, "dtype": dtype, **options}
    teacher = open_teacher(TeacherSetup(Task(labels), bench.names[model], (), options))
    teacher.answer([text for text, _ in pairs[:8]])
    return teacher


def scored(teacher: Any, texts: list[str]) -> tuple[np.ndarray, float]:
    """(N, K) log-probabilities, and seconds."""
    began = time.perf_counter()
    size = teacher.batch_size
    answers = [each for at in range(0, len(texts), size) for each in teacher.answer(texts[at : at + size]).answers]
    return np.array([answer.scores for answer in answers]), time.perf_counter() - began


def parity(exact: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Rows with the same label, and how far the scores are apart at most."""
    same = float((exact.argmax(1) == other.argmax(1)).mean())
    return {"same_label": round(same, 4), "max_apart": round(float(np.abs(exact - other).max()), 5)}


# --- training ----------------------------------------------------------------------------------------------


def train(bench: Bench, weights: str) -> dict[str, Any]:
    """Fine-tuning of one encoder: seconds, accuracy, and the trained network on both devices."""
    pairs, tested = training_texts(bench), bench.texts("banking77", "test", bench.size.tested)
    labels = tuple(sorted({label for _, label in pairs}))
    student, seconds = fitted(bench, weights, pairs, labels, bench.device)
    texts, gold = [text for text, _ in tested], np.array([labels.index(label) for _, label in tested])
    student.predict_logits(texts[:32])
    began = time.perf_counter()
    logits = student.predict_logits(texts)
    rate = len(texts) / (time.perf_counter() - began)
    few = texts[: 4 * bench.size.parity_texts]
    row = {"n": len(pairs), "labels": len(labels), "seconds": round(seconds, 2), "fit": student.fit_info.to_json(),
           "accuracy": round(float((logits.argmax(1) == gold).mean()), 4), "texts_per_s": round(rate, 1),
           "parity": parity(on_cpu(student).predict_logits(few), logits[: len(few)])}  # fmt: skip
    if bench.cpu_training and weights == ENCODERS[0]:
        row["cpu_seconds"] = round(fitted(bench, weights, pairs, labels, "cpu")[1], 2)
    return row


def training_texts(bench: Bench) -> list[tuple[str, str]]:
    """BANKING77 with ten texts a class, or generated texts."""
    return bench.texts("banking77", "few_shot_10", 10**6 if bench.data else 24)


def fitted(
    bench: Bench, weights: str, pairs: list[tuple[str, str]], labels: tuple[str, ...], device: str
) -> tuple[Any, float]:
    """An encoder trained with default options, and the seconds that took."""
    from potstill.students.base import StudentConfig, TrainingData
    from potstill.students.kinds import student_kind

    student = student_kind("encoder")(StudentConfig(labels, bench.names[weights], options={"device": device}))
    student.check_requirements()
    targets = np.eye(len(labels), dtype=np.float32)[[labels.index(label) for _, label in pairs]]
    began = time.perf_counter()
    student.fit(TrainingData([text for text, _ in pairs], targets))
    return student, time.perf_counter() - began


def on_cpu(student: Any) -> Any:
    """The trained student on the CPU: saved, and loaded with the device changed in its record."""
    with tempfile.TemporaryDirectory() as folder:
        student.save(Path(folder))
        file = Path(folder) / "encoder.json"
        saved = json.loads(file.read_text(encoding="utf-8"))
        saved["options"]["device"] = "cpu"
        file.write_text(json.dumps(saved), encoding="utf-8")
        return type(student).load(Path(folder))


# --- writing -----------------------------------------------------------------------------------------------


def write(bench: Bench, model: str) -> dict[str, Any]:
    """Tokens a second through transformers and through llama.cpp, and the first greedy tokens on both devices."""
    import torch

    from potstill.models.causal_lm import choose_dtype, load_causal_lm
    from potstill.models.weights import find_weights

    found, size = find_weights(bench.names[model]), bench.size
    loaded = load_causal_lm(found, "float32")
    ids = [*loaded.prefix_ids, *loaded.encode([PROMPT])[0]]
    cpu_tokens, cpu_s = generated(loaded.model, ids, 1, size.parity_tokens)
    loaded.model.to(bench.device)
    tokens, _ = generated(loaded.model, ids, 1, size.parity_tokens)
    same = int(np.cumprod(cpu_tokens[0] == tokens[0]).sum())
    dtype = choose_dtype("auto", torch.device(bench.device))
    loaded.model.to(getattr(torch, dtype))
    generated(loaded.model, ids, size.replies, 4)
    _, one_s = generated(loaded.model, ids, 1, size.tokens)
    _, many_s = generated(loaded.model, ids, size.replies, size.tokens)
    row = {"through": f"transformers, {size.replies} replies at once", "dtype": dtype,
           "first_tokens": size.parity_tokens, "same_first_tokens": same,
           "tokens_per_s": round(size.replies * size.tokens / many_s, 1),
           "tokens_per_s_alone": round(size.tokens / one_s, 1),
           "cpu_tokens_per_s": round(size.parity_tokens / cpu_s, 1)}  # fmt: skip
    del loaded
    return row | (llama_cpp(found.path, size.tokens) if found.kind == "gguf" else {})


def generated(model: Any, ids: list[int], replies: int, n: int) -> tuple[np.ndarray, float]:
    """(replies, n) greedy tokens, and seconds."""
    import torch

    prompt = torch.tensor([ids] * replies).to(next(model.parameters()).device)
    began = time.perf_counter()
    with torch.inference_mode():
        whole = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=n,
            min_new_tokens=n,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=0,
        )
    return whole[:, len(ids) :].cpu().numpy(), time.perf_counter() - began


def llama_cpp(path: Path, n: int) -> dict[str, Any]:
    """llama.cpp's own figure for one reply, and on which device; nothing if it is not installed."""
    try:
        import xllamacpp
    except ImportError:
        return {}
    devices = [each["name"] for each in xllamacpp.get_device_info() if "CPU" not in str(each["type"])]
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 2048, 1, 999 if devices else 0
    params.verbosity, params.ui, params.warmup = -1, False, True
    server = xllamacpp.Server(params)
    done = server.handle_completions({"prompt": PROMPT, "n_predict": n, "ignore_eos": True, "temperature": 0})
    rate = round(float(done["timings"]["predicted_per_second"]), 1)
    return {"llama_cpp_device": devices[0] if devices else "CPU", "llama_cpp_tokens_per_s": rate}


if __name__ == "__main__":
    main()
