"""Our results equal those of reference libraries: scikit-learn's temperature, model2vec's static vectors.

Elsewhere: transformers in `test_export.py`, mapie in `test_guarantees.py`, scikit-learn in `test_metrics.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.scores import drawn

from potstill.evaluation.scaling import temperature_scaling
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.static import StaticStudent

WORDS = ["the", "soup", "is", "hot", "match", "was", "lost", "a", "café", "!"]
TEXTS = ["the soup is hot", "the match was lost!", "soup", "a hot soup, a lost match", "CAFÉ", "no known word", ""]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_scikit_learns(temperature: float) -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("scikit-learn before 1.8 has no temperature scaling")
    scores, new = drawn(1500, temperature=temperature), drawn(200, seed=4)
    theirs = calibration._TemperatureScaling().fit(scores.logits, scores.gold)
    ours = temperature_scaling(scores.logits, scores.gold)
    assert ours.scale[0] == pytest.approx(theirs.beta_, rel=1e-3)
    np.testing.assert_allclose(ours.apply(new.logits), theirs.predict(new.logits), atol=1e-3)


def test_a_static_students_vectors_are_model2vecs(tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(["[PAD]", "[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    table = np.random.default_rng(0).normal(size=(len(WORDS) + 2, 16)).astype(np.float16).astype(np.float32)
    theirs = model2vec.StaticModel(table, tokenizer, config={"model_type": "model2vec"}, normalize=True)
    theirs.save_pretrained(tmp_path)
    make = StudentConfig(("food", "sport"), weights=str(tmp_path), options={"epochs": 0, "c": 1.0})
    ours = StaticStudent(make).fit(TrainingData(TEXTS[:2], np.eye(2, dtype=np.float32)))
    np.testing.assert_allclose(ours.embed(TEXTS), theirs.encode(TEXTS), atol=1e-5)
