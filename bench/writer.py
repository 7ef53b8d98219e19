"""How well a language model on this machine writes training texts, each means by itself, on BANKING77.

    nice python bench/writer.py [--data ../shared/data] [--model qwen-1.5b] [--texts 20] [--rounds 2] [--only recipe]

A student of 800 gold texts (MiniLM, frozen, logistic regression) gives each round's request, as in PGKD with five
folds: the labels it gets wrong the most, texts of them, its errors. Each cell writes the texts of the same requests in
another way, filters them as PGKD does, and is stored when it is done: the same command goes on with the first that is
missing. An arbiter, the same regression on all gold texts, says whether a text has the label it was written for; it is
not always right, so its accuracy on test texts and on real texts of the same labels stands beside. The cells that end
in "checked" write nothing: they are the texts of `recipe` that the model, or the student, gives their label again. Wall
times are those of a machine that did other work; processor seconds compare better. `--page` only writes the page.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from diversity import distinct_2, self_bleu
from sections import commit, table, write_section
from writer_cells import CELLS, CHECKS, RECIPE, Cell, Means

from potstill.data.task import Feedback, GenerationRequest, LabelledText, Task
from potstill.evaluation.cross_validation import fold_splits, random_folds
from potstill.evaluation.metrics import compute_metrics
from potstill.models.chat_template import ChatTemplate, find_chat_template
from potstill.models.weights import find_weights
from potstill.procedures.pgkd.filters import FilterResult, TextFilter
from potstill.procedures.pgkd.generation_request import PgkdOptions, TrainingTexts, make_generation_request
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.teachers.base import TeacherSetup
from potstill.teachers.generation_quotas import prompt_texts, split_by_label
from potstill.teachers.label_prompt import label_conversation, render_chat, text_grammar
from potstill.teachers.llamacpp import Completion, LlamaCpp, Sampling
from potstill.teachers.local import LocalTeacher, open_teacher

RESULTS = Path(__file__).parent / "results" / "writer.json"
N_GOLD, N_VALIDATION, FOLDS, SLOTS, MAX_TOKENS = 800, 200, 5, 4, 64


@dataclass(frozen=True)
class Judge:
    """The data, the student's requests and the arbiter."""

    task: Task
    gold: list[LabelledText]
    test: list[LabelledText]
    held_out: dict[str, list[str]]
    requests: list[GenerationRequest]
    embed: Callable[[Sequence[str]], Any]
    arbiter: Any
    student: Any
    accuracy: float

    def right(self, texts: Sequence[LabelledText]) -> list[bool]:
        """Whether the arbiter gives each text the label it was written for."""
        if not texts:
            return []
        labels = self.arbiter.predict(self.embed([each.text for each in texts]))
        return [self.task.labels[k] == each.label for k, each in zip(labels, texts, strict=True)]


def rows(file: Path, seed: int = 0) -> list[LabelledText]:
    """All rows of a file, shuffled."""
    read = pq.read_table(file).to_pydict()
    pairs = [LabelledText(text, label) for text, label in zip(read["text"], read["label"], strict=True)]
    return [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))]


def read(data: Path, n: int, rounds: int) -> Judge:
    """Train the student and the arbiter, and make the requests of the rounds."""
    from sklearn.linear_model import LogisticRegression

    folder = data / "banking77"
    train, validation, test = (rows(folder / f"{part}.parquet") for part in ("train", "validation", "test"))
    task = Task(tuple(sorted({row.label for row in train})))
    network = EncoderStudent(StudentConfig(task.labels, "minilm", options={"mode": "frozen", "c": 1.0}))
    few = train[:200]
    network.fit(TrainingData([row.text for row in few], np.eye(77, dtype=np.float32)[columns(task, few)]))

    def embed(texts: Sequence[str]) -> Any:
        return network.embed(list(texts))

    def regression(some: Sequence[LabelledText], vectors: Any) -> Any:
        return LogisticRegression(C=20.0, max_iter=300).fit(vectors, columns(task, some))

    gold, shown = train[:N_GOLD], validation[:N_VALIDATION]
    everything = [*train, *validation]
    vectors = embed([row.text for row in everything])
    arbiter, student = regression(everything, vectors), regression(gold, vectors[:N_GOLD])
    accuracy = float(arbiter.score(embed([row.text for row in test]), columns(task, test)))
    probs = np.zeros((N_GOLD, task.n_labels), dtype=np.float32)
    for fit, rest in fold_splits(random_folds(N_GOLD, FOLDS, 0)):
        fold = regression([gold[i] for i in fit], vectors[fit])
        probs[np.ix_(rest, fold.classes_)] = fold.predict_proba(vectors[rest])
    known = np.zeros((N_VALIDATION, task.n_labels))
    known[:, student.classes_] = student.predict_proba(vectors[len(train) : len(train) + N_VALIDATION])
    evaluation = compute_metrics(columns(task, shown), known, task.labels, n_resamples=1)
    texts = TrainingTexts(tuple(row.text for row in gold), columns(task, gold), N_GOLD)
    options = PgkdOptions(texts_per_round=n, cv_folds=FOLDS)
    requests = [
        make_generation_request(task, texts, probs, evaluation, options, (0, at)) for at in range(1, rounds + 1)
    ]
    held_out = {"validation": [row.text for row in shown], "test": [row.text for row in test]}
    return Judge(task, gold, test, held_out, requests, embed, arbiter, student, accuracy)


def columns(task: Task, some: Sequence[LabelledText]) -> Any:
    """(N,) label columns."""
    return np.array([task.index(row.label) for row in some])


def parts(judge: Judge, request: GenerationRequest, block: int) -> list[GenerationRequest]:
    """The request label by label, as a run splits it."""
    return split_by_label(request, judge.task.labels, judge.gold, np.random.default_rng(request.seed), block)


class Writer:
    """Writes by each means with one model, and counts tokens."""

    def __init__(self, model: str, task: Task) -> None:
        self.weights, self.task = find_weights(model), task
        self.template = ChatTemplate(find_chat_template(self.weights), {"bos_token": "", "eos_token": ""})
        self.prompt_tokens = self.written_tokens = 0

    def write(
        self, means: Means, request: GenerationRequest, pieces: Sequence[GenerationRequest]
    ) -> list[LabelledText]:
        """The texts of one round."""
        if means.whole:
            return self._whole(request)
        if means.in_torch:
            self._count([self._prompt(each, means) for each in pieces], [])
            texts = self._teacher.generate(replace(request, parts=tuple(pieces))).texts
            self._count([], [each.text for each in texts])
            return list(texts)
        llama, found = _loaded(self.weights.name, means.sampling), []
        for each in pieces:
            prompt = self._prompt(replace(each, examples=each.examples if means.shows_texts else ()), means)
            completion = Completion(MAX_TOKENS, request.seed, {"grammar": text_grammar(MAX_TOKENS)}, each.n)
            replies = llama.complete([prompt], completion)
            self._count([prompt], [reply.text for reply in replies])
            found += [LabelledText(reply.text.strip(), each.label) for reply in replies if not reply.is_cut]
        return found

    def load(self, means: Means) -> None:
        """Load the model, so that its time is not that of the texts."""
        _tokenizer(str(self.weights.path))
        if means.in_torch:
            self._teacher.max_generation_usage(GenerationRequest(self.task.labels[0], 1))
        else:
            llama = _loaded(self.weights.name, RECIPE if means.whole else means.sampling)
            llama.seconds_per_token(6500 if means.whole else 1000)

    @cached_property
    def _teacher(self) -> LocalTeacher:
        options = {"generation_runtime": "torch", "generation_max_tokens": MAX_TOKENS}
        return open_teacher(TeacherSetup(self.task, self.weights.name, (), options))

    def _prompt(self, each: GenerationRequest, means: Means) -> str:
        styled = replace(each, feedback=Feedback(style=means.style)) if means.style else each
        return render_chat(self.template, *label_conversation(self.task, styled, other_words=means.other_words))

    def _whole(self, request: GenerationRequest) -> list[LabelledText]:
        options = {"generation_prompt": "whole", "generation_max_tokens": MAX_TOKENS}
        teacher = open_teacher(TeacherSetup(self.task, self.weights.name, (), options))
        generator = teacher._generator
        generator._llama = _loaded(self.weights.name, RECIPE)
        texts = generator.generate(request).texts
        prompt, _ = generator._fitted(request)
        self._count(
            [generator._chat(prompt)], [f'{{"text": "{each.text}", "label": "{each.label}"}}' for each in texts]
        )
        return list(texts)

    def _count(self, prompts: Sequence[str], replies: Sequence[str]) -> None:
        tokenizer = _tokenizer(str(self.weights.path))
        self.prompt_tokens += sum(len(tokenizer.encode(each)) for each in prompts)
        self.written_tokens += sum(len(tokenizer.encode(each)) for each in replies)


@cache
def _loaded(model: str, sampling: Sampling) -> LlamaCpp:
    _loaded.cache_clear()  # one model in memory is enough
    return LlamaCpp(find_weights(model), sampling, SLOTS)


@cache
def _tokenizer(path: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(Path(path).parent), gguf_file=Path(path).name)


def measure(name: str, model: str, judge: Judge, writer: Writer) -> Cell:
    """Write and filter the texts of one cell."""
    means, writer.prompt_tokens, writer.written_tokens = CELLS[name], 0, 0
    writer.load(means)
    gate = TextFilter(judge.task.labels, [row.text for row in judge.gold], judge.held_out)
    written, results, seconds, cpu = 0, [], 0.0, 0.0
    for request in judge.requests:
        pieces = parts(judge, request, means.block)
        started, began = time.perf_counter(), time.process_time()
        texts = writer.write(means, request, pieces)
        seconds, cpu = seconds + time.perf_counter() - started, cpu + time.process_time() - began
        shown = prompt_texts(request) if means.whole else [text for each in pieces for text in prompt_texts(each)]
        results.append(gate(texts, shown))
        written += len(texts)
    return cell(name, model, judge, written, results, (seconds, cpu, writer.prompt_tokens, writer.written_tokens))


def cell(
    name: str,
    model: str,
    judge: Judge,
    written: int,
    results: Sequence[FilterResult],
    cost: tuple[float, float, int, int],
) -> Cell:
    """The record of a cell."""
    passed = [each for result in results for each in result.accepted]
    reasons = Counter(each.reason for result in results for each in result.rejected)
    words = [each.text for each in passed]
    seconds, cpu, prompt_tokens, written_tokens = cost
    return Cell(
        name=name,
        model=model,
        asked=sum(request.n for request in judge.requests),
        written=written,
        passed=len(passed),
        reasons=dict(reasons),
        right_share=float(np.mean(judge.right(passed))) if passed else 0.0,
        distinct2=distinct_2(words),
        self_bleu=self_bleu(words),
        seconds=round(seconds, 1),
        cpu_seconds=round(cpu, 1),
        prompt_tokens=prompt_tokens,
        written_tokens=written_tokens,
        texts=[[each.text, each.label] for each in passed],
        commit=commit(),
    )


def real(judge: Judge, like: Cell) -> Cell:
    """Test texts, as many of each label as `like` has, measured in the same way."""
    counts = Counter(label for _, label in like.texts)
    some = [row for label, n in counts.items() for row in [each for each in judge.test if each.label == label][:n]]
    return cell("real", "", judge, len(some), [FilterResult(tuple(some))], (0.0, 0.0, 0, 0))


def checked(name: str, model: str, judge: Judge, base: Cell) -> Cell:
    """The texts of `base` whose label is confirmed; the seconds are those of the check alone."""
    texts = [LabelledText(text, label) for text, label in base.texts]
    labels = columns(judge.task, texts)
    started, began = time.perf_counter(), time.process_time()
    if name == "student":
        probs = np.zeros((len(texts), judge.task.n_labels))
        probs[:, judge.student.classes_] = judge.student.predict_proba(judge.embed([each.text for each in texts]))
        agreed = probs[np.arange(len(texts)), labels] >= 1 / judge.task.n_labels
    else:
        teacher: LocalTeacher = open_teacher(TeacherSetup(judge.task, model, (), {}))
        sample = [row.text for row in judge.gold[:24]]
        scores = np.array([each.scores for each in teacher.answer([*sample, *(one.text for one in texts)]).answers])
        scores -= scores.mean(axis=0)  # its preference for some names, which is the same for all texts
        agreed = scores[len(sample) :].argmax(axis=1) == labels
    cost = (time.perf_counter() - started, time.process_time() - began, 0, 0)
    kept = FilterResult(tuple(each for each, yes in zip(texts, agreed, strict=True) if yes))
    return cell(f"{name} checked", model, judge, base.written, [kept], cost)


def load() -> dict[str, Any]:
    """The stored cells, and the arbiter's accuracy."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"arbiter_accuracy": 0.0, "cells": []}


def store(found: Cell, accuracy: float) -> None:
    """Add a cell."""
    stored = load()
    cells = [each for each in stored["cells"] if each["name"] != found.name] + [asdict(found)]
    RESULTS.write_text(json.dumps({"arbiter_accuracy": accuracy, "cells": cells}, indent=1) + "\n", encoding="utf-8")
    print(
        f"{found.name}: {found.passed} of {found.asked}, right {found.right_share:.2f}, {found.cpu_seconds} cpu s",
        flush=True,
    )


def page(stored: dict[str, Any]) -> str:
    """The table."""
    cells = {each["name"]: Cell(**each) for each in stored["cells"]}
    names = {"real": "real texts of the same labels", **{name: means.words for name, means in CELLS.items()}}
    names |= {f"{name} checked": words for name, words in CHECKS.items()}
    order = ["real", "name", "texts", "other words", "warm", "recipe", "torch", "model checked", "student checked"]
    shown = [cells[name] for name in dict.fromkeys([*order, *names]) if name in cells]
    head = ["how it writes", "passed", "rejected", "label right", "distinct-2", "self-BLEU", "CPU s a text",
            "s a text", "tokens read + written a text"]  # fmt: skip
    body = []
    for each in shown:
        n, is_real = max(each.passed, 1), each.name == "real"
        reasons = ", ".join(f"{count} {reason}" for reason, count in each.reasons.items()) or "-"
        cost = ["-"] * 3 if is_real else [
            f"{each.cpu_seconds / n:.1f}", f"{each.seconds / n:.1f}",
            f"{each.prompt_tokens / n:.0f} + {each.written_tokens / n:.0f}" if each.prompt_tokens else "-"]  # fmt: skip
        passed = str(each.passed) if is_real else f"{each.passed} of {each.asked} ({each.passed / each.asked:.0%})"
        body.append([names[each.name], passed, reasons, f"{each.right_share:.0%}",
                     f"{each.distinct2:.2f}", f"{each.self_bleu:.2f}", *cost])  # fmt: skip
    first = next(each for each in shown if each.name != "real")
    lines = [
        f"## Writing with {first.model}: each means by itself",
        "",
        f"`python bench/writer.py`, commits {', '.join(sorted({each.commit for each in shown}))}, one thread of two "
        f"cores that did other work. BANKING77, {first.asked} texts asked for in the requests of a student of {N_GOLD} "
        "gold texts: mostly labels that it gets wrong. Label right: of the passed texts, by an arbiter (MiniLM, "
        f"logistic regression on all gold) that is right on {stored['arbiter_accuracy']:.1%} of the test texts; "
        "standard error 6 to 8 points. The last three columns are for each text that passed; a check's seconds are its "
        "own, beside those of writing. Rows of other commits were measured at another time, beside other work.",
        "",
        table(head, body),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure the cells that are missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="qwen-1.5b")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[*CELLS, *CHECKS, "real"])
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page of what is stored")
    given = parser.parse_args()
    if not given.page:
        judge = read(given.data, given.texts, given.rounds)
        writer = Writer(given.model, judge.task)
        for name in CELLS:
            if name in given.only and name not in {each["name"] for each in load()["cells"]}:
                store(measure(name, given.model, judge, writer), judge.accuracy)
        base = next((Cell(**each) for each in load()["cells"] if each["name"] == "recipe"), None)
        for name in [*CHECKS, "real"] if base else []:
            stored = f"{name} checked" if name in CHECKS else name
            if name in given.only and stored not in {each["name"] for each in load()["cells"]}:
                store(checked(name, given.model, judge, base) if name in CHECKS else real(judge, base), judge.accuracy)
    write_section("writer", page(load()))


if __name__ == "__main__":
    main()
