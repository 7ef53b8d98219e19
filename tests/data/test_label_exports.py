"""Exports of labelling tools: any content of their columns is read or refused, and annotators are kept apart."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.label_exports import read_export
from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.errors import BadData, BadSpec

KEYS = (
    "data annotations predictions completions result from_name type value choices taxonomy text label labels cats "
    "fields responses suggestions status user_id values question_name messages role content parts conversations from "
    "accept options answer meta completed_by email was_cancelled start end score annotation prediction inputs"
).split()
COLUMNS = [
    ["data", "annotations"],
    ["data", "predictions", "annotations"],
    ["text", "id", "topic", "annotator", "annotation_id"],
    ["text", "accept", "answer", "_task_hash"],
    ["id", "text", "label", "Comments"],
    ["id", "data", "annotations"],
    ["fields", "responses", "suggestions"],
    ["text", "q.responses", "q.responses.users", "q.responses.status", "q.suggestion"],
    ["inputs", "prediction", "annotation"],
    ["text", "cats"],
    ["column_1", "column_2"],
    ["messages", "system"],
    ["contents"],
    ["conversations"],
    ["prompt", "completion"],
    ["instruction", "input", "output"],
    ["line"],
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab ", max_size=3) | st.sampled_from(["user", "assistant"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_content_of_the_columns_of_an_export_is_read_or_refused(data: st.DataObject) -> None:
    names = data.draw(st.sampled_from(COLUMNS))
    rows = data.draw(st.lists(st.tuples(*(VALUES for _ in names)), min_size=1, max_size=3))
    table = Table.from_columns({name: [row[n] for row in rows] for n, name in enumerate(names)}, "a.json")
    export = read_export(table, data.draw(st.sampled_from(["", "topic", "label"])), ["a", "b"])
    if export is not None:
        assert export.sentences
        assert {len(cells) for cells in export.table.cells.values()} <= {len(export.table)}
        assert export.label in ("", *export.table.columns)
    with contextlib.suppress(BadData, BadSpec):
        build_pool(table)


def studio(answers: list[list[str]], *controls: str) -> Table:
    """Tasks with an annotation for each answer; the first control gets the answer, and the others a tone."""

    def results(n: int, answer: str) -> list[dict[str, object]]:
        chosen = [answer] + [["calm", "angry"][n % 2]] * (len(controls) - 1)
        return [
            {"from_name": control, "type": "choices", "value": {"choices": [choice]}}
            for control, choice in zip(controls, chosen, strict=True)
        ]

    texts = [{"text": f"text number {n} of these", "source": "mail"} for n in range(len(answers))]
    annotations = [
        [{"completed_by": by, "result": results(n, answer)} for by, answer in enumerate(given)]
        for n, given in enumerate(answers)
    ]
    return Table.from_columns({"data": texts, "annotations": annotations}, "a.json")


def test_annotators_who_disagree_are_contradicting_labels_and_not_several() -> None:
    built = build_pool(studio([["a", "a"], ["a", "b"], ["b", "b"], ["b"], ["a", "a"]] * 1, "topic"))
    assert built.pool.kind == "single"
    assert built.report.cleaning.conflicting_texts == 1
    assert len(built.pool) == 4


def test_the_control_that_asks_for_the_named_labels_is_the_label() -> None:
    table = studio([["a"], ["b"]] * 6, "topic", "tone")
    assert build_pool(table).pool.labels == ("a", "b")
    toned = build_pool(table, labels=["calm", "angry"], options=PoolOptions(test_share=0))
    assert toned.report.sources[0].columns["label"] == "tone"


@pytest.mark.parametrize("key", ["text", "$undefined$", "review"])
def test_the_text_is_found_whatever_its_key(key: str) -> None:
    rows = [{key: f"text number {n} of these", "id": n} for n in range(12)]
    result = [{"from_name": "topic", "type": "choices", "value": {"choices": ["a"]}}]
    other = json.loads(json.dumps(result).replace('"a"', '"b"'))
    table = Table.from_columns(
        {"data": rows, "annotations": [[{"result": [result, other][n % 2]}] for n in range(12)]}, "a.json"
    )
    assert build_pool(table).report.sources[0].columns["text"] == key


def test_an_export_with_suggestions_alone_names_the_flag_that_reads_them() -> None:
    rows = [{"question_name": "topic", "value": label} for label in ("food", "sport")] * 10
    table = Table.from_columns(
        {
            "fields": [{"text": f"a text of number {i}"} for i in range(20)],
            "responses": [[]] * 20,
            "suggestions": [[row] for row in rows],
        },
        "records.json",
    )
    with pytest.raises(BadData, match="No row has a label: records") as refused:
        build_pool(table)
    assert "--label topic.suggestion" in refused.value.hint
    assert set(build_pool(table, options=PoolOptions(label="topic.suggestion")).pool.labels) == {"food", "sport"}
    assert build_pool(table, labels=["food", "sport"]).report.sizes["pool"] == 20
    gold = Table.from_columns({"text": [f"gold {i}" for i in range(4)], "label": ["food", "sport"] * 2})
    assert build_pool({"pool": table, "train": gold}).report.sizes["pool"] == 20
