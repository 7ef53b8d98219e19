"""The static student, on random embeddings, and on real ones if they were fetched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.linear_task import GOLD, LABELS, ONE_HOT, TEXTS, check_export

from potstill.bundle.export.export import export
from potstill.data.task import Task
from potstill.errors import BadData, BadInput, BadSpec
from potstill.models.static_embeddings import StaticEmbeddings, read_safetensors
from potstill.models.weights import find_weights
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.distill_embeddings import load_token_embeddings, write_model2vec
from potstill.students.static import StaticStudent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model2vec folder of random vectors over the words of TEXTS."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, **{w: i + 1 for i, w in enumerate(words)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).normal(size=(len(words) + 1, 16)).astype(np.float32)
    made = tmp_path_factory.mktemp("vectors") / "static"
    write_model2vec(StaticEmbeddings(tokenizer.to_str(), table), made)
    return made


@pytest.fixture(scope="module")
def student(folder: Path) -> StaticStudent:
    pytest.importorskip("torch")
    return static_student(folder).fit(TrainingData(TEXTS, ONE_HOT))


def static_student(folder: Path, **options: float) -> StaticStudent:
    return StaticStudent(StudentConfig(LABELS, str(folder), options={"hidden_units": 8, **options}))


def test_it_learns_its_training_texts(student: StaticStudent) -> None:
    assert (student.predict_proba(TEXTS).argmax(axis=1) == GOLD).all()


def test_equal_data_give_equal_students_in_any_order(student: StaticStudent, folder: Path) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    other = static_student(folder).fit(TrainingData([TEXTS[i] for i in order], ONE_HOT[order]))
    assert np.abs(other.predict_logits(TEXTS) - student.predict_logits(TEXTS)).max() < 1e-4


def test_training_leaves_the_callers_random_state_alone(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    static_student(folder, epochs=1).fit(TrainingData(TEXTS, ONE_HOT))
    assert torch.equal(torch.rand(3), expected)


def test_a_prediction_does_not_depend_on_the_other_texts(student: StaticStudent) -> None:
    alone = np.concatenate([student.predict_logits([text]) for text in TEXTS])
    assert np.abs(alone - student.predict_logits(TEXTS)).max() < 1e-4


def test_a_loaded_student_predicts_exactly_the_same(student: StaticStudent, tmp_path: Path) -> None:
    student.save(tmp_path)
    assert np.array_equal(StaticStudent.load(tmp_path).predict_logits(TEXTS), student.predict_logits(TEXTS))


def test_the_exported_graph_is_valid_and_agrees(student: StaticStudent, tmp_path: Path) -> None:
    check_export(student, tmp_path, [*TEXTS, "", "unheard-of"])


def test_the_bundle_gives_the_embeddings_of_the_student(student: StaticStudent, tmp_path: Path) -> None:
    made = export(student, tmp_path / "bundle", task=Task(student.labels), texts=TEXTS)
    texts = [*TEXTS, "", "unheard-of"]
    np.testing.assert_allclose(made.embed(texts), student.embed(texts), atol=2e-3)


def test_without_torch_the_embeddings_stay_fixed_and_the_rest_works(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    student = static_student(folder).fit(TrainingData(TEXTS, ONE_HOT))
    table = load_token_embeddings(find_weights(folder)).embeddings
    assert student._classifier is not None
    assert np.allclose(student._classifier.embeddings, table, atol=2e-3)
    assert (student.predict_proba(TEXTS).argmax(axis=1) == GOLD).mean() > 0.9
    check_export(student, tmp_path, [*TEXTS, ""])


def test_after_a_passed_deadline_the_student_predicts(folder: Path) -> None:
    student = static_student(folder).fit(TrainingData(TEXTS, ONE_HOT, time_limit_s=0.0))
    assert np.allclose(student.predict_proba(TEXTS).sum(axis=1), 1, atol=1e-5)


def test_held_out_rows_select_the_epoch(folder: Path) -> None:
    pytest.importorskip("torch")
    texts = [f"{text} {i}" for i in range(40) for text in TEXTS]
    predictions: list[str] = []
    data = TrainingData(texts, np.tile(ONE_HOT, (40, 1)), progress=lambda _, words: predictions.append(words))
    static_student(folder, epochs=2).fit(data)
    assert any("validation error" in words for words in predictions)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(BadSpec, match="has no option 'layers'"):
        StaticStudent(StudentConfig(LABELS, options={"layers": 3}))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"short", (1 << 40).to_bytes(8, "little") + b"{", b"\x02" + bytes(7) + b"[]"):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(BadInput):
            read_safetensors(tmp_path / "x.safetensors")


def test_quantized_model2vec_files_are_read(folder: Path, tmp_path: Path) -> None:
    half = np.array([[1, 2], [3, 4]], "<f2")
    parts = {"embeddings": ("F16", half), "mapping": ("I64", np.array([1, 0, 1], "<i8"))}
    parts["weights"] = ("F32", np.array([1, 2, 3], "<f4"))
    header, body = {}, b""
    for name, (kind, value) in parts.items():
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert load_token_embeddings(find_weights(tmp_path)).embeddings.tolist() == [[3, 4], [2, 4], [9, 12]]


def test_pretrained_embeddings_generalise_to_unseen_words(potion: Path) -> None:
    student = StaticStudent(StudentConfig(LABELS, str(potion), options={"epochs": 5})).fit(TrainingData(TEXTS, ONE_HOT))
    assert student.predict_proba(["oranges and lemons", "an old elephant", "a wrench"]).argmax(axis=1).tolist() == [
        0,
        1,
        2,
    ]


def test_an_encoder_is_distilled_once_and_padding_of_its_tokenizer_does_not_leak_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from support.tinybert import write_tinybert

    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    first, second = tmp_path / "plain", tmp_path / "padded"
    for folder in (first, second):
        folder.mkdir()
        write_tinybert(folder)
    record = json.loads((second / "tokenizer.json").read_text())
    record["padding"] = {"strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None}
    record["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    (second / "tokenizer.json").write_text(json.dumps(record))
    plain, padded = (load_token_embeddings(find_weights(folder), dims=8).embeddings for folder in (first, second))
    assert plain.shape[1] == 8
    assert np.allclose(plain, padded, atol=1e-6)
    cached_at = [path.stat().st_mtime_ns for path in sorted((tmp_path / "cache").rglob("*.safetensors"))]
    assert np.array_equal(load_token_embeddings(find_weights(first), dims=8).embeddings, plain)
    assert cached_at == [path.stat().st_mtime_ns for path in sorted((tmp_path / "cache").rglob("*.safetensors"))]
    assert len(cached_at) == 2


NAMED = ("lost card", "exchange rate", "card arrival")
NAMED_TEXTS = ["my card was stolen", "how many euros is a dollar", "when will the new card be here"]


def test_label_names_that_fit_few_rows_are_learnt_and_mere_codes_are_not(potion: Path, tmp_path: Path) -> None:
    """The names of the labels say more of a text than one example each."""
    targets = np.eye(3, dtype=np.float32)
    asked = ["where is my card, i lost it", "what rate do you take for pounds", "has my card arrived"]

    def fitted(labels: tuple[str, ...], **options: bool) -> StaticStudent:
        config = StudentConfig(labels, str(potion), options={"hidden_units": 8, **options})
        return StaticStudent(config).fit(TrainingData(NAMED_TEXTS, targets))

    named = fitted(NAMED)
    assert named.metadata == {"label_name_rows": 3}
    assert named.predict_proba(asked).argmax(axis=1).tolist() == [0, 1, 2]
    named.save(tmp_path)
    assert StaticStudent.load(tmp_path).metadata == named.metadata
    off = fitted(NAMED, label_names=False)
    assert off.metadata == {}
    assert named.predict_proba(asked)[range(3), range(3)].min() > off.predict_proba(asked)[range(3), range(3)].min()
    for codes in (("A1", "B2", "C3"), (*NAMED[1:], NAMED[0])):  # numbers of labels, and names that fit other texts
        assert fitted(codes).metadata == {}


def test_without_a_row_the_label_names_are_the_head(potion: Path, tmp_path: Path) -> None:
    asked = ["where is my card, i lost it", "what rate do you take for pounds", "has my card arrived"]
    none = TrainingData((), np.zeros((0, 3), dtype=np.float32))

    def student(labels: tuple[str, ...], described: dict[str, str] | None = None) -> StaticStudent:
        return StaticStudent(StudentConfig(labels, str(potion), described or {}, {"label_names": True}))

    named = student(NAMED).fit(none)
    assert named.predict_proba(asked).argmax(axis=1).tolist() == [0, 1, 2]
    bundle = export(named, tmp_path / "bundle", task=Task(NAMED), texts=asked)
    np.testing.assert_allclose(bundle.predict_logits(asked), named.predict_logits(asked), atol=1e-3)
    codes = ("1", "2", "3")
    with pytest.raises(BadSpec, match="not every label has one in words"):
        student(codes).fit(none)
    described = student(codes, dict(zip(codes, NAMED, strict=True))).fit(none)
    assert described.predict_proba(asked).argmax(axis=1).tolist() == [0, 1, 2]
    with pytest.raises(BadData, match="no rows"):
        StaticStudent(StudentConfig(NAMED, str(potion))).fit(none)
