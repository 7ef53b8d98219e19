"""Every student that ships keeps the promises of `StudentContract`, on its real weights where it has some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from support.nightly import nightly

from potstill.students import REGISTRY
from potstill.students.base import Student, StudentConfig
from potstill.testing import MultiLabelStudentContract, PairStudentContract, StudentContract


class TestLinear(StudentContract):
    """TF-IDF and a regression; needs no weights."""

    def make_student(self, config: StudentConfig) -> Student:
        kind: Callable[[StudentConfig], Student] = REGISTRY.resolve("linear")
        return kind(config)


class TestLinearOfPairs(PairStudentContract, TestLinear):
    """It compares by the n-grams that both texts have."""


class TestLinearOfSeveral(MultiLabelStudentContract, TestLinear):
    """A regression a label."""


class OnWeights(StudentContract):
    """The contract on the real weights that `kind` starts from by default."""

    kind: ClassVar[str]
    download: ClassVar[str]
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _weights(self, weights_of: Callable[[str], Path]) -> None:
        self.folder = weights_of(self.download)

    def make_student(self, config: StudentConfig) -> Student:
        kind: Callable[[StudentConfig], Student] = REGISTRY.resolve(self.kind)
        return kind(replace(config, weights=str(self.folder), options=self.options))


class TestStatic(OnWeights):
    """Static vectors and a small head."""

    kind = "static"
    download = "potion-8m"


class TestStaticOfPairs(PairStudentContract, TestStatic):
    """It compares the two vectors."""


class TestStaticOfSeveral(MultiLabelStudentContract, TestStatic):
    """One vector, K decisions."""


class TestEncoder(OnWeights):
    """A transformer under a regression; fine-tuning has its own tests on a tiny network."""

    kind = "encoder"
    download = "minilm"
    options: ClassVar[dict[str, object]] = {"mode": "frozen", "c": 100.0}
    test_the_exported_graph_runs = nightly(StudentContract.test_the_exported_graph_runs)


def test_every_registered_student_has_a_contract_test() -> None:
    on_tiny_weights = {"causal", "cloze", "decoder", "seq2seq", "tagger"}  # each in its own file
    assert {"linear", TestStatic.kind, TestEncoder.kind} | on_tiny_weights == set(REGISTRY)
