"""The replay teacher keeps to what it states: accuracy, calibration, confusion, failures, price. It says what it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadData, BadSpec, TeacherError, UnknownPrice
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.replay import ReplayTeacher, open_teacher
from potstill.testing import TeacherContract

TASK = Task(("food", "sport", "money"))
WORDS = {
    "food": ("soup", "bread", "stadium snack"),
    "sport": ("match", "goal", "stadium"),
    "money": ("bank", "loan", "shares"),
}


def rows(n: int, prefix: str = "") -> list[tuple[str, str]]:
    return [
        (f"{prefix}{WORDS[label][i // 3 % 3]} number {i} of {label}", label)
        for i, label in ((i, TASK.labels[i % 3]) for i in range(n))
    ]


def write(path: Path, pairs: Sequence[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *pairs])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "known.csv", rows(3000))
    write(tmp_path / "more.csv", rows(90, "held back "))
    return tmp_path


def replay(folder: Path, seed: int = 0, run_folder: Path | None = None, **options: Any) -> ReplayTeacher:
    asked = {"file": "known.csv", "usd_per_million_tokens": 1, **options}
    return open_teacher(TeacherSetup(TASK, options=asked, workspace=folder, seed=seed, run_folder=run_folder))


def said(teacher: ReplayTeacher, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) whether the answer was right, and (N,) the confidence in it."""
    answers = teacher.answer([text for text, _ in pairs]).answers
    probs = np.exp(np.array([answer.scores for answer in answers]))
    gold = np.array([TASK.index(label) for _, label in pairs])
    return probs.argmax(1) == gold, probs.max(1)


class TestContract(TeacherContract):
    """The shared promises."""

    task: ClassVar[Task] = TASK
    texts: ClassVar[tuple[str, ...]] = tuple(text for text, _ in rows(12))
    example: ClassVar[LabelledText] = LabelledText("soup of the day", "food")
    simulated: ClassVar[bool] = True
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _files(self, folder: Path) -> None:
        self.folder = folder

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        options = {"file": "known.csv", "generate_from": "more.csv", "usd_per_million_tokens": 1, **self.options}
        return open_teacher(TeacherSetup(task, "", examples, options, workspace=self.folder))


class TestContractAsHuman(TestContract):
    """The same, paid by the label."""

    options: ClassVar[dict[str, Any]] = {"usd_per_million_tokens": None, "usd_per_label": 0.1, "confusion": "uniform"}


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("confusion", ["near", "uniform"])
def test_the_given_accuracy_is_reached(folder: Path, accuracy: float, confusion: str) -> None:
    right, _ = said(replay(folder, accuracy=accuracy, confusion=confusion), rows(3000))
    assert right.mean() == pytest.approx(accuracy, abs=0.035)  # four standard errors at 0.5


def test_a_perfect_teacher_makes_no_mistake(folder: Path) -> None:
    right, _ = said(replay(folder, accuracy=1), rows(300))
    assert right.all()


@pytest.mark.parametrize("softness", [0.2, 0.5, 0.8])
def test_confidence_is_calibrated_and_separates_right_from_wrong(folder: Path, softness: float) -> None:
    right, confidence = said(replay(folder, accuracy=0.75, softness=softness), rows(3000))
    assert confidence[right].mean() > confidence[~right].mean() + 0.01
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        there = (confidence > low) & (confidence <= high)
        if there.sum() > 200:
            assert right[there].mean() == pytest.approx(confidence[there].mean(), abs=0.14)


def test_softness_lowers_the_information_of_the_confidence(folder: Path) -> None:
    spreads = [said(replay(folder, softness=softness), rows(600))[1].std() for softness in (0.0, 0.5, 1.0)]
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 1e-6


def test_mistakes_go_to_the_label_that_is_like_the_text(folder: Path) -> None:
    teacher = replay(folder, accuracy=0.5)
    snacks = [text for text, label in rows(3000) if label == "food" and "stadium" in text]
    wrong = [answer.raw for answer in teacher.answer(snacks).answers if answer.raw != "food"]
    assert wrong.count("sport") > 1.5 * wrong.count("money")


def test_answers_depend_on_the_text_and_the_seed_alone(folder: Path) -> None:
    texts = [text for text, _ in rows(60)]
    once = replay(folder).answer(texts).answers
    assert replay(folder).answer(texts[::-1]).answers[::-1] == once
    assert replay(folder, seed=1).answer(texts).answers != once
    assert replay(folder).answer([f"  {texts[0]}\n"]).answers[0] == once[0]


def test_a_text_without_a_known_label_is_unparsable(folder: Path) -> None:
    assert replay(folder).answer(["never seen"]).answers[0].state == "unparsable"


def test_several_files_are_read_and_the_first_takes_precedence(folder: Path) -> None:
    write(folder / "more.csv", [(rows(1)[0][0], "money"), ("another text", "sport")])
    teacher = replay(folder, file=["known.csv", "more.csv"], accuracy=1)
    assert [answer.raw for answer in teacher.answer([rows(1)[0][0], "another text"]).answers] == ["food", "sport"]


def test_the_given_share_fails(folder: Path) -> None:
    states = [answer.state for answer in replay(folder, failure_rate=0.3).answer([t for t, _ in rows(1000)]).answers]
    assert states.count("failed") / 1000 == pytest.approx(0.3, abs=0.06)


def test_it_costs_the_given_price(folder: Path) -> None:
    human = replay(folder, usd_per_million_tokens=None, usd_per_label="0.129")
    reply = human.answer([text for text, _ in rows(10)])
    assert human.price.cost_micros(reply.usage) == 1_290_000
    assert human.category == "human"
    llm = replay(folder, usd_per_million_tokens=2, prompt_tokens=100)
    assert llm.price.cost_micros(llm.answer(["four"]).usage) == 2 * (100 + 1 + 1)
    with pytest.raises(UnknownPrice, match="price"):
        replay(folder, usd_per_million_tokens=None)


def test_it_generates_real_texts_near_those_of_the_request(folder: Path) -> None:
    teacher = replay(folder, generate_from="more.csv")
    brief = GenerationRequest("sport", 2, examples=[LabelledText("stadium number 1", "sport")])
    draft = teacher.generate(brief)
    assert len(draft.texts) == 2
    assert all("stadium" in item.text and item.label == "sport" for item in draft.texts)
    assert {item.text for item in draft.texts} <= {text for text, _ in rows(90, "held back ")}
    assert teacher.generate(brief) == draft
    assert teacher.generate(GenerationRequest("sport", 2, brief.examples, seed=1)) != draft
    assert (
        teacher.generate(GenerationRequest("sport", 1000)).usage.output_tokens
        <= teacher.max_generation_usage(GenerationRequest("sport", 1000)).output_tokens
    )


def test_it_never_generates_a_text_of_the_request(folder: Path) -> None:
    shown = [LabelledText(text, label) for text, label in rows(90, "held back ") if label == "food"][:25]
    texts = replay(folder, generate_from="more.csv").generate(GenerationRequest("food", 30, examples=shown)).texts
    assert len(texts) == 5
    assert not {item.text for item in texts} & {item.text for item in shown}


def test_no_text_is_generated_for_two_requests_also_by_the_next_session(folder: Path) -> None:
    options = {"generate_from": "more.csv"}
    first = replay(folder, run_folder=folder, **options)
    rounds = [first.generate(GenerationRequest("food", 8, seed=seed)) for seed in (0, 1)]
    again = replay(folder, run_folder=folder, **options)
    rounds.append(again.generate(GenerationRequest("food", 8, seed=2)))
    texts = [item.text for draft in rounds for item in draft.texts]
    assert len(set(texts)) == len(texts) == 24
    assert again.generate(GenerationRequest("food", 8, seed=0)) == rounds[0]
    (folder / "replay_served.json").write_text("[1")
    assert len(replay(folder, run_folder=folder, **options).generate(GenerationRequest("food", 8, seed=2)).texts) == 8


def test_it_cannot_generate_without_generate_from(folder: Path) -> None:
    with pytest.raises(TeacherError, match="write"):
        replay(folder).max_generation_usage(GenerationRequest("food", 1))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"file": "none.csv"}, BadData),
        ({"label": "class"}, BadData),
        ({"accuracy": 0.2}, BadSpec),
        ({"accuracy": 1.2}, BadSpec),
        ({"confusion": "far"}, BadSpec),
        ({"acuracy": 0.9}, BadSpec),
    ],
    ids=str,
)
def test_invalid_options_raise_one_sentence(folder: Path, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        replay(folder, **options)
    assert caught.value.hint  # type: ignore[attr-defined]


def test_a_label_of_another_task_is_named_with_its_line(folder: Path) -> None:
    write(folder / "known.csv", [("soup", "food"), ("match", "sports")])
    with pytest.raises(BadData, match=r"line 3.*sports.*sport"):
        replay(folder)


@pytest.mark.parametrize(
    "spell",
    [
        str.upper,
        lambda label: f" {label} ",
        lambda label: f"{label}\u200b",
        lambda label: json.dumps([label]),
        lambda label: json.dumps({each: float(each == label) for each in TASK.labels}),
    ],
)
def test_labels_are_read_like_those_of_data_and_changes_are_in_the_report(
    folder: Path, spell: Callable[[str], str]
) -> None:
    pairs = rows(60)
    write(folder / "known.csv", [(text, spell(label)) for text, label in pairs])
    teacher = replay(folder, accuracy=1)
    assert said(teacher, pairs)[0].all()
    if spell is str.upper:
        assert "spells labels otherwise than the task" in str(teacher.metadata.to_facts()["labels"])


def test_an_export_of_a_labelling_tool_is_replayed_without_naming_its_columns(folder: Path) -> None:
    pairs = rows(60)
    lines = [json.dumps({"id": n, "data": text, "label": [label]}) for n, (text, label) in enumerate(pairs)]
    (folder / "doccano.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert said(replay(folder, file="doccano.jsonl", accuracy=1), pairs)[0].all()
    write(folder / "named.csv", pairs, header=("message", "topic"))
    assert said(replay(folder, file="named.csv", accuracy=1), pairs)[0].all()


def test_a_row_with_two_labels_in_a_task_of_one_is_named(folder: Path) -> None:
    write(folder / "known.csv", [("soup", "food"), ("match", json.dumps(["sport", "food"]))])
    with pytest.raises(BadData, match=r"known.csv, line 3: 2 labels \(sport, food\)"):
        replay(folder)
