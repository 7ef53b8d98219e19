"""Which student a backbone is in a study of entities or of answers in words, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.form_study import form_study
from support.study import study_of
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal, write_tinyt5

from potstill.errors import BadInput, BadSpec, UnknownName
from potstill.study.backbones import StudyBackbones, resolve_backbones
from potstill.study.form_backbones import resolve_form_backbones

pytest.importorskip("torch")
pytest.importorskip("transformers")


def resolve(folder: Path, form: str, backbones: list[Any], **over: Any) -> StudyBackbones:
    keys = {"backbones": backbones, "data": {"d": {"train": "x.jsonl", "form": form}}, "kd": {}}
    return resolve_form_backbones(form_study(folder, keys, **over), "d")


def test_weights_are_the_student_of_the_form_and_the_largest_teaches(tmp_path: Path) -> None:
    small, large = str(write_tinybert(tmp_path / "small", hidden=24)), str(write_tinybert(tmp_path / "large"))
    found = resolve(tmp_path, "entities", [small, {"name": "large", "student": f"tagger:{large}"}])
    assert [each.student("ft").name for each in found.backbones] == [f"tagger:{small}", f"tagger:{large}"]
    assert found.ft_teacher is found.backbones[1]
    assert found.backbones[0].procedures == ("ft", "ft+kd")
    named = resolve(tmp_path, "entities", [small, large], kd={"ft_teacher": small})
    assert named.ft_teacher is named.backbones[0]
    assert resolve(tmp_path, "entities", [small], procedures=["ft"]).ft_teacher is None


def test_the_kind_of_a_writer_is_that_of_its_weights(tmp_path: Path) -> None:
    causal, t5 = str(write_tinycausal(tmp_path / "causal")), str(write_tinyt5(tmp_path / "t5"))
    found = resolve(tmp_path, "free", [causal, {"name": t5, "options": {"mode": "full"}}])
    assert [each.student("ft").name for each in found.backbones] == [f"causal:{causal}", f"seq2seq:{t5}"]
    assert found.backbones[1].student("llm+kd").options == {"mode": "full"}


@pytest.mark.parametrize(
    ("form", "backbone", "message"),
    [
        ("entities", "linear", "'linear' is a student of the kind 'linear', which does not give marked entities"),
        ("entities", {"name": "big", "student": "causal:smollm2"}, "'causal', which does not give marked entities"),
        ("free", "tagger:minilm", "does not give answers in words"),
        ("entities", {"name": "tagger:minilm", "options": {"epoch": 2}}, "no option 'epoch'"),
        ("entities", {"name": "tagger:minilm", "alternatives": [{"lr": "x"}]}, "lr"),
    ],
)
def test_a_backbone_that_cannot_is_refused_with_a_hint(tmp_path: Path, form: str, backbone: Any, message: str) -> None:
    with pytest.raises(BadSpec, match=message) as refused:
        resolve(tmp_path, form, [backbone])
    assert refused.value.hint


def test_a_procedure_that_no_backbone_runs_is_refused(tmp_path: Path) -> None:
    weights = str(write_tinybert(tmp_path / "small"))
    with pytest.raises(BadSpec, match=r"No backbone runs FT\+KD") as refused:
        resolve(tmp_path, "entities", [{"name": weights, "procedures": ["ft"]}])
    assert refused.value.hint


def test_weights_of_another_kind_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    causal = str(write_tinycausal(tmp_path / "causal"))
    with pytest.raises(BadInput, match="is of the kind 'causal', and 'encoder' is needed"):
        resolve(tmp_path, "entities", [causal])


def test_people_are_no_teacher_of_a_study(tmp_path: Path) -> None:
    with pytest.raises(
        BadSpec, match="The teacher 'human' stands for people, and a study asks models alone"
    ) as refused:
        resolve(tmp_path, "entities", ["tagger:x"], procedures=["llm+kd"], teacher="human")
    assert "[teacher]" in refused.value.hint


def test_unknown_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="minilmm"):
        resolve(tmp_path, "free", ["minilmm"])
    with pytest.raises(UnknownName, match="minilmm"):
        resolve(tmp_path, "entities", ["minilmm"])


def test_in_a_study_of_labels_a_student_of_a_form_is_refused(tmp_path: Path) -> None:
    asked = [{"name": "marks", "student": "tagger:minilm"}]
    with pytest.raises(BadSpec, match="'marks' is a student of the kind 'tagger', which gives no labels") as refused:
        resolve_backbones(study_of(tmp_path, backbones=asked, procedures=["ft"], kd={}), "topics")
    assert refused.value.hint
