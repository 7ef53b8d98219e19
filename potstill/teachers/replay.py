"""A teacher that replays a labelled file with a given accuracy, price, latency and failure rate.

It is a simulation (`simulated`): its answers come from known labels, and every figure made with it rests on
assumptions. For tests, benchmarks and planning it behaves like a real teacher: its errors are plausible, its confidence
is low where it is likely to be wrong, and it is calibrated: of its answers with confidence c a share c is right.
Does not simulate rate limits or drift.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.label_sets import Separator
from potstill.data.task import Answer, GenerationRequest, Task, content_key
from potstill.errors import BadSpec, TeacherError, UnknownPrice
from potstill.ledger.prices import Category, Price, Usage
from potstill.registry import read_options
from potstill.teachers.base import (
    GeneratedTexts,
    Reply,
    Teacher,
    TeacherCapabilities,
    TeacherKind,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.entity_prompt import encode_named
from potstill.teachers.label_centroids import LabelCentroids
from potstill.teachers.labelled_file import (
    READING_OPTIONS,
    LabelledFileOptions,
    normalize_whitespace,
    read_gold_label_sets,
    read_gold_labels,
)
from potstill.teachers.price_options import parse_rates
from potstill.teachers.replay_entities import (
    EntityReplayTeacher,
    FormReplaySettings,
    MarkedText,
    read_gold_entities,
)
from potstill.teachers.replay_form_generation import FormReplaySource
from potstill.teachers.replay_free_text import FreeTextReplayTeacher, read_gold_answers
from potstill.teachers.replay_generation import ReplayGenerator, ServedTexts, WritingOptions, count_tokens, text_seed
from potstill.teachers.replay_label_sets import Truth, replay_label_set
from potstill.teachers.written_answers import encode_written_answer

Floats = NDArray[np.float64]
MIN_PROBABILITY = 1e-6
REPLAY_CAPABILITIES = TeacherCapabilities(
    generates=True,
    describes_labels=True,
    reads_feedback=True,
    task_kinds=frozenset({"single", "pair", "multi", "text2text"}),
    output_forms=frozenset({"entities", "free"}),
)
SERVED_FILE = "replay_served.json"  # in the folder of a run


class ReplayOptions(LabelledFileOptions):
    """Options of `replay`, beside those of its file.

    Attributes:
        file: a table with the texts and their true labels, or several; with the test texts, if it is to be evaluated.
        accuracy: the expected share of correct answers; for label sets, of completely correct sets.
        label_separator: separates the labels of a cell in a multi-label task; None to guess.
        confusion: "near" gives a wrong answer the label of similar texts, "uniform" any label.
        softness: 0: confidence is 1 if right and chance level if wrong; 1: the same confidence for all answers. The
            variance of the confidence is (1 - softness) times the largest possible.
        failure_rate: the share of texts that get no answer.
        latency_ms: duration of a call.
        usd_per_label: price of one label; the teacher then simulates a human.
        usd_per_million_tokens: price of a million tokens, prompt or answer; the teacher then simulates an LLM.
        prompt_tokens: tokens of a prompt beside its text.
        generate_from: a table of real texts that `generate` returns as if it generated them, each once in a run; one
            of a label also stands for its description.
        generation_accuracy: the share of texts generated from feedback whose label is right; None takes `accuracy`.
        batch_size: texts in one call.
        parallel: calls in flight.
    """

    file: str | tuple[str, ...]
    label_separator: Separator | None = None
    accuracy: float = Field(default=0.9, gt=0, le=1)
    confusion: Literal["near", "uniform"] = "near"
    softness: float = Field(default=0.5, ge=0, le=1)
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    latency_ms: float = Field(default=0.0, ge=0)
    usd_per_label: float | None = Field(default=None, ge=0)
    usd_per_million_tokens: float | None = Field(default=None, ge=0)
    prompt_tokens: int = Field(default=200, ge=0)
    generate_from: str = ""
    generation_accuracy: float | None = Field(default=None, gt=0, le=1)
    batch_size: int = Field(default=32, ge=1)
    parallel: int = Field(default=8, ge=1)


def open_teacher(setup: TeacherSetup) -> ReplayTeacher:
    """`replay` with `file = "..."`, in a task of labels.

    Raises:
        BadSpec: an invalid option, or an accuracy below chance.
        BadData: the file cannot be used, or has a label the task does not.
        UnknownPrice: neither `usd_per_label` nor `usd_per_million_tokens`.
    """
    options = read_options(ReplayOptions, "teacher 'replay'", setup.options)
    if options.accuracy < 1 / setup.task.n_labels:
        raise BadSpec(
            f"An accuracy of {options.accuracy} is below chance for {setup.task.n_labels} labels.", "Give a higher one."
        )
    gold: dict[str, Truth] = {}
    said: list[str] = []
    for file in _files(options.file):
        gold = _read_gold(setup.workspace / file, options, setup.task, said) | gold
    teacher = ReplayTeacher(setup, options, gold)
    if said:
        teacher.metadata = replace(teacher.metadata, extra={**teacher.metadata.extra, "labels": " ".join(said)})
    return teacher


def open_form_teacher(setup: TeacherSetup) -> EntityReplayTeacher | FreeTextReplayTeacher:
    """`replay` with a marked or answered file, in a text-to-text task. Raises what `open_teacher` raises."""
    options = read_options(ReplayOptions, "teacher 'replay'", setup.options)
    files = _files(options.file)
    settings = FormReplaySettings(
        accuracy=options.accuracy,
        failure_rate=options.failure_rate,
        latency_ms=options.latency_ms,
        prompt_tokens=options.prompt_tokens,
        is_human=options.usd_per_label is not None,
        batch_size=options.batch_size,
        parallel=options.parallel,
        source=_form_source(setup, options) if options.generate_from else None,
    )
    price, named = _price(options), ", ".join(Path(file).name for file in files)
    if setup.task.form == "free":
        answers: dict[str, str] = {}
        for file in files:
            answers = read_gold_answers(setup.workspace / file, options) | answers
        return FreeTextReplayTeacher(setup, settings, answers, price, named)
    gold: dict[str, MarkedText] = {}
    for file in files:
        gold = read_gold_entities(setup.workspace / file, options, setup.task) | gold
    return EntityReplayTeacher(setup, settings, gold, price, named)


def _form_source(setup: TeacherSetup, options: ReplayOptions) -> FormReplaySource:
    """The texts with their answers that are written from."""
    path = setup.workspace / options.generate_from

    def read() -> dict[str, str]:
        if setup.task.form == "free":
            return {text: encode_written_answer(own) for text, own in read_gold_answers(path, options).items()}
        marked = read_gold_entities(path, options, setup.task).values()
        return {each.text: encode_named(each.named(each.text)) for each in marked}

    accuracy = options.generation_accuracy or options.accuracy
    return FormReplaySource(options.generate_from, accuracy, read, _served(setup))


def _served(setup: TeacherSetup) -> ServedTexts:
    return ServedTexts(setup.run_folder and setup.run_folder / SERVED_FILE)


class ReplayTeacher:
    """Replays labels; see `ReplayOptions`. Equal texts get equal answers: the random seed is made of text and seed.

    Args:
        setup: task and seed.
        options: the options, checked.
        gold_columns: text (white space collapsed) -> true column, or columns.
    """

    simulated = True
    needs_prior_correction = False
    greenlet_safe = False

    def __init__(self, setup: TeacherSetup, options: ReplayOptions, gold_columns: Mapping[str, Truth]) -> None:
        self.name = "replay" + (f":{setup.model}" if setup.model else "")
        self.batch_size, self.parallel = options.batch_size, options.parallel
        self._task, self._options, self._gold, self._seed = setup.task, options, gold_columns, setup.seed
        self._workspace = setup.workspace
        self.price: Price = _price(options)
        self._human = options.usd_per_label is not None
        self.category: Category = "human" if self._human else "llm"
        writes = bool(options.generate_from)
        self.capabilities = replace(REPLAY_CAPABILITIES, generates=writes, describes_labels=writes)
        unset = {name for name in ("generate_from", "generation_accuracy") if not getattr(options, name)}
        key_options = options.model_dump(
            exclude={
                "file",
                "latency_ms",
                "batch_size",
                "parallel",
                "text_b",
                "label_separator",
                *READING_OPTIONS,
                *unset,
            }
        )
        examples = [(example.text, example.label) for example in setup.examples]
        self.key = content_key("replay", setup.task.key, _digest(gold_columns), key_options, examples, setup.seed)
        self.generation_key = content_key(self.key, "each text once")
        self._generator = ReplayGenerator(
            task=setup.task,
            options=WritingOptions(
                accuracy=options.generation_accuracy or options.accuracy,
                prompt_tokens=options.prompt_tokens,
                is_human=self._human,
                seed=setup.seed,
            ),
            read_pool=self._read_generation_pool,
            shares=self._shares,
            centroids=lambda: self._centroids,
            served=_served(setup),
        )
        self.metadata = TeacherMetadata(
            price=self.price.source,
            simulation="replays known labels; accuracy, price and pace are assumptions",
            extra={
                "file": ", ".join(Path(file).name for file in _files(options.file)),
                "accuracy": options.accuracy,
                "confusion": options.confusion,
                "softness": options.softness,
            },
        )

    @cached_property
    def _centroids(self) -> LabelCentroids:
        first = {
            text: truth if isinstance(truth, int) else truth[0] for text, truth in self._gold.items() if truth != ()
        }
        return LabelCentroids.fit(first, self._task)

    # --- answering ---------------------------------------------------------------------------------------------

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """The exact usage of `answer(texts)`."""
        if self._human:
            return Usage(labels=len(texts))
        input_tokens = sum(self._options.prompt_tokens + count_tokens(text) for text in texts)
        return Usage(input_tokens=input_tokens, output_tokens=len(texts))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """The exact usage of `answer(texts)`."""
        return UsageEstimate(self.max_usage(texts), self.max_usage(texts))

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text; a text that is not in the file is unparsable. Failures are charged, too."""
        time.sleep(self._options.latency_ms / 1000)
        answers = tuple(self._answer_one(text, shares) for text, shares in zip(texts, self._shares(texts), strict=True))
        return Reply(answers, self.max_usage(texts))

    def _shares(self, texts: Sequence[str]) -> Floats:
        """(N, K) distribution of wrong answers over the labels."""
        if self._options.confusion == "uniform" or not len(texts):
            return np.full((len(texts), self._task.n_labels), 1 / self._task.n_labels)
        return self._centroids.label_probabilities(texts)

    def _answer_one(self, text: str, shares: Floats) -> Answer:
        truth = self._gold.get(normalize_whitespace(text))
        if truth is None:
            return Answer("unparsable", raw="not in the replayed file")
        rng = np.random.default_rng(text_seed(self._seed, text))
        failed = rng.random() < self._options.failure_rate
        confidence = self._confidence(rng)
        if not isinstance(truth, int):
            answer = replay_label_set(truth, confidence, shares, rng)
            return Answer("failed", raw="simulated failure") if failed else answer
        column = truth
        if rng.random() >= confidence:
            others = shares.copy()
            others[truth] = 0.0
            column = int(rng.choice(len(others), p=others / others.sum()))
        if failed:
            return Answer("failed", raw="simulated failure")
        return Answer("ok", _scores(column, confidence, shares), "stated", self._task.labels[column])

    def _confidence(self, rng: np.random.Generator) -> float:
        """A sample in [1/K, 1] with mean `accuracy`; the answer is right with this probability, so it is calibrated."""
        chance = 1 / self._task.n_labels
        mean = (self._options.accuracy - chance) / (1 - chance)
        softness = self._options.softness
        if softness == 1 or not 0 < mean < 1:
            share = mean
        elif softness == 0:
            share = float(rng.random() < mean)
        else:
            weight = softness / (1 - softness)
            share = float(rng.beta(mean * weight, (1 - mean) * weight))
        return chance + (1 - chance) * share

    # --- generating, see `ReplayGenerator` ----------------------------------------------------------------------

    def _read_generation_pool(self) -> dict[str, Truth]:
        if not self._options.generate_from:
            raise TeacherError(
                "This replay teacher has nothing to write from.", "Set generate_from to a labelled file."
            )
        return _read_gold(self._workspace / self._options.generate_from, self._options, self._task, [])

    def max_generation_usage(self, request: GenerationRequest) -> Usage:
        """An upper bound of `generate(request)`."""
        return self._generator.max_usage(request)

    def estimate_generation_usage(self, request: GenerationRequest) -> UsageEstimate:
        """The upper bound: texts differ in length."""
        return UsageEstimate(self.max_generation_usage(request), self.max_generation_usage(request))

    def generate(self, request: GenerationRequest) -> GeneratedTexts:
        """Real texts of `generate_from`, none of them for two requests."""
        return self._generator.generate(request)


def _scores(column: int, confidence: float, shares: Floats) -> tuple[float, ...]:
    """(K,) log-probabilities: `confidence` for the answer, the rest by `shares`, none above the answer."""
    others = np.where(np.arange(len(shares)) == column, 0.0, shares)
    others /= others.sum()
    rest = 1 - confidence
    even = 1 / (len(shares) - 1)
    if rest * others.max() > 0.98 * confidence:
        keep = max(0.0, 0.98 * confidence / rest - even) / max(others.max() - even, 1e-12)
        others = np.where(others > 0, keep * others + (1 - keep) * even, 0.0)
        others /= others.sum()
    probabilities = rest * others
    probabilities[column] = confidence
    probabilities = np.maximum(probabilities, MIN_PROBABILITY)
    return tuple(float(value) for value in np.log(probabilities / probabilities.sum()))


def _files(file: str | tuple[str, ...]) -> tuple[str, ...]:
    return (file,) if isinstance(file, str) else file


def _read_gold(path: Path, options: ReplayOptions, task: Task, said: list[str]) -> dict[str, Truth]:
    """The labels by text; what was changed and left out while reading them is added to `said`."""
    if task.kind == "multi":
        sets = read_gold_label_sets(path, options, task, options.label_separator)
        said += sets.sentences
        return dict(sets.columns)
    gold = read_gold_labels(path, options, task)
    said += gold.sentences
    return dict(gold.columns)


def _price(options: ReplayOptions) -> Price:
    source = "assumed for the simulation"
    if options.usd_per_label is not None:
        return parse_rates({"usd_per_label": options.usd_per_label}, source)
    if options.usd_per_million_tokens is not None:
        rate = options.usd_per_million_tokens
        return parse_rates({"usd_per_million_input": rate, "usd_per_million_output": rate}, source)
    raise UnknownPrice(
        "The replay teacher has no price.", "Set usd_per_label or usd_per_million_tokens under [teacher]; 0 is a price."
    )


def _digest(gold_columns: Mapping[str, Truth]) -> str:
    return hashlib.sha256(json.dumps(sorted(gold_columns.items())).encode()).hexdigest()


def open_by_task(setup: TeacherSetup) -> Teacher:
    """`replay` for the setup's task."""
    return open_teacher(setup) if setup.task.form is None else open_form_teacher(setup)


KIND = TeacherKind(open_by_task, REPLAY_CAPABILITIES, ReplayOptions)
