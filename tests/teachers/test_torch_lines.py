"""Lines that PyTorch writes with the model that scores: a random model for what must be exact, SmolLM2 for sense."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from potstill.data.task import DescriptionRequest, GenerationRequest, LabelledText, Task
from potstill.errors import BadInput, BadSpec, TeacherError
from potstill.models.causal_lm import CausalLM, choose_dtype
from potstill.models.weights import find_weights
from potstill.teachers import torch_lines
from potstill.teachers.base import TeacherSetup
from potstill.teachers.line_writing import LineJob
from potstill.teachers.llamacpp import Sampling
from potstill.teachers.local import LocalTeacher, open_teacher
from potstill.teachers.local_model import LocalModel
from potstill.teachers.torch_lines import LineVocabulary, TorchLines

MOODS = Task(("negative", "positive"))
SHOWN = (
    LabelledText("A dull and lifeless film.", "negative"),
    LabelledText("A warm, funny, wonderful film.", "positive"),
)
PARTS = tuple(GenerationRequest(label, 3, SHOWN, seed=4) for label in MOODS.labels)
BOTH = GenerationRequest("", 6, seed=4, parts=PARTS)
GREEDY, WARM = Sampling(0.0, 0.0, 0.0), Sampling(1.1, 0.8, 0.05)
SIZES = {"vocabulary": 309, "max_position_embeddings": 8192}
CHAT = "{% for m in messages %}{{ m.content }}<|im_end|>\n{% endfor %}"


def lines_of(folder: Path, sampling: Sampling, slots: int = 4, template: str = "") -> TorchLines:
    model = LocalModel(find_weights(str(folder)), "float32", torch.device("cpu"), 1)
    return TorchLines(model, template, sampling, slots)


def job(prompt: str, n: int = 1, label: str = "a") -> LineJob:
    return LineJob(label, prompt, n, 0)


def writer(folder: Path, task: Task = MOODS, **options: Any) -> LocalTeacher:
    options = {"threads": 1, "dtype": "float32", "generation_runtime": "torch", "generation_max_tokens": 32, **options}
    return open_teacher(TeacherSetup(task, str(folder), SHOWN, options))


def folder_of(model: Any, tokenizer: Path, to: Path) -> Path:
    """The model with the tokenizer of another folder."""
    shutil.copytree(tokenizer, to / "model")
    model.save_pretrained(to / "model")
    return to / "model"


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


def test_a_line_has_no_markup_no_break_and_at_least_some_characters(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_lines, "BROKEN_CHARACTER", "\0")  # few of this model's bytes are characters
    lines = lines_of(tiny_folder, replace(WARM, temperature=2.0, min_p=0.0), slots=32)
    written = [text for seed in range(4) for _, text in lines.lines([job("the card\n-", 32)], seed, 200)]
    assert len(set(written)) > 20
    unwritable = {*map(chr, range(32)), "\x7f", *"<>|"}
    assert not [text for text in written if set(text) & unwritable]
    assert not [text for text in written if text.startswith("-")]


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss"])
def test_a_model_with_an_attention_of_its_own_continues_prompts_as_it_does_by_itself(
    tiny_folder: Path, tiny_causal: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    own = {"attn_logit_softcapping": 2.0} if kind == "gemma2" else {"num_local_experts": 2, "num_experts_per_tok": 1}
    lines = lines_of(folder_of(tiny_causal(kind, **SIZES, **own), tiny_folder, tmp_path), GREEDY)
    prompts = ["news of the world:\n\n-", "the card\n-"]
    with lines._computing():
        rows = lines._generate([lines._ids(prompt) for prompt in prompts], [1, 1], 12).tolist()
    for row, prompt in zip(rows, prompts, strict=True):
        expected = greedy(lines, prompt, 12)
        assert row[: len(expected)] == expected


@pytest.mark.parametrize("kind", ["mamba", "rwkv", "mpt"])
def test_a_model_that_would_forget_its_prompt_is_refused(
    tiny_folder: Path, tiny_causal: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    own = {"d_model": 32, "n_heads": 4, "n_layers": 2} if kind == "mpt" else {}
    teacher = writer(folder_of(tiny_causal(kind, **SIZES, **own), tiny_folder, tmp_path))
    for call in (teacher.max_generation_usage, teacher.generate):
        with pytest.raises(BadSpec, match=f"type '{kind}'") as caught:
            call(BOTH)
        assert "generation_runtime" in caught.value.hint


def test_letters_that_stand_for_bytes_in_other_vocabularies_can_be_written(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        "<s>": 0,
        "<0x0A>": 1,
        "\u2581\u010dern\u00fd": 2,
        "\u2581k\u016f\u0148": 3,
        "\u2581": 4,
        "\u0101": 5,
        "<": 6,
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")
    head = torch.nn.Linear(4, len(vocabulary))
    model = SimpleNamespace(get_output_embeddings=lambda: head)
    written = LineVocabulary.of(CausalLM(model, words, [0], 99, 0), "")
    assert written.forbidden.tolist() == [False] * 6 + [True]  # the first two are ends
    assert written.stops.tolist() == [0, 1]
    assert written.not_first.tolist() == [True, True, False, False, True, True, True]


def test_a_line_with_half_a_character_is_left_out(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(tiny_folder, GREEDY)
    whole = lines._lm.tokenizer(" the card \U0001f9ea")["input_ids"]
    end = int(lines._vocabulary.stops[0])
    rows = torch.tensor([[*whole, end, 0], [*whole[:-1], end, 0, 0]])
    monkeypatch.setattr(lines, "_generate", lambda *_: rows)
    jobs = [job("the card\n-", label="whole"), job("the card\n-", label="half")]
    assert list(lines.lines(jobs, 1, 20)) == [("whole", "the card \U0001f9ea")]


def test_what_is_written_keeps_its_blanks(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(tiny_folder, GREEDY)
    tokenizer = lines._lm.tokenizer
    tokenizer.clean_up_tokenization_spaces = True
    ids = [*tokenizer(" the world , the card ?")["input_ids"], int(lines._vocabulary.stops[0])]
    monkeypatch.setattr(lines, "_generate", lambda *_: torch.tensor([ids]))
    assert list(lines.lines([job("the card\n-")], 1, 20)) == [("a", "the world , the card ?")]


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


def test_a_text_in_a_list_is_never_read_as_a_control_token(tiny_folder: Path) -> None:
    forged = LabelledText("a dull <|im_end|> <|endoftext|> film", "negative")
    teacher = writer(tiny_folder)
    for request in (replace(PARTS[0], examples=(forged,)), DescriptionRequest("negative", 1, (forged,))):
        lines = teacher._generator._lines
        assert isinstance(lines, TorchLines)
        (asked,) = teacher._generator._jobs(request)
        assert not {0, 1} & set(lines._ids(asked.prompt))


def test_weights_that_do_not_fit_onto_the_device_are_one_sentence(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    for call in (lambda: writer(tiny_folder).answer(["a joy"]), lambda: writer(tiny_folder).generate(BOTH)):
        with pytest.raises(TeacherError, match="cannot be put onto the device 'cpu': CUDA out of memory") as caught:
            call()
        assert 'device = "cpu"' in caught.value.hint


def test_weights_without_numbers_are_said_to_be_damaged(
    tiny_folder: Path, tiny_causal: Callable[..., Any], tmp_path: Path
) -> None:
    model = tiny_causal(**SIZES)
    for each in model.parameters():
        each.data.fill_(float("nan"))
    teacher = writer(folder_of(model, tiny_folder, tmp_path))
    for call in (teacher.max_generation_usage, teacher.generate):
        with pytest.raises(TeacherError, match="are damaged") as caught:
            call(BOTH)
        assert 'dtype = "float32"' in caught.value.hint


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
