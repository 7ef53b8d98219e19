"""Texts that llama.cpp writes in this process: SmolLM2 (where fetched), and every way in which it cannot write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from potstill.data.task import Feedback, GenerationRequest, LabelledText, StudentPrediction, Task
from potstill.errors import BadInput, BadSpec, MissingExtra, TeacherError
from potstill.models.weights import find_weights
from potstill.teachers import llamacpp
from potstill.teachers.base import TeacherSetup
from potstill.teachers.llamacpp import Completed, Completion, LlamaCpp, Sampling
from potstill.teachers.local import LocalTeacher, open_teacher

MOODS = Task(("negative", "positive"))
SHOWN = (
    LabelledText("A dull and lifeless film.", "negative"),
    LabelledText("A warm, funny, wonderful film.", "positive"),
)
PARTS = tuple(GenerationRequest(label, 2, SHOWN, seed=4) for label in MOODS.labels)
BOTH = GenerationRequest("", 4, seed=4, parts=PARTS)
WHOLE = GenerationRequest(
    "", 2, SHOWN, feedback=Feedback(incorrect=(StudentPrediction("So slow.", "negative", "positive", 0.8),))
)
TEMPLATE_KEY = b"tokenizer.chat_template"


def writer(weights: Path, task: Task = MOODS, **options: Any) -> LocalTeacher:
    options = {"threads": 1, "generation_max_tokens": 32, "generation_runtime": "llama.cpp", **options}
    return open_teacher(TeacherSetup(task, str(weights), SHOWN, options))


def edited(smollm2: Path, tmp_path: Path, old: bytes, new: bytes) -> Path:
    """A copy of the file in which `old`, all occurrences, is `new` of the same length."""
    file = smollm2 if smollm2.is_file() else next(smollm2.glob("*.gguf"))
    content = file.read_bytes()
    assert old in content
    assert len(old) == len(new)
    copy = tmp_path / "edited.gguf"
    copy.write_bytes(content.replace(old, new))
    return copy


def test_texts_of_several_labels_are_written_at_once_and_repeat_by_seed(smollm2: Path) -> None:
    smol = writer(smollm2)
    bound = smol.max_generation_usage(BOTH)
    draft = smol.generate(BOTH)
    assert {each.label for each in draft.texts} == set(MOODS.labels)
    assert 2 <= len(draft.texts) <= 4
    assert all(len(each.text) > 7 and "\n" not in each.text for each in draft.texts)
    assert 0 < draft.usage.seconds <= bound.seconds
    assert smol.generate(BOTH).texts == draft.texts
    assert writer(smollm2).generate(BOTH).texts == draft.texts
    assert smol.generate(replace(BOTH, seed=5)).texts != draft.texts


def test_a_whole_request_is_read_and_answered_in_json_with_labels_of_the_task(smollm2: Path) -> None:
    smol = writer(smollm2, generation_prompt="whole", generation_slots=2, generation_max_tokens=16)
    assert smol.capabilities.reads_feedback
    draft = smol.generate(WHOLE)
    assert len(draft.texts) == 2
    assert all(each.text and each.label in ("", *MOODS.labels) for each in draft.texts)
    assert any(each.label for each in draft.texts)
    assert smol.generate(WHOLE).texts == draft.texts


def test_a_model_without_a_chat_template_continues_a_list_and_reads_no_whole_request(
    smollm2: Path, tmp_path: Path
) -> None:
    base = edited(smollm2, tmp_path, TEMPLATE_KEY, b"tokenizer.some_template")
    assert writer(base).generate(PARTS[0]).texts
    with pytest.raises(BadSpec, match="no chat template") as caught:
        writer(base, generation_prompt="whole")
    assert 'generation_prompt = "label"' in caught.value.hint


def test_a_prompt_that_needs_more_tokens_than_estimated_gets_a_larger_context(smollm2: Path) -> None:
    llama = LlamaCpp(find_weights(str(smollm2)), Sampling(0.0, 0.0, 0.05), 1)
    (reply,) = llama.complete(["\U00012000\u16a0\U00010900" * 100], Completion(4, 1))  # four bytes, four tokens each
    assert reply.is_cut


@pytest.mark.parametrize(
    ("options", "request_", "says"),
    [
        ({}, PARTS[0], "reads 8192"),
        (
            {"generation_prompt": "whole", "generation_max_tokens": 2048, "generation_slots": 1},
            replace(WHOLE, n=4),
            "no room",
        ),
    ],
)
def test_a_context_that_is_too_small_is_refused_with_a_mend_before_anything_is_held(
    smollm2: Path, options: dict[str, Any], request_: GenerationRequest, says: str
) -> None:
    smol = writer(smollm2, replace(MOODS, descriptions={"negative": "the mood of a text " * 2000}), **options)
    for call in (smol.max_generation_usage, smol.generate):
        with pytest.raises(BadInput, match=says) as caught:
            call(request_)
        assert "generation_max_tokens" in caught.value.hint


def test_labels_that_do_not_fit_into_the_prompt_are_refused_with_an_option_that_exists(smollm2: Path) -> None:
    task = Task(tuple(f"a label with a long name, number {n}" for n in range(300)))
    smol = writer(smollm2, task, generation_prompt="whole", generation_prompt_tokens=1000)
    with pytest.raises(BadSpec, match="too many") as caught:
        smol.max_generation_usage(WHOLE)
    assert "generation_prompt_tokens" in caught.value.hint


def test_a_grammar_that_cannot_be_read_is_one_error_and_the_next_call_works(smollm2: Path) -> None:
    llama = LlamaCpp(find_weights(str(smollm2)), Sampling(1.0, 0.0, 0.05), 1, threads=1)
    with pytest.raises(TeacherError, match="refused to write") as caught:
        llama.complete(["Hello"], Completion(4, 1, {"grammar": "root ::= ["}))
    assert caught.value.hint
    assert llama.complete(["Hello"], Completion(4, 1))[0].text


def test_a_reply_that_is_no_json_comes_back_as_one_text_without_a_label(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LlamaCpp, "complete", lambda self, prompts, completion: [Completed('{"texts": [{"te', True)] * completion.copies
    )
    texts = writer(smollm2, generation_prompt="whole", generation_slots=2).generate(WHOLE).texts
    assert [each.label for each in texts] == ["", ""]
    assert json.dumps(texts[0].text) == '"{\\"texts\\": [{\\"te"'


def test_an_architecture_that_llama_cpp_does_not_know_is_one_error(smollm2: Path, tmp_path: Path) -> None:
    unknown = edited(smollm2, tmp_path, b"llama", b"lhama")
    llama = LlamaCpp(find_weights(str(unknown)), Sampling(1.0, 0.0, 0.05), 1)
    with pytest.raises(TeacherError, match="architecture: lhama") as caught:
        llama.complete(["Hello"], Completion(4, 1))
    assert caught.value.hint


def test_a_missing_llama_cpp_names_its_install_line(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"potstill\[local\]"):
        writer(smollm2).generate(PARTS[0])
