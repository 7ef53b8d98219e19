"""How fast a small language model scores labels on this machine: ours, beside what else one would use.

    python bench/local_speed.py --data ../shared/data --out bench/results/local_speed.json

Every way scores the same AG News texts with the same prompt (one gold example a class); ways are interleaved, the best
of `--repeats` counts, and loading is left out. `--accuracy` adds accuracy with no and with one example a class, before
and after the label prior is matched. Prints a table, writes JSON with the commit. Asserts nothing. OpenVINO is timed
where it can be imported; it reads prompts and returns no label scores, so its figure is an upper limit for it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from potstill.data.task import LabelledText, Task
from potstill.evaluation.calibration import match_prior
from potstill.models import weights
from potstill.models.causal_lm import CausalLM, load_causal_lm
from potstill.models.threads import idle_cores, torch_threads
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher

WORDS = {"World": "World", "Sports": "Sports", "Business": "Business", "Sci/Tech": "Technology"}


@dataclass(frozen=True)
class Case:
    """The same work for every way: a prompt, the texts after it, the first token of each label."""

    prompt: list[int]
    texts: list[list[int]]
    firsts: list[int]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.texts))


def rows(data: Path, part: str, n: int, seed: int = 0) -> list[tuple[str, str]]:
    table = pq.read_table(data / "ag_news" / f"{part}.parquet").to_pydict()
    pairs = list(zip(table["text"], table["label"], strict=True))
    return [pairs[at] for at in np.random.default_rng(seed).permutation(len(pairs))[:n]]


def opened(data: Path, shots: int, options: dict[str, Any], model: str) -> LocalTeacher:
    pairs = rows(data, "train", 400)
    labels = sorted({label for _, label in pairs})
    shown = [LabelledText(text, label) for want in labels for text, label in [p for p in pairs if p[1] == want][:shots]]
    words = {label: WORDS.get(label, label) for label in labels}
    return open_teacher(TeacherSetup(Task(tuple(labels)), model, shown, {"label_words": words, **options}))


def plain(model: CausalLM, case: Case, together: int) -> np.ndarray:
    """transformers as documented: padded batches of whole prompts, the logits of the last position."""
    import torch

    model.model.set_attn_implementation("sdpa")
    out = np.zeros((len(case.texts), len(case.firsts)))
    order = sorted(range(len(case.texts)), key=lambda at: len(case.texts[at]))
    with torch.inference_mode():
        for start in range(0, len(order), together):
            chosen = order[start : start + together]
            whole = [[*case.prompt, *case.texts[at]] for at in chosen]
            longest = max(map(len, whole))
            ids = torch.tensor([[0] * (longest - len(each)) + each for each in whole])
            mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in whole])
            places = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model.model(input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=1).logits
            out[chosen] = logits[:, -1].float().log_softmax(-1)[:, case.firsts].numpy()
    return out


def llama_cpp(path: Path, threads: int) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 4096, 1, 0
    params.verbosity, params.ui = -1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def llama_scores(server: Any, case: Case, share: int) -> None:
    """One completion of one token a text, with the prompt cached by llama.cpp itself."""
    for text in case.texts[:: max(1, len(case.texts) // share)]:
        server.handle_completions(
            {"prompt": [*case.prompt, *text], "n_predict": 1, "n_probs": 100, "cache_prompt": True, "temperature": 0}
        )


def llama_own(server: Any) -> dict[str, float]:
    """llama.cpp's own figures, as llama-bench reports them: 512 prompt tokens at once, then 64 generated."""
    ids = np.random.default_rng(0).integers(100, 20_000, 512).tolist()
    got = server.handle_completions({"prompt": ids, "n_predict": 64, "cache_prompt": False, "ignore_eos": True})
    return {"pp512": got["timings"]["prompt_per_second"], "tg64": got["timings"]["predicted_per_second"]}


def openvino(path: Path, case: Case) -> Callable[[], None] | None:
    try:
        import openvino as ov
        import openvino_genai as genai
    except ImportError:
        return None
    pipe = genai.LLMPipeline(str(path), "CPU", scheduler_config=genai.SchedulerConfig())
    once = genai.GenerationConfig(max_new_tokens=1)

    def run() -> None:
        for text in case.texts[:64]:
            ids = ov.Tensor(np.array([[*case.prompt, *text]], dtype=np.int64))
            pipe.generate(genai.TokenizedInputs(ids, ov.Tensor(np.ones(ids.shape, dtype=np.int64))), once)

    return run


def timed(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(repeats + 1):  # the first turn warms up
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                best[name] = min(best[name], time.perf_counter() - began)
    return best


def accuracies(data: Path, n: int, model: str) -> list[dict[str, Any]]:
    pairs = rows(data, "test", n)
    found = []
    for shots, prompts in ((0, 1), (1, 1), (1, 3)):
        teacher = opened(data, shots * prompts, {"shots": shots, "n_prompts": prompts}, model)
        gold = np.array([teacher.task.index(label) for _, label in pairs])
        scores = np.array([answer.scores for answer in teacher.answer([text for text, _ in pairs]).answers])
        flat = np.full(len(teacher.task.labels), 1 / len(teacher.task.labels))
        matched = scores + match_prior(scores, flat)
        found.append(
            {
                "examples_per_class": shots,
                "prompts": prompts,
                "raw": round(float((scores.argmax(1) == gold).mean()), 3),
                "prior_matched": round(float((matched.argmax(1) == gold).mean()), 3),
                "n": n,
                "texts_per_s": teacher.about["texts_per_s"],
            }
        )
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask.add_argument("--model", default="smollm2")
    ask.add_argument("--texts", type=int, default=256)
    ask.add_argument("--repeats", type=int, default=2)
    ask.add_argument("--threads", type=int, default=0, help="0: as many as are idle")
    ask.add_argument("--accuracy", type=int, default=0, metavar="N", help="also score N test texts for accuracy")
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    threads = given.threads or idle_cores()

    found = weights.find_weights(given.model)
    teacher = opened(given.data, 1, {"threads": threads}, given.model)
    texts = [text for text, _ in rows(given.data, "test", given.texts)]
    teacher.max_usage(texts[:1])
    scorer, tokens = teacher._scorers[0], teacher._tokens
    case = Case(list(scorer.prompt), tokens.texts(texts), [label[0] for label in scorer.labels])
    part = Case(case.prompt, case.texts[:32], case.firsts)
    ordinary = load_causal_lm(found, teacher.dtype)
    exact = load_causal_lm(found, "float32")

    def ours() -> None:
        for start in range(0, len(texts), teacher.batch_size):
            teacher.answer(texts[start : start + teacher.batch_size])

    ways: dict[str, tuple[Callable[[], Any], Case]] = {
        f"potstill ({teacher.dtype})": (ours, case),
        f"transformers, whole prompts ({teacher.dtype})": (lambda: plain(ordinary, part, 16), part),
        "transformers, whole prompts (float32)": (lambda: plain(exact, part, 16), part),
    }
    own: dict[str, float] = {}
    if found.kind == "gguf":
        server = llama_cpp(found.path, threads)
        own = llama_own(server)
        ways["llama.cpp, cached prompt (as in the file)"] = (lambda: llama_scores(server, part, 32), part)
        pipeline = openvino(found.path, case)
        if pipeline is not None:
            ways["OpenVINO GenAI, whole prompts"] = (pipeline, Case(case.prompt, case.texts[:64], case.firsts))
    with torch_threads(threads):
        seconds = timed({name: way for name, (way, _) in ways.items()}, given.repeats)
        gap = np.abs(plain(exact, part, 16) - scorer.score(part.texts)) if len(scorer.tree.tokens) == 0 else None
    table = [
        {
            "way": name,
            "texts_per_s": round(len(used.texts) / seconds[name], 1),
            "text_tokens_per_s": round(used.tokens / seconds[name]),
        }
        for name, (_, used) in ways.items()
    ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    report = {
        "commit": commit.stdout.strip(),
        "model": given.model,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "threads": threads,
        "prompt_tokens": len(case.prompt),
        "tokens_per_text": round(case.tokens / len(case.texts), 1),
        "ways": table,
        "llama.cpp itself, tokens/s": {name: round(value) for name, value in own.items()},
        "distance_from_float32": None if gap is None else {"mean": float(gap.mean()), "max": float(gap.max())},
        "accuracy": accuracies(given.data, given.accuracy, given.model) if given.accuracy else [],
    }
    width = max(len(row["way"]) for row in table)
    print(
        f"{given.model}: prompt {len(case.prompt)} tokens, {report['tokens_per_text']} tokens a text, {threads} threads"
    )
    for row in table:
        print(f"{row['way']:{width}}  {row['texts_per_s']:8.1f} texts/s  {row['text_tokens_per_s']:7d} text tokens/s")
    print({key: report[key] for key in ("llama.cpp itself, tokens/s", "distance_from_float32")})
    for line in report["accuracy"]:
        print(line)
    if given.out:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
