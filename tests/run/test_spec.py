"""The specification of a run: what it accepts, and how a wrong one is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from potstill.errors import BadSpec, PotstillError
from potstill.registry import OptionError
from potstill.run.inputs import spec_overrides
from potstill.run.spec import DataSpec, Spec, TaskSpec, diff_specs, merge_specs


def refused(record: dict[str, object]) -> BadSpec:
    with pytest.raises(BadSpec) as caught:
        Spec.from_dict(record)
    assert caught.value.hint
    return caught.value


def test_a_name_alone_is_a_table_with_a_name():
    assert (
        Spec.from_dict({"budget": 1, "teacher": "local:smollm2"}).teacher
        == Spec.from_dict({"budget": 1, "teacher": {"name": "local:smollm2"}}).teacher
    )


def test_other_keys_are_the_kinds_options():
    student = Spec.from_dict({"budget": 1, "student": {"name": "encoder:minilm", "epochs": 3}}).student
    assert (student.kind, student.model, student.options) == ("encoder", "minilm", {"epochs": 3})


@pytest.mark.parametrize(
    ("record", "where", "nearest"),
    [
        ({"budget": 1, "studnt": "linear"}, "studnt", "student"),
        ({"budget": 1, "data": {"fil": "x"}}, "data.fil", "file"),
        ({"budget": 1, "task": {"label": ["a"]}}, "task.label", "labels"),
    ],
)
def test_an_unknown_key_gets_the_nearest_one(record, where, nearest):
    error = refused(record)
    assert where in error.message
    assert nearest in error.hint


@pytest.mark.parametrize(
    "record",
    [
        {"budget": 1, "seed": -1},
        {"budget": 1, "data": {"file": "a", "train": "b"}},
        {"budget": 1, "data": {"test_share": 1.5}},
        {"budget": 1, "data": {"on_leak": "whatever"}},
        {"budget": 1, "teacher": {}},
        {"budget": "20 EUR"},
        {},
    ],
)
def test_an_invalid_spec_is_one_sentence_with_a_hint(record):
    assert "\n" not in str(refused(record))


@pytest.mark.parametrize(
    ("record", "mend"),
    [
        ({"task": {"form": "fre"}}, "Did you mean 'free'? Give 'entities' or 'free'."),
        ({"task": {"kind": "whatever"}}, "Give 'single', 'multi', 'pair' or 'text2text'."),
        ({"task": {"kind": "single", "form": "free"}}, "Leave the kind out, or the form."),
        ({"data": {"validation_share": 2}}, "Give a number of at least 0 and below 1."),
        ({"data": {"limit": 0}}, "Give a whole number above 0."),
        ({"data": {"header": "perhaps"}}, "Give true or false."),
        ({"data": {"missing": "nan"}}, "Give a list in brackets."),
        ({"data": {"file": 3}}, "Give the path of a file in quotes or a list in brackets."),
        ({"data": {"file": "a", "train": "b"}}, "Leave one of them out."),
    ],
)
def test_the_mend_of_a_value_names_the_choices_or_the_range(record, mend):
    assert refused({"budget": 1, **record}).hint == mend


@pytest.mark.parametrize("table", [Spec, TaskSpec, DataSpec])
def test_no_value_is_refused_without_saying_what_could_be_given(table):
    errors = []
    for name in table.model_fields.keys() - {"budget"}:
        for value in (object(), -1, 1e99, "\0", [], {}):
            try:
                table.model_validate({"budget": 1, name: value} if table is Spec else {name: value})
            except ValidationError as error:
                errors.append(error)
            except PotstillError:
                continue
    assert len(errors) > 20
    found = [OptionError.of(table, error) for error in errors]
    assert not [each for each in found if "Correct" in each.mend and not each.is_missing]


def test_data_paths_are_relative_to_the_toml_file(tmp_path):
    file = tmp_path / "potstill.toml"
    file.write_text('budget = 2\n[data]\nfile = "texts.csv"\n', encoding="utf-8")
    spec = Spec.from_toml(file, {"seed": 4})
    assert spec.data.file == tmp_path / "texts.csv"
    assert (spec.seed, spec.folder) == (4, tmp_path)


def test_invalid_toml_names_the_line(tmp_path):
    file = tmp_path / "potstill.toml"
    file.write_text("budget = 2\nwhat is this\n", encoding="utf-8")
    with pytest.raises(BadSpec, match="line 2"):
        Spec.from_toml(file)
    with pytest.raises(BadSpec, match="no file"):
        Spec.from_toml(tmp_path / "none.toml")


def test_another_name_drops_the_old_kinds_options_and_the_same_name_keeps_them():
    record = {"student": {"name": "encoder", "epochs": 3}, "data": {"text": "review"}}
    assert merge_specs(record, {"student": {"name": "linear"}})["student"] == {"name": "linear"}
    assert merge_specs(record, {"student": {"name": "encoder"}})["student"] == {"name": "encoder", "epochs": 3}
    assert merge_specs(record, {"data": {"label": "stars"}})["data"] == {"text": "review", "label": "stars"}


def test_the_budget_and_the_paths_are_not_part_of_the_identity():
    one = Spec.from_dict({"budget": 1, "data": {"file": "a.csv"}})
    other = Spec.from_dict({"budget": 2, "data": {"file": "b.csv"}})
    assert one.identity() == other.identity()


def test_differences_are_listed_key_by_key():
    old, new = {"seed": 0, "student": {"name": "linear"}}, {"seed": 1, "student": {"name": "static"}}
    assert diff_specs(old, new) == ["seed was 0 and is 1", 'student.name was "linear" and is "static"']


def test_an_hour_of_this_machine_has_an_assumed_price_that_says_so():
    assert "assumed" in Spec.from_dict({"budget": 1}).compute_rates.source
    assert Spec.from_dict({"budget": 1, "prices": {"usd_per_hour": "1.875"}}).compute_rates.usd_per_hour == 1.875


def test_options_for_the_teacher_override_the_files():
    record = {"budget": 1, "teacher": {"name": "openai:gpt-6-luna", "parallel": 4}}
    teacher = Spec.from_dict(
        merge_specs(record, spec_overrides(None, None, None, {"batch": True, "redact": True}))
    ).teacher
    assert teacher is not None
    assert teacher.options == {"parallel": 4, "batch": True, "redact": True}
    over = spec_overrides("openai:other", None, None, {"base_url": "http://127.0.0.1:1/v1"})
    assert Spec.from_dict(merge_specs(record, over)).teacher.options == {"base_url": "http://127.0.0.1:1/v1"}
