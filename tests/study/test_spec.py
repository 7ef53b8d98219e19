"""The specification of a study, the procedures of a backbone, and errors of one sentence with a hint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.study import study_of
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal

from potstill.errors import BadSpec, PotstillError, UnknownName
from potstill.students.kinds import student_kind
from potstill.study.backbones import resolve_backbones
from potstill.study.spec import StudySpec

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.name)
def test_the_shipped_studies_can_be_read(path: Path) -> None:
    spec = StudySpec.from_toml(path)
    assert len(spec.seeds) >= 3
    assert len(spec.backbones) >= 3


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.name)
def test_the_student_options_of_the_shipped_studies_exist(path: Path) -> None:
    spec = StudySpec.from_toml(path)
    for backbone in spec.backbones:
        for options in ({**backbone.options, **each} for each in backbone.alternatives or ({},)):
            student_kind("encoder").training_passes(options, 100)  # raises BadSpec for an option that does not exist
        for data in spec.data.values():
            student_kind("cloze").training_passes({**backbone.prompt, **data.prompt}, 100)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"sises": [2]}, "no key 'sises'"),
        ({"sizes": []}, "sizes"),
        ({"sizes": [0]}, "sizes"),
        ({"sizes": [2, 2]}, "names one twice"),
        ({"seeds": 0}, "seeds"),
        ({"budget": "free"}, "not a budget"),
        ({"procedures": ["llm+kd"]}, "needs a \\[teacher\\]"),
        ({"kd": {"ft_teacher": "unknown"}}, "not one of the backbones"),
        ({"kd": {"temperature": 0}}, "temperature"),
        ({"data": {"a": {}}}, "a data set has one source"),
        ({"data": {"a": {"sample": "movies", "folder": "x"}}}, "a data set has one source"),
        ({"data": {"a": {"folder": "x", "onleak": "drop"}}}, "no key"),
        ({"backbones": ["linear", "linear"]}, "same name: 'linear'"),
    ],
)
def test_a_wrong_key_is_reported_in_one_sentence_with_a_hint(
    tmp_path: Path, over: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSpec, match=message) as refused:
        study_of(tmp_path, **over)
    assert refused.value.hint
    assert "\n" not in refused.value.message


ENTITIES = {"a": {"train": "x.jsonl", "form": "entities"}}
ANSWERS = {"a": {"train": "x.jsonl", "form": "free", "metric": "rouge_l"}}


def form_study_of(folder: Path, data: dict[str, Any], **over: Any) -> StudySpec:
    record = {"budget": 1, "backbones": ["tagger:minilm", "tagger:bge-small"], "sizes": [9], "data": data}
    return StudySpec.from_dict({**record, **over}, folder)


def test_a_study_of_a_form_has_its_own_defaults(tmp_path: Path) -> None:
    entities, answers = form_study_of(tmp_path, ENTITIES), form_study_of(tmp_path, ANSWERS)
    assert (entities.form, entities.per, entities.procedures) == ("entities", "total", ("ft", "ft+kd"))
    assert (entities.metric_of("a"), answers.metric_of("a")) == ("entity_f1", "rouge_l")
    assert form_study_of(tmp_path, {"a": {"train": "x.jsonl", "form": "free"}}, metric="bleu").metric_of("a") == "bleu"
    assert form_study_of(tmp_path, {"a": {"train": "x.jsonl", "form": "free"}}).metric_of("a") == "token_f1"
    labels = study_of(tmp_path)
    assert (labels.form, labels.per, labels.metric_of("topics")) == (None, "class", "accuracy")
    assert entities.needs_validation
    assert not labels.needs_validation


@pytest.mark.parametrize(
    ("data", "over", "message"),
    [
        (ENTITIES, {"procedures": ["ft", "p"]}, "'p' trains by the words of labels, and its data sets have marked"),
        (ANSWERS, {"procedures": ["p+kd"]}, "'p\\+kd' trains by the words of labels, and its data sets have answers"),
        (ENTITIES, {"backbones": [{"name": "minilm", "procedures": ["p"]}]}, "'p' trains by the words of labels"),
        (ENTITIES, {"backbones": [{"name": "minilm", "prompt": {"pattern": "x"}}]}, "'minilm' has a prompt"),
        (ENTITIES, {"kd": {"temperature": 2.0}}, "temperature under \\[kd\\] is about scores of labels"),
        (ENTITIES, {"kd": {"p_teacher": "tagger:minilm"}}, "p_teacher under \\[kd\\] is about scores"),
        (ENTITIES, {"per": "class"}, "needs classes, and its data sets have marked entities"),
        (ENTITIES, {"metric": "accuracy"}, "entities are compared by entity F1, not by 'accuracy'"),
        (ANSWERS, {"metric": "mcc"}, "the metric 'mcc' is of labels"),
        ({**ENTITIES, "b": {"train": "y.csv"}}, {}, "have marked entities and labels, and a study has one"),
        ({"a": {"train": "y.csv", "metric": "bleu"}}, {}, "the metric 'bleu' is of answers in words"),
        ({"a": {"train": "y.csv"}}, {"metric": "bleu"}, "the metric 'bleu' is of answers in words"),
        ({"a": {"train": "y.csv", "max_tokens": 9}}, {}, "max_tokens is of answers in words"),
        ({"a": {"train": "y.csv", "kind": "text2text"}}, {}, "has a form of answers"),
        ({"a": {"train": "y.csv", "form": "spans"}}, {}, "form"),
        ({"a": {**ANSWERS["a"], "metric": "rouge"}}, {}, "metric"),
        ({"a": {**ANSWERS["a"], "kind": "single"}}, {}, "are of the kind 'text2text', not 'single'"),
        ({"a": {**ANSWERS["a"], "labels": ["x"]}}, {}, "answers in words have no labels"),
        ({"a": {**ENTITIES["a"], "max_tokens": 9}}, {}, "max_tokens is of answers in words"),
        ({"a": {**ENTITIES["a"], "prompt": {"pattern": "x"}}}, {}, "a prompt has the words of labels"),
    ],
)
def test_what_a_study_of_a_form_has_not_is_refused_in_one_sentence_with_a_hint(
    tmp_path: Path, data: dict[str, Any], over: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSpec, match=message) as refused:
        form_study_of(tmp_path, data, **over)
    assert refused.value.hint
    assert "\n" not in refused.value.message


def test_a_file_that_is_missing_or_not_toml_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="There is no file"):
        StudySpec.from_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("sizes = [")
    with pytest.raises(BadSpec, match="not a TOML file"):
        StudySpec.from_toml(tmp_path / "bad.toml")
    (tmp_path / "bare.toml").write_text("")
    with pytest.raises(BadSpec, match="lacks"):
        StudySpec.from_toml(tmp_path / "bare.toml")


def test_a_backbone_without_a_language_model_head_says_what_it_can_do(tmp_path: Path) -> None:
    write_tinybert(tmp_path / "bert")
    asked = [{"name": "bert", "student": f"encoder:{tmp_path / 'bert'}", "procedures": ["ft", "p"]}]
    with pytest.raises(BadSpec, match="cannot do P; it can do FT and FT\\+KD and P\\+KD and LLM\\+KD") as refused:
        resolve_backbones(study_of(tmp_path, backbones=asked, procedures=["ft", "p"], kd={}), "topics")
    assert refused.value.hint
    with pytest.raises(BadSpec, match="cannot do P"):
        resolve_backbones(study_of(tmp_path, backbones=["linear"], procedures=["p"], kd={}), "topics")


def test_a_masked_language_model_does_all_four(tmp_path: Path) -> None:
    folder = write_tinybert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    four = ["ft", "p", "ft+kd", "p+kd"]
    data = {"topics": {"folder": "topics", "prompt": {"pattern": "{text} {label}"}}}
    cast = resolve_backbones(
        study_of(tmp_path, backbones=[str(folder), "linear"], procedures=four, kd={}, data=data), "topics"
    )
    bert = cast.backbones[0]
    assert bert.supported == ("ft", "p", "ft+kd", "p+kd", "llm+kd")
    assert bert.student("p").kind == "cloze"
    assert bert.student("p").options == {"pattern": "{text} {label}"}
    assert bert.student("ft").kind == "encoder"
    assert cast.p_teacher is bert
    assert cast.ft_teacher is bert  # the largest that can


def test_a_causal_language_model_gets_a_head_if_the_study_names_its_procedures(
    tmp_path: Path,
) -> None:
    lm, both = str(write_tinycausal(tmp_path / "lm")), ["ft", "p"]
    kd = {"ft_teacher": lm, "p_teacher": lm}
    asked = [{"name": lm, "procedures": both, "options": {"mode": "full"}}, "linear"]
    found = resolve_backbones(study_of(tmp_path, backbones=asked, procedures=[*both, "ft+kd", "p+kd"], kd=kd), "topics")
    assert found.backbones[0].student("ft").kind == "decoder"
    assert found.backbones[0].student("ft").options == {"mode": "full"}
    assert found.backbones[0].student("p").kind == "cloze"
    assert found.ft_teacher is found.p_teacher is found.backbones[0]
    alone = study_of(tmp_path, backbones=[lm, "linear"], procedures=both, kd={})
    assert resolve_backbones(alone, "topics").backbones[0].supported == ("p",)


def test_shots_without_a_language_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="examples for a \\[teacher\\]"):
        study_of(tmp_path, kd={"shots": 1})


def test_distillation_without_a_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="P\\+KD needs a teacher trained by P"):
        resolve_backbones(study_of(tmp_path, backbones=["linear"], procedures=["ft", "p+kd"], kd={}), "topics")


def test_an_unknown_backbone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="minilmm"):
        resolve_backbones(study_of(tmp_path, backbones=["minilmm"], kd={}), "topics")


def test_the_command_line_shows_one_sentence_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys
    from unittest.mock import patch

    from potstill.cli import main

    with (
        patch.object(sys, "argv", ["potstill", "compare", str(tmp_path / "none.toml")]),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    assert "Traceback" not in error
    assert issubclass(BadSpec, PotstillError)
