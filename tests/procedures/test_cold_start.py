"""The first texts to label: in the student's own space, priced, chosen once; LSA for a student without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.keyword_task import world
from support.tinybert import write_tinybert

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.procedures import cold_start
from potstill.procedures.cold_start import FirstTexts, embedding_micros, select_first_texts
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.encoder import EncoderStudent
from potstill.students.static import StaticStudent


@pytest.fixture(scope="module")
def bare() -> Pool:
    return build_pool(
        Table.from_columns({"text": world(60)["text"]}), labels=("a", "b"), options=PoolOptions(validation_share=0)
    ).pool


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tiny"))


def opened(folder: Path, pool: Pool, student: Any, usd_per_hour: float = 3600) -> Run:
    record = {"budget": 50, "student": student, "procedure": "annotate", "prices": {"usd_per_hour": usd_per_hour}}
    return Run.open(folder, Spec.from_dict(record), Task(pool.labels, name="world"), pool)


def chosen(run: Run) -> FirstTexts:
    return next(note.record for note in run.notes() if isinstance(note.record, FirstTexts))


def test_an_encoder_chooses_in_its_own_space_and_pays_for_embedding_once(
    tmp_path: Path, bare: Pool, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, student = bare.subset("pool").texts, f"encoder:{weights}"
    with opened(tmp_path / "run", bare, student) as run:
        rows = select_first_texts(run, texts, 8, "max_herding")
        assert len(set(rows)) == 8
        assert chosen(run).space == student
        assert student in chosen(run).sentence()
        assert embedding_micros(run) > 0
    monkeypatch.setattr(EncoderStudent, "embed", None)  # the choice is read from the store
    with opened(tmp_path / "run", bare, student) as run:
        assert select_first_texts(run, texts, 8, "max_herding") == rows
        assert sum(call.description.startswith("embed ") for call in run.store.calls()) == 1


def test_fewer_texts_are_the_first_of_more(tmp_path: Path, bare: Pool, weights: Path) -> None:
    texts = bare.subset("pool").texts
    with opened(tmp_path / "run", bare, f"encoder:{weights}") as run:
        many = select_first_texts(run, texts, 12, "max_herding")
        assert select_first_texts(run, texts, 5, "max_herding") == many[:5]


def test_a_student_without_embeddings_chooses_on_lsa_and_says_so(tmp_path: Path, bare: Pool) -> None:
    texts = bare.subset("pool").texts
    with opened(tmp_path / "run", bare, "linear") as run:
        assert len(set(select_first_texts(run, texts, 8, "max_herding"))) == 8
        assert chosen(run).space == "LSA"
        assert embedding_micros(run) == 0


def test_missing_weights_are_no_reason_to_stop(tmp_path: Path, bare: Pool) -> None:
    with opened(tmp_path / "run", bare, f"encoder:{tmp_path / 'nothing'}") as run:
        assert len(select_first_texts(run, bare.subset("pool").texts, 8, "max_herding")) == 8
        assert chosen(run).space == "LSA"


def test_embedding_ends_with_its_money_and_the_rest_is_drawn(
    tmp_path: Path, bare: Pool, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_start, "CHUNK_SIZE", 4)
    with opened(tmp_path / "run", bare, f"encoder:{weights}", 1e9) as run:
        rows = select_first_texts(run, bare.subset("pool").texts, 8, "max_herding")
        assert len(set(rows)) == 8
        assert chosen(run).n_candidates == 4
        assert embedding_micros(run) <= 0.1 * 50_000_000


def test_random_embeds_nothing(tmp_path: Path, bare: Pool, weights: Path) -> None:
    with opened(tmp_path / "run", bare, f"encoder:{weights}") as run:
        assert len(set(select_first_texts(run, bare.subset("pool").texts, 8, "random"))) == 8
        assert not run.store.calls()
        assert "random" in chosen(run).sentence()


def test_pretrained_vectors_are_those_before_training(weights: Path) -> None:
    from potstill.students.base import StudentConfig

    texts = ["soup and bread", "the bank"]
    for kind in (EncoderStudent, StaticStudent):
        student = kind(StudentConfig(("a", "b"), str(weights)))
        assert student.load_pretrained()
        assert student.embed(texts).shape[0] == 2
