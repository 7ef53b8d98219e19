"""Lines that PyTorch writes with the model that scores: a random model for what must be exact, SmolLM2 for sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadInput, BadSpec, TeacherError
from potstill.models.causal_lm import choose_dtype
from potstill.models.weights import find_weights
from potstill.teachers.base import TeacherSetup
from potstill.teachers.line_writing import LineJob
from potstill.teachers.llamacpp import Sampling
from potstill.teachers.local import LocalTeacher, open_teacher
from potstill.teachers.local_model import LocalModel
from potstill.teachers.torch_lines import TorchLines

MOODS = Task(("negative", "positive"))
SHOWN = (
    LabelledText("A dull and lifeless film.", "negative"),
    LabelledText("A warm, funny, wonderful film.", "positive"),
)
PARTS = tuple(GenerationRequest(label, 3, SHOWN, seed=4) for label in MOODS.labels)
BOTH = GenerationRequest("", 6, seed=4, parts=PARTS)
GREEDY, WARM = Sampling(0.0, 0.0, 0.0), Sampling(1.1, 0.8, 0.05)
CHAT = "{% for m in messages %}{{ m.content }}<|im_end|>\n{% endfor %}"


def lines_of(folder: Path, sampling: Sampling, slots: int = 4, template: str = "") -> TorchLines:
    model = LocalModel(find_weights(str(folder)), "float32", torch.device("cpu"), 1)
    return TorchLines(model, template, sampling, slots)


def job(prompt: str, n: int = 1, label: str = "a") -> LineJob:
    return LineJob(label, prompt, n, 0)


def writer(folder: Path, task: Task = MOODS, **options: Any) -> LocalTeacher:
    options = {"threads": 1, "dtype": "float32", "generation_runtime": "torch", "generation_max_tokens": 32, **options}
    return open_teacher(TeacherSetup(task, str(folder), SHOWN, options))


def greedy(lines: TorchLines, prompt: str, n: int) -> list[int]:
    """The most probable tokens by whole passes of the model, without a cache, under the rules of a line."""
    words, model, ids = lines._vocabulary, lines.engine.lm.model, lines._ids(prompt)
    written: list[int] = []
    stops = set(words.stops.tolist())
    for _ in range(n):
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *written]])).logits[0, -1].clone()
        logits[words.forbidden] = float("-inf")
        if not written:
            logits[words.not_first] = float("-inf")
        if int(words.lengths[written].sum()) < 8:
            logits[words.stops] = float("-inf")
        written.append(int(logits.argmax()))
        if written[-1] in stops:
            break
    return written


@pytest.mark.parametrize("template", ["", CHAT], ids=["list", "chat"])
def test_prompts_of_several_lengths_are_continued_as_each_is_by_itself(tiny_folder: Path, template: str) -> None:
    lines = lines_of(tiny_folder, GREEDY, template=template)
    prompts = ["news of the world:\n\n-", "the card\n-", "late fee late fee late fee money bank\n-"]
    ids = [lines._ids(prompt) for prompt in prompts]
    assert len({len(each) for each in ids}) == 3
    with lines._computing():
        rows = lines._generate(ids, [1, 2, 1], 12).tolist()
    for row, prompt in zip(rows, [prompts[0], prompts[1], prompts[1], prompts[2]], strict=True):
        expected = greedy(lines, prompt, 12)
        assert row[: len(expected)] == expected


def test_a_line_has_no_markup_no_break_and_at_least_some_characters(tiny_folder: Path) -> None:
    lines = lines_of(tiny_folder, replace(WARM, temperature=2.0, min_p=0.0), slots=32)
    written = [text for seed in range(4) for _, text in lines.lines([job("the card\n-", 32)], seed, 200)]
    assert len(set(written)) > 20
    assert not [text for text in written if set(text) & set("<>|\n\r")]
    assert not [text for text in written if text.startswith("-")]


def test_a_line_without_an_end_is_left_out(tiny_folder: Path) -> None:
    assert list(lines_of(tiny_folder, GREEDY).lines([job("the card\n-")], 1, 2)) == []


def test_labels_stay_with_their_lines_in_any_number_of_batches(smollm2: Path) -> None:
    few, many = (writer(smollm2, generation_slots=slots) for slots in (2, 16))
    for teacher in (few, many):
        texts = teacher.generate(BOTH).texts
        assert [each.label for each in texts] == sorted(each.label for each in texts)
        assert {each.label for each in texts} == set(MOODS.labels)
        assert 4 <= len(texts) <= 6


def test_texts_repeat_by_seed_and_leave_the_random_state_and_the_scores_as_they_were(smollm2: Path) -> None:
    teacher = writer(smollm2)
    bound = teacher.max_generation_usage(BOTH)
    before = teacher.answer(["so slow", "a joy"]).answers
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    draft = teacher.generate(BOTH)
    assert torch.equal(torch.rand(3), expected)
    assert 0 < draft.usage.seconds <= bound.seconds
    assert all(len(each.text) > 7 and "\n" not in each.text for each in draft.texts)
    assert teacher.answer(["so slow", "a joy"]).answers == before
    assert teacher.generate(BOTH).texts == draft.texts
    assert writer(smollm2).generate(BOTH).texts == draft.texts
    assert teacher.generate(replace(BOTH, seed=5)).texts != draft.texts


def test_loading_is_charged_once_whichever_call_comes_first(tiny_folder: Path) -> None:
    teacher = writer(tiny_folder)
    teacher.max_generation_usage(BOTH)
    unpaid = teacher.model.unpaid_s
    assert 0 < unpaid <= teacher.generate(BOTH).usage.seconds
    assert teacher.model.unpaid_s == 0
    fresh = writer(tiny_folder)
    assert fresh.generate(BOTH).usage.seconds > 0
    assert fresh.model.unpaid_s == 0


def test_llama_cpp_writes_where_it_is_asked_to_or_bfloat16_is_not_native(smollm2: Path, tiny_folder: Path) -> None:
    native = choose_dtype("auto", torch.device("cpu")) == "bfloat16"
    by_default = writer(smollm2, generation_runtime="auto", generation_prompt="label")
    assert (
        by_default.metadata.extra["writes_with"] == ("torch, 32 texts" if native else "llama.cpp, 4 texts") + " at once"
    )
    asked = writer(smollm2, generation_runtime="llama.cpp")
    assert asked.metadata.extra["writes_with"] == "llama.cpp, 4 texts at once"
    assert asked.generation_key != writer(smollm2).generation_key
    folder = writer(tiny_folder, generation_runtime="auto")
    assert folder.metadata.extra["writes_with"] == "torch, 32 texts at once"
    assert folder.capabilities.generates
    assert not writer(tiny_folder, generation_runtime="llama.cpp").capabilities.generates


def test_a_prompt_longer_than_the_model_reads_is_refused_before_anything_is_held(smollm2: Path) -> None:
    teacher = writer(smollm2, replace(MOODS, descriptions={"negative": "the mood of a text " * 2000}))
    for call in (teacher.max_generation_usage, teacher.generate):
        with pytest.raises(BadInput, match="reads 8192") as caught:
            call(PARTS[0])
        assert "generation_max_tokens" in caught.value.hint


def test_a_whole_request_needs_llama_cpp(smollm2: Path) -> None:
    with pytest.raises(BadSpec, match=r"llama\.cpp") as caught:
        writer(smollm2, generation_prompt="whole")
    assert "generation_runtime" in caught.value.hint


def test_too_little_memory_is_one_error_with_an_option_that_exists(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = writer(tiny_folder)
    teacher.max_generation_usage(BOTH)

    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("not enough memory: you tried to allocate 1 byte\nmore")

    monkeypatch.setattr(teacher.model.lm.model, "generate", fail)
    attention = teacher.model.lm.model.config._attn_implementation
    with pytest.raises(TeacherError, match="not enough memory") as caught:
        teacher.generate(BOTH)
    assert "generation_slots" in caught.value.hint
    assert teacher.model.lm.model.config._attn_implementation == attention


@pytest.mark.parametrize("counts", [(3, 3, 3), (4,), (1, 1, 1, 1, 1), (5, 1)])
def test_batches_keep_the_order_and_split_no_prompt(tiny_folder: Path, counts: Sequence[int]) -> None:
    jobs = [job("the card\n-", n, str(i)) for i, n in enumerate(counts)]
    batches = list(lines_of(tiny_folder, GREEDY)._batches(jobs))
    assert [each for batch in batches for each in batch] == jobs
    assert all(len(batch) == 1 or sum(each.n for each in batch) <= 4 for batch in batches)
