"""How fast a language model scores labels on this machine: ours, beside what else one would use, and its matrix limits.

    python bench/local_speed.py --model qwen-1.5b --set sst2 --out bench/results/local_speed_sst2.json
    python bench/local_speed.py --model qwen-1.5b --set ag_news --texts 64 --rival-texts 8 --repeats 1

Every way scores the same texts with the same prompt (one gold example a class); ways are interleaved, the best of
`--repeats` counts, and loading is timed apart. Others score `--rival-texts` of the texts. In the same run the rates of
matrix products of the model's own shapes are measured in float32, bfloat16 and int8; a text token takes two operations
for each weight of the model's blocks, so `share` is what a way reaches of the best rate. `--accuracy` adds accuracy
with no and with one example a class. Prints a table, writes JSON with the commit and, under `bench/results`, a section
of RESULTS.md over all files `local_speed_*.json`; `--page` writes that alone. Asserts nothing. OpenVINO is timed where
it can be imported; it reads whole prompts and returns no label scores, so its figure is an upper limit for it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sections import RESULTS, commit, write_section

from potstill.data.task import LabelledText, Task
from potstill.evaluation.calibration import match_prior
from potstill.models import weights
from potstill.models.causal_lm import CausalLM, int8_is_native, load_causal_lm
from potstill.models.int8_layers import Int8Activations, Int8Linear
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
    table = pq.read_table(data / f"{part}.parquet").to_pydict()
    pairs = list(zip(table["text"], table["label"], strict=True))
    return [pairs[at] for at in np.random.default_rng(seed).permutation(len(pairs))[:n]]


def opened(data: Path, shots: int, options: dict[str, Any], model: str) -> LocalTeacher:
    pairs = rows(data, "train", 400)
    labels = sorted({label for _, label in pairs})
    shown = [LabelledText(text, label) for want in labels for text, label in [p for p in pairs if p[1] == want][:shots]]
    words = {label: WORDS[label] for label in labels if label in WORDS}
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


def cached(model: CausalLM, case: Case) -> None:
    """transformers with the prompt's keys and values computed once; texts one by one, as its cache grows with each."""
    import torch
    from transformers import DynamicCache

    model.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        cache = DynamicCache(config=model.model.config)
        model.model(input_ids=torch.tensor([case.prompt]), past_key_values=cache, logits_to_keep=1)
        for text in case.texts:
            model.model(input_ids=torch.tensor([text]), past_key_values=cache, logits_to_keep=1)
            cache.crop(-len(text))


def matrix_rates(config: Any, repeats: int = 5) -> dict[str, float]:
    """Number format -> 10^12 operations a second in the two products of the model's MLP, 768 tokens at a time."""
    import torch

    def rate(dtype: str, width: int, out: int) -> float:
        inputs, weight = torch.randn(768, width), torch.randn(out, width)
        if dtype == "int8":
            layer = Int8Linear(torch.nn.Linear(width, out, bias=False), Int8Activations())
            values = torch.randint(-127, 127, (768, width), dtype=torch.int8)
        else:
            inputs, weight = inputs.to(getattr(torch, dtype)), weight.to(getattr(torch, dtype))
        best = float("inf")
        for _ in range(repeats + 1):
            began = time.perf_counter()
            if dtype == "int8":
                layer.unscaled(values)
            else:
                torch.nn.functional.linear(inputs, weight)
            best = min(best, time.perf_counter() - began)
        return best

    width, inner = config.hidden_size, config.intermediate_size
    dtypes = ("float32", "bfloat16", *(("int8",) if int8_is_native() else ()))
    with torch.inference_mode():
        seconds = {dtype: rate(dtype, width, inner) + rate(dtype, inner, width) for dtype in dtypes}
    return {dtype: 4 * 768 * width * inner / each / 1e12 for dtype, each in seconds.items()}


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
        for text in case.texts:
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
                "texts_per_s": teacher.metadata.extra["texts_per_s"],
            }
        )
    return found


def ours(teacher: LocalTeacher, texts: list[str]) -> Callable[[], None]:
    def run() -> None:
        for start in range(0, len(texts), teacher.batch_size):
            teacher.answer(texts[start : start + teacher.batch_size])

    return run


def ways_of(given: argparse.Namespace, threads: int) -> tuple[Case, dict[str, tuple[Callable[[], Any], Case]], dict]:
    """The work, the ways to do it, and facts: the rates, what llama.cpp says of itself, seconds of loading."""
    texts = [text for text, _ in rows(given.data / given.set, "test", given.texts)]
    ways: dict[str, tuple[Callable[[], Any], Case]] = {}
    facts: dict[str, Any] = {"seconds_to_load": {}}
    for dtype in given.dtypes or (["int8", "bfloat16"] if int8_is_native() else ["bfloat16"]):
        teacher = opened(given.data / given.set, 1, {"threads": threads, "dtype": dtype}, given.model)
        began = time.perf_counter()
        teacher.max_usage(texts[:1])
        facts["seconds_to_load"][dtype] = round(time.perf_counter() - began, 1)
        scorer = teacher._scorers[0]
        case = Case(list(scorer.prompt), teacher._tokens.texts(texts), [label[0] for label in scorer.labels])
        ways[f"potstill ({dtype})"] = ours(teacher, texts), case
    part = Case(case.prompt, case.texts[: given.rival_texts], case.firsts)
    found = weights.find_weights(given.model)
    ordinary = load_causal_lm(found, "bfloat16")
    config = ordinary.model.config.get_text_config()
    head = config.vocab_size * config.hidden_size
    facts["block_weights"] = ordinary.n_params - head * (1 if config.tie_word_embeddings else 2)
    facts["rates"] = {name: round(rate, 2) for name, rate in matrix_rates(config).items()}
    ways["transformers, cached prompt (bfloat16)"] = (lambda: cached(ordinary, part)), part
    ways["transformers, whole prompts (bfloat16)"] = (lambda: plain(ordinary, part, 16)), part
    if given.float32:
        exact = load_causal_lm(found, "float32")
        ways["transformers, whole prompts (float32)"] = (lambda: plain(exact, part, 16)), part
    if found.kind == "gguf":
        server = llama_cpp(found.path, threads)
        facts["llama.cpp itself, tokens/s"] = {name: round(value) for name, value in llama_own(server).items()}
        ways["llama.cpp, cached prompt (as in the file)"] = (lambda: llama_scores(server, part, len(part.texts))), part
        pipeline = openvino(found.path, part)
        if pipeline is not None:
            ways["OpenVINO GenAI, whole prompts"] = pipeline, part
    return case, ways, facts


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask.add_argument("--set", default="ag_news", choices=["ag_news", "sst2"])
    ask.add_argument("--model", default="smollm2")
    ask.add_argument("--texts", type=int, default=256)
    ask.add_argument("--rival-texts", type=int, default=32)
    ask.add_argument("--dtypes", nargs="*", help="of ours; int8 and bfloat16 where the processor multiplies them")
    ask.add_argument("--float32", action="store_true", help="transformers in float32, too (4 bytes a weight)")
    ask.add_argument("--repeats", type=int, default=2)
    ask.add_argument("--threads", type=int, default=0, help="0: as many as are idle")
    ask.add_argument("--accuracy", type=int, default=0, metavar="N", help="also score N test texts for accuracy")
    ask.add_argument("--out", type=Path)
    ask.add_argument("--page", action="store_true", help="measure nothing, write the page of what is stored")
    given = ask.parse_args()
    if given.page:
        write_section("local-speed", section())
        return
    threads = given.threads or idle_cores()
    with torch_threads(threads):
        case, ways, facts = ways_of(given, threads)
        seconds = timed({name: way for name, (way, _) in ways.items()}, given.repeats)
    limit = max(facts["rates"].values()) * 1e12
    table = [
        {
            "way": name,
            "texts_per_s": round(len(used.texts) / seconds[name], 1),
            "text_tokens_per_s": round(used.tokens / seconds[name]),
            "share": round(2 * facts["block_weights"] * used.tokens / seconds[name] / limit, 2),
        }
        for name, (_, used) in ways.items()
    ]
    report = {
        "commit": commit(),
        "model": given.model,
        "set": given.set,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "threads": threads,
        "prompt_tokens": len(case.prompt),
        "tokens_per_text": round(case.tokens / len(case.texts), 1),
        **facts,
        "ways": table,
        "accuracy": accuracies(given.data / given.set, given.accuracy, given.model) if given.accuracy else [],
    }
    show(report)
    if given.out:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if given.out.parent.resolve() == RESULTS.with_name("results"):
            write_section("local-speed", section())


def section() -> str:
    """The section of RESULTS.md: a table for each stored file."""
    lines = [
        "## Label scoring with a language model, beside other runtimes",
        "",
        "`python bench/local_speed.py --model qwen-1.5b --set sst2 --out bench/results/local_speed_sst2.json`, and so",
        "for other sets. The prompt has one gold example a class. A text token takes two operations for each weight of",
        "the blocks; a share is that rate over the best matrix product's of the same run (they alternate, on a machine",
        "that others use, too). OpenVINO reads whole prompts and returns no label scores.",
    ]
    for path in sorted(RESULTS.with_name("results").glob("local_speed_*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        rates = ", ".join(f"{name} {rate}" for name, rate in found["rates"].items())
        lines += [
            "",
            f"{found['model']}, {found['set']}, {found['threads']} threads: prompt {found['prompt_tokens']} tokens,"
            f" {found['tokens_per_text']} tokens a text. Matrix products, 10^12 operations a second: {rates}."
            f" Commit {found['commit']}.",
            "",
            "| way | texts/s | text tokens/s | share of the best rate |",
            "|---|---|---|---|",
        ]
        for row in found["ways"]:
            lines.append(
                f"| {row['way']} | {row['texts_per_s']} | {row['text_tokens_per_s']} | {100 * row['share']:.0f} % |"
            )
    return "\n".join(lines)


def show(report: dict[str, Any]) -> None:
    width = max(len(row["way"]) for row in report["ways"])
    tokens, threads = report["tokens_per_text"], report["threads"]
    print(f"{report['model']}: prompt {report['prompt_tokens']} tokens, {tokens} tokens a text, {threads} threads")
    print(f"matrix products, 10^12 operations/s: {report['rates']}; seconds to load: {report['seconds_to_load']}")
    for row in report["ways"]:
        speed = f"{row['texts_per_s']:8.1f} texts/s  {row['text_tokens_per_s']:7d} text tokens/s"
        print(f"{row['way']:{width}}  {speed}  {100 * row['share']:4.0f} % of the best rate")
    print({key: value for key, value in report.items() if key.startswith("llama.cpp")})
    for line in report["accuracy"]:
        print(line)


if __name__ == "__main__":
    main()
