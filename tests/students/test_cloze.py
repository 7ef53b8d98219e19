"""The cloze student: its contract on tiny language models, masked and causal, and its scores against transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from support.nightly import nightly
from support.tinybert import write_tinybert
from support.tinylm import LABELS, write_tinycausal, write_tinymlm

from potstill.bundle.bundle import load
from potstill.bundle.export.export import export
from potstill.data.pairs import join_pair
from potstill.data.task import Task
from potstill.errors import BadInput, BadSpec, RunNotFound
from potstill.students import cloze_training
from potstill.students.base import Student, StudentConfig, TrainingData
from potstill.students.cloze import ClozeStudent
from potstill.testing import MultiLabelStudentContract, StudentContract

TEXTS = ["the soup and the bread", "one match, please", "a loan or a bank and the market", ""]
MULTI_TOKEN_WORDS = {"food": "food order", "sport": ["sport", "sport wager"], "money": "money"}


class OnTinyModel:
    """A cloze on a language model that `write` makes."""

    write: ClassVar[Callable[..., Path]]
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        name = type(self).write.__name__
        self.folder = type(self).write(tmp_path_factory.getbasetemp() / name)

    def make_student(self, config: StudentConfig) -> Student:
        return ClozeStudent(replace(config, weights=str(self.folder), options=self.options))


class TinyContract(OnTinyModel, StudentContract):
    """The contract with one label a text."""


class TestMasked(TinyContract):
    write = staticmethod(write_tinymlm)
    options: ClassVar[dict[str, Any]] = {"lr": 5e-3, "epochs": 25}


class TestCausal(TinyContract):
    write = staticmethod(write_tinycausal)
    options: ClassVar[dict[str, Any]] = {"lr": 5e-3, "epochs": 12, "trainable_layers": 2}
    test_the_exported_graph_runs = nightly(StudentContract.test_the_exported_graph_runs)


class TestCausalWithTrie(TinyContract):
    write = staticmethod(write_tinycausal)
    options: ClassVar[dict[str, Any]] = {
        "lr": 5e-3,
        "epochs": 12,
        "trainable_layers": 2,
        "label_words": MULTI_TOKEN_WORDS,
    }
    test_the_exported_graph_runs = None  # below, as a bundle


class TinyMultiLabelContract(OnTinyModel, MultiLabelStudentContract):
    """The contract with several labels a text."""


class TestMaskedWithSeveralLabels(TinyMultiLabelContract):
    write = staticmethod(write_tinymlm)
    options: ClassVar[dict[str, Any]] = {"lr": 5e-3, "epochs": 25}
    test_the_exported_graph_runs = None  # the graph is that of single labels


class TestCausalWithSeveralLabels(TinyMultiLabelContract):
    write = staticmethod(write_tinycausal)
    options: ClassVar[dict[str, Any]] = {"lr": 5e-3, "epochs": 8, "mode": "full", "trainable_layers": 3}
    test_the_exported_graph_runs = None  # as of a label tree


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinymlm(tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinycausal(tmp_path_factory.mktemp("causal"))


def cloze(folder: Path, **options: Any) -> ClozeStudent:
    return ClozeStudent(StudentConfig(LABELS, str(folder), options=options))


def training_data(seed: int = 1) -> TrainingData:
    return replace(StudentContract().training_data(), seed=seed)


# --- scores ------------------------------------------------------------------------------------------------


def test_a_causal_model_scores_a_label_by_the_log_probability_of_its_tokens(causal: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(causal), AutoTokenizer.from_pretrained(causal)
    end = tokenizer.bos_token_id  # this tokenizer knows no line break

    def logp(text: str, word: str, more: list[int]) -> float:
        before = [end, *tokenizer(f"{text} topic:", add_special_tokens=False)["input_ids"]]
        own = [*tokenizer(word, add_special_tokens=False)["input_ids"], *more]
        with torch.inference_mode():
            found = model(torch.tensor([before + own])).logits[0].log_softmax(-1)
        return sum(float(found[len(before) - 1 + i, token]) for i, token in enumerate(own))

    wanted = [
        [
            logp(text, "food order", [end]),
            (logp(text, "sport", [end]) + logp(text, "sport wager", [end])) / 2,
            logp(text, "money", [end]),
        ]
        for text in TEXTS
    ]
    student = cloze(causal, label_words=MULTI_TOKEN_WORDS, pattern="{text} topic: {label}")
    got = student.predict_logits(TEXTS)
    bias = student._loaded()[0].bias.numpy()
    np.testing.assert_allclose(got - bias, np.array(wanted), atol=1e-3)


def test_a_masked_model_reads_a_words_tokens_at_one_mask_each(masked: Path) -> None:
    from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

    model = AutoModelForMaskedLM.from_pretrained(masked)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(masked / "tokenizer.json"))
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in ("food", "sport", "money", "order", "wager")}
    words = {"food": "food order", "sport": "sport wager", "money": "money"}
    student = cloze(masked, label_words=words, pattern="{text} topic: {label}.", token_aggregation="mean")
    wanted = []
    for text in TEXTS:
        row = tokenizer(f"{text} topic: [MASK] [MASK].", return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            found = model(row).logits[0].log_softmax(-1)[row[0] == 4]
        pair = [float(found[0, ids[a]] + found[1, ids[b]]) / 2 for a, b in (("food", "order"), ("sport", "wager"))]
        wanted.append([*pair, float(found[0, ids["money"]])])
    got = student.predict_logits(TEXTS)
    np.testing.assert_allclose(got - student._loaded()[0].bias.numpy(), np.array(wanted), atol=1e-3)


def test_untrained_it_is_calibrated_on_content_free_texts(causal: Path) -> None:
    student = cloze(causal)
    probs = student.predict_proba(["N/A", "", "text", "..."])
    np.testing.assert_allclose(probs.mean(0), 1 / 3, atol=0.02)
    assert student.metadata["mode"] == "zero-shot"


def test_zero_shot_needs_no_rows_and_can_be_saved(causal: Path, tmp_path: Path) -> None:
    none = TrainingData([], np.zeros((0, 3), dtype=np.float32))
    student = cloze(causal, mode="zero-shot").fit(none)
    assert np.array_equal(student.predict_logits(TEXTS), cloze(causal).predict_logits(TEXTS))
    texts = list(training_data().texts)
    np.testing.assert_allclose(student.calibrate_label_bias(texts).predict_proba(texts).mean(0), 1 / 3, atol=0.02)
    student.save(tmp_path)
    assert np.array_equal(ClozeStudent.load(tmp_path).predict_logits(TEXTS), student.predict_logits(TEXTS))


def test_a_mask_token_in_a_text_is_plain_text(masked: Path) -> None:
    student = cloze(masked)
    _, ids = student._loaded()
    row = ids.encode(["the [MASK] soup [SEP]"]).ids[0]
    assert (row == 4).sum() == 1
    assert (row == 3).sum() == 1


@pytest.mark.parametrize("pattern", ["{label}: {text}", "topic: {label}. {text}!", "the {text}, {label}"])
def test_a_masked_models_label_can_be_anywhere_in_the_pattern(masked: Path, pattern: str) -> None:
    student = cloze(masked, pattern=pattern)
    network, ids = student._loaded()
    for row in ids.encode(TEXTS).ids:
        assert (row == network.mask_id).sum() == 1


def test_label_words_are_searched_in_the_rows_if_names_are_no_words(causal: Path) -> None:
    student = ClozeStudent(StudentConfig(("A1", "B2", "C3"), str(causal), options={"mode": "frozen"})).fit(
        training_data()
    )
    found = [word for own in student.label_words for word in own]
    assert len(set(found)) == 3
    assert not {"A1", "B2", "C3"} & set(found)
    with pytest.raises(BadSpec, match="label_words"):
        ClozeStudent(StudentConfig(("A1", "B2", "C3"), str(causal))).predict_logits(TEXTS)


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{}, MULTI_TOKEN_WORDS])
def test_training_on_cached_states_equals_running_every_layer(
    causal: Path, words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"trainable_layers": 1, "epochs": 2, "label_words": words}
    cached = cloze(causal, **options).fit(training_data())
    monkeypatch.setattr(cloze_training, "MAX_CACHED_BYTES", 0)
    uncached = cloze(causal, **options).fit(training_data())
    assert cached.fit_info.cached_states
    assert not uncached.fit_info.cached_states
    np.testing.assert_allclose(cached.predict_logits(TEXTS), uncached.predict_logits(TEXTS), atol=0.02)


@pytest.mark.parametrize("mode", ["lora", "full", "frozen"])
def test_only_the_parameters_of_the_mode_are_trained_and_saved(causal: Path, mode: str) -> None:
    student = cloze(causal, mode=mode, trainable_layers=1, epochs=1, soft_prompt_tokens=2).fit(training_data())
    names = set(student._loaded()[0].trained_state)
    assert {"bias", "soft_prompt"} <= names
    inner = {name for name in names if "layers." in name}
    assert bool(inner) == (mode != "frozen")
    assert all("layers.2." in name for name in inner)
    assert all(name.endswith(("lora_a", "lora_b")) for name in inner) == (mode != "full")


@pytest.mark.parametrize("model", ["masked", "causal"])
def test_both_texts_of_a_pair_matter_and_the_student_can_be_saved(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    words = {"same": "and", "other": "or"}
    config = StudentConfig(
        tuple(words), str(request.getfixturevalue(model)), options={"label_words": words, "epochs": 2}, kind="pair"
    )
    texts = [join_pair("the soup", "the bread"), join_pair("the soup", "a loan"), join_pair("a loan", "the soup")]
    student = ClozeStudent(config).fit(TrainingData(texts, np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)))
    logits = student.predict_logits(texts)
    assert np.abs(logits[0] - logits[1]).max() > 1e-6
    assert np.abs(logits[1] - logits[2]).max() > 1e-6
    student.save(tmp_path)
    assert np.array_equal(ClozeStudent.load(tmp_path).predict_logits(texts), logits)


def test_the_longer_text_of_a_pair_is_truncated(masked: Path) -> None:
    student = ClozeStudent(
        StudentConfig(
            ("same", "other"), str(masked), kind="pair", options={"label_words": {"same": "and", "other": "or"}}
        )
    )
    _, ids = student._loaded()
    row = ids.encode([join_pair("soup " * 400, "bread cheese")]).ids[0]
    vocabulary = student._tokenizer._tokenizer.get_vocab()  # type: ignore[union-attr]
    assert len(row) == 64
    assert [int((row == vocabulary[word]).sum()) for word in ("bread", "cheese")] == [1, 1]


def test_a_soft_prompt_starts_from_the_label_tokens_and_is_trained(masked: Path) -> None:
    student = cloze(masked, soft_prompt_tokens=4, mode="frozen", lr=0.1, epochs=5).fit(training_data())
    network = student._loaded()[0]
    start = network.model.get_input_embeddings().weight[[int(network.tokens[i % 3]) for i in range(4)]]
    assert float((network.soft_prompt - start).abs().max()) > 0.1
    before = student.predict_logits(TEXTS)
    with torch.no_grad():
        network.soft_prompt.copy_(start)
    assert np.abs(student.predict_logits(TEXTS) - before).max() > 1e-4


def test_a_student_whose_language_model_changed_is_refused(masked: Path, tmp_path: Path) -> None:
    weights = write_tinymlm(tmp_path / "weights")
    folder = tmp_path / "student"
    folder.mkdir()
    cloze(weights, epochs=1).fit(training_data()).save(folder)
    write_tinymlm(weights, layers=1)
    with pytest.raises(RunNotFound, match="other weights"):
        ClozeStudent.load(folder)


# --- bundles ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bundle_predicts_what_the_student_predicts(tmp_path: Path) -> None:
    causal = write_tinycausal(tmp_path / "lm", layers=2)  # each layer is seconds of the exporter
    student = cloze(causal, label_words=MULTI_TOKEN_WORDS, trainable_layers=1, epochs=2).fit(training_data())
    export(student, tmp_path / "bundle", task=Task(LABELS), texts=training_data().texts, gold=None)
    texts = [*TEXTS, "[MASK] <|endoftext|> the soup\n\ntopic: sport"]
    bundle = load(tmp_path / "bundle", graph="fp32")  # int8 is served only where it was measured to be faster
    np.testing.assert_allclose(bundle.predict_logits(texts), student.predict_logits(texts), atol=1e-3)


def test_a_student_that_predicts_in_bfloat16_is_not_exported(masked: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="bfloat16"):
        cloze(masked, dtype="bfloat16").export(tmp_path)


# --- errors -------------------------------------------------------------------------------------------------------


def test_weights_without_a_language_model_head_are_refused_with_their_use(tmp_path: Path) -> None:
    folder = write_tinybert(tmp_path / "bert")
    with pytest.raises(BadInput, match="no language-model head") as caught:
        cloze(folder).check_requirements()
    assert "encoder" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "no option 'epoch'"),
        ({"mode": "half"}, "mode"),
        ({"trainable_layers": 0}, "trainable_layers"),
        ({"lr": "fast"}, "lr"),
        ({"pattern": "Topic: {label}"}, "{text}"),
        ({"label_words": {"weather": "rain"}}, "'weather'"),
        ({"label_words": {"food": []}}, "'food'"),
        ({"label_words": "food"}, "label_words"),
    ],
)
def test_an_invalid_option_is_refused(masked: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSpec, match=message):
        cloze(masked, **options)


def test_a_causal_models_label_must_be_last(causal: Path) -> None:
    with pytest.raises(BadSpec, match="does not end in"):
        cloze(causal, pattern="{label}: {text}").predict_logits(TEXTS)


def test_labels_with_the_same_tokens_are_refused(causal: Path) -> None:
    with pytest.raises(BadSpec, match="the same tokens"):
        cloze(causal, label_words={"food": "soup", "sport": "soup"}).predict_logits(TEXTS)
