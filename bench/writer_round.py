"""One PGKD round with a language model on this machine as the writer, shown as it happened, in three ways.

    nice python bench/writer_round.py [--data ../shared/data] [--model qwen-1.5b] [--texts 12] [--only label]

`label`: `local`, label by label. `whole`: `local`, the whole request and a grammar for its JSON. `server`: the same
request through the teacher `openai`, from llama.cpp's own server on loopback, which speaks OpenAI's protocol. The
request is that of the first round of `writer.py`'s student. Stored per way: the messages, the reply, what passed the
filters and why the rest did not, how many the arbiter calls right, and the seconds. The page shows the beginnings.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sections import commit, table, write_section
from writer import Judge, read

from potstill.data.task import GenerationRequest, LabelledText
from potstill.models.weights import find_weights
from potstill.procedures.pgkd.filters import TextFilter
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.generation_prompts import GENERATION_PROMPT_TOKENS, fit_generation_prompt
from potstill.teachers.generation_quotas import prompt_texts, requests_for
from potstill.teachers.local import open_teacher
from potstill.teachers.openai import open_teacher as open_openai
from potstill.teachers.price_options import PriceOptions

RESULTS = Path(__file__).parent / "results" / "writer_round.json"
PROMPT_TOKENS = 6000
SHOWN_CHARACTERS, SHOWN_TEXTS = 1200, 8
WAYS = {
    "label": "`local`, label by label",
    "whole": '`local`, `generation_prompt = "whole"`',
    "server": "`openai` through llama.cpp's server",
}


@dataclass(frozen=True)
class Round:
    """One round: what was sent, what came back, and what passed."""

    way: str
    model: str
    asked: int
    calls: int
    prompt: str
    written: list[list[str]]
    accepted: list[list[str]]
    rejected: list[list[str]]
    n_right: int
    seconds: float
    cpu_seconds: float
    error: str = ""
    commit: str = ""


@contextmanager
def served(model: str) -> Iterator[tuple[str, str]]:
    """llama.cpp's server on loopback: its address and its key."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights(model).path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = PROMPT_TOKENS + 2500, 1, 0
    params.warmup, params.verbosity, params.ui = False, -1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    key = secrets.token_hex(16)
    params.api_keys = [key]
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1", key


@contextmanager
def opened(way: str, model: str, judge: Judge) -> Iterator[Teacher]:
    """The teacher of a way."""
    if way != "server":
        options = {"generation_prompt": way, "generation_max_tokens": 64, "threads": 1}
        yield open_teacher(TeacherSetup(judge.task, model, (), options))
        return
    import os

    with served(model) as (url, key):
        os.environ["WRITER_ROUND_API_KEY"] = key
        options = {"base_url": url, "key_env": "WRITER_ROUND_API_KEY", "generation_prompt_tokens": PROMPT_TOKENS,
                   "temperature": 1.1, "timeout_s": 3600}  # fmt: skip
        yield open_openai(TeacherSetup(judge.task, model, (), options, PriceOptions(usd_per_hour="0.10")))


def prompt_of(way: str, teacher: Any, judge: Judge, calls: Sequence[GenerationRequest]) -> str:
    """What the model reads, or its first prompt."""
    if way == "label":
        return str(teacher._generator._jobs(calls[0])[0].prompt)
    if way == "whole":
        return str(teacher._generator._chat(teacher._generator._fitted(calls[0])[0]))
    prompt = fit_generation_prompt(judge.task, calls[0], min(PROMPT_TOKENS, GENERATION_PROMPT_TOKENS))
    return "\n\n".join(f"{each['role']}: {each['content']}" for each in prompt.messages())


def run(way: str, model: str, judge: Judge, n: int) -> Round:
    """One round."""
    request = replace(judge.requests[0], n=n)
    with opened(way, model, judge) as teacher:
        calls = requests_for(teacher.capabilities, request, judge.task.labels, judge.gold)
        prompt = prompt_of(way, teacher, judge, calls)
        written: list[LabelledText] = []
        error = ""
        started, began = time.perf_counter(), time.process_time()
        try:
            for call in calls:
                teacher.max_generation_usage(call)
                written += teacher.generate(call).texts
        except Exception as failure:  # shown on the page, whatever it is
            error = f"{type(failure).__name__}: {failure}"
        seconds, cpu = time.perf_counter() - started, time.process_time() - began
    accepts = TextFilter(judge.task.labels, [row.text for row in judge.gold], judge.held_out)
    result = accepts(written, [text for call in calls for text in prompt_texts(call)])
    pairs = [[each.text, each.label] for each in result.accepted]
    return Round(way, model, n, len(calls), prompt, [[each.text, each.label] for each in written], pairs,
                 [[each.text, each.label, each.reason] for each in result.rejected], sum(judge.right(result.accepted)),
                 round(seconds, 1), round(cpu, 1), error, commit())  # fmt: skip


def load() -> list[Round]:
    """The stored rounds."""
    return [Round(**row) for row in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def page(found: Sequence[Round]) -> str:
    """The rounds as Markdown."""
    body = []
    for each in found:
        reasons: dict[str, int] = {}
        for *_, reason in each.rejected:
            reasons[reason] = reasons.get(reason, 0) + 1
        n = max(len(each.accepted), 1)
        body.append([
            WAYS[each.way], str(each.asked), str(each.calls), str(len(each.written)),
            f"{len(each.accepted)} ({len(each.accepted) / each.asked:.0%})",
            ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "-", str(each.n_right),
            f"{each.seconds:.0f}", f"{each.cpu_seconds:.0f} ({each.cpu_seconds / n:.1f} a text)",
        ])  # fmt: skip
    head = ["way", "asked", "calls", "written", "passed", "rejected", "right by the arbiter", "wall s", "CPU s"]
    lines = [
        f"## One PGKD round with {found[0].model} as the writer",
        "",
        f"`python bench/writer_round.py`, commits {', '.join(sorted({each.commit for each in found}))}; BANKING77, one "
        "thread of two cores that did other work; the seconds include loading the model.",
        "",
        table(head, body),
    ]
    for each in found:
        prompt = each.prompt[:SHOWN_CHARACTERS] + (" [...]" if len(each.prompt) > SHOWN_CHARACTERS else "")
        rejected = {(text, label): reason for text, label, reason in each.rejected}
        lines += ["", f"### {WAYS[each.way]}", "", f"The prompt ({len(each.prompt):,} characters):", "", "```text"]
        lines += [prompt.replace("```", "'''"), "```", "", "The first texts that it wrote:", ""]
        lines += [
            f"- [{label or 'no label'}] {' '.join(text.split())[:160]}"
            + (f" - *{rejected[text[:160], label]}*" if (text[:160], label) in rejected else "")
            for text, label in each.written[:SHOWN_TEXTS]
        ]
        lines += [f"It failed: {each.error}"] if each.error else []
    return "\n".join(lines)


def main() -> None:
    """Run the ways that are missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="qwen-1.5b")
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--only", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--page", action="store_true", help="run nothing, write the page of what is stored")
    given = parser.parse_args()
    missing = [] if given.page else [way for way in given.only if way not in {each.way for each in load()}]
    judge = read(given.data, given.texts, 1) if missing else None
    for way in missing:
        assert judge is not None
        done = run(way, given.model, judge, given.texts)
        print(
            f"{way}: {len(done.written)} written, {len(done.accepted)} passed, {done.seconds} s {done.error}",
            flush=True,
        )
        rows = [asdict(each) for each in [*load(), done]]
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    write_section("writer-round", page(sorted(load(), key=lambda each: list(WAYS).index(each.way))))


if __name__ == "__main__":
    main()
