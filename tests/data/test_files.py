"""The files in `tests/files`: one small file a kind, as users bring them, and what each must give.

A row of the table is a file, the options of the command, and either the rows and labels that are read and the sentences
that say what was guessed, or the error. To add a kind: a file, and a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from potstill.api.distill import distill
from potstill.api.init import init
from potstill.cli import make_command
from potstill.data.pool import PoolBuild, PoolOptions, build_pool
from potstill.errors import BadData
from potstill.run.inputs import read_inputs, spec_overrides
from potstill.run.spec import Spec

FOLDER = Path(__file__).parents[1] / "files"
TWO = ("billing", "delivery")


@dataclass(frozen=True)
class Case:
    """A file and what it must give: `rows` read and `labels`, or an error with `refused` in its message.

    `says` are parts of the report's sentences or of the error's hint.
    """

    file: str
    rows: int = 12
    labels: Sequence[str] = TWO
    options: Mapping[str, object] = field(default_factory=dict)
    says: Sequence[str] = ()
    refused: str = ""
    columns: Mapping[str, str] = field(default_factory=lambda: {"text": "text", "label": "label"})
    unlabelled: int = 0
    kind: str = "single"
    soft: bool = False

    def __str__(self) -> str:
        return " ".join([self.file, *map(str, self.options)])


SPLIT = {"text": "text", "label": "label", "split": "split"}
NUMBERED = {"text": "column_1", "label": "column_2"}
LABELS = {"text": "text", "label": "labels"}
FLAGS = {"text": "text", "label": "billing,delivery,refund"}
TWO_FLAGS = FLAGS | {"label": "billing,delivery"}
LONG_LABELS = (
    "Customers who ask about an invoice that they do not understand, or that they do not want to pay",
    "Customers who wait for a parcel that did not come on the day that the shop promised to them",
)
TOPIC = {"text": "text", "label": "topic"}
FILES = [
    Case("plain.csv"),
    # Words for a missing label.
    Case("missing_words.csv", 20, says=["8 rows of missing_words.csv count as unlabelled", "--missing"], unlabelled=8),
    Case("missing_words.csv", 20, ("NaT", *TWO), {"missing": ("nan", "N/A", "null", "None", "-", "?", "<NA>")},
         says=["7 rows of missing_words.csv count as unlabelled as you named it"], unlabelled=7),
    # The name of a split.
    Case("unknown_split.csv", refused="'holdout' (2); first on line 10", says=["test (testing, eval", "--split=-"]),
    Case("unknown_split.csv", options={"split": "split"}, refused="'holdout' (2); first on line 10"),
    Case("unknown_split.csv", options={"split": "-"}),
    # Quotes that open no cell.
    Case("stray_quote.csv", 14, says=["1 row of stray_quote.csv opens a quote", "(line 2)", "--quotes cells"]),
    Case("stray_quote.csv", 8, options={"quotes": "cells"}, says=["1 row runs over several lines"]),
    Case("stray_quote.tsv", 15),
    Case("open_quote.csv", 13, says=["1 row of open_quote.csv opens a quote", "(line 7)"]),
    Case("padded_quotes.csv", says=["The blanks around the quoted cells of padded_", "3 rows run"]),
    Case("several_lines.csv", 14, says=["2 rows run over several lines of several_lines.csv (first: line 14)"]),
    # Equal labels.
    Case("equal_labels.csv", labels=("café", "delivery"), says=["invisible characters"]),
    Case("number_forms.csv", labels=("1", "2"), columns={"text": "text", "label": "stars"}, says=["'1.0' as '1'"]),
    # Headers.
    Case("sep_line.csv"),
    Case("repeated_header.csv", says=["1 row of repeated_header.csv left out: the header, repeated."]),
    Case("no_header.csv", refused="'delivery' is the value of its column in 5 other rows", says=["--no-header"]),
    Case("no_header.csv", options={"header": False}, columns=NUMBERED),
    Case("no_header_numbers.csv", refused="'0' is the value of its column in 5 other rows", says=["--no-header"]),
    Case("no_header_numbers.csv", labels=("0", "1"), options={"header": False}, columns=NUMBERED),
    Case("title_line.csv", refused="The first 2 lines of title_line.csv have fewer cells", says=["--skip-rows 2"]),
    Case("title_line.csv", options={"skip_rows": 2}),
    Case("trailing_delimiter.csv"),
    Case("trailing_delimiter_header.csv"),
    # Encodings.
    Case("one_bad_line.csv", refused="1 bad row: line 8 has bytes that are not UTF-8", says=["--on-bad-row skip"]),
    Case("one_bad_line.csv", options={"on_bad_row": "skip"}, says=["1 bad row of one_bad_line.csv left out: line 8"]),
    Case("cp1252.csv", refused="In cp1252 this line reads", says=["--encoding cp1252"]),
    Case("cp1252.csv", options={"encoding": "cp1252"}),
    Case("utf16.csv", options={"encoding": "cp1252"}, says=["utf16.csv is UTF-16 by its byte-order mark"]),
    Case("marked.csv", options={"encoding": "cp1252"}, says=["marked.csv is UTF-8 by its byte-order mark"]),
    Case("marked.csv"),
    Case("polish.csv", refused="In iso8859-2 this line reads 'Paczka nie dotarła", says=["--encoding iso8859-2"]),
    Case("polish.csv", options={"encoding": "iso8859-2"}),
    Case("greek.csv", refused="In cp1253 this line reads 'Το δέμα", says=["--encoding cp1253"]),
    Case("korean.csv", refused="In cp949 this line reads '택배가", says=["--encoding cp949"]),
    Case("korean.csv", options={"encoding": "euc-kr"}),
    # Columns: the content decides before the name does.
    Case("message_id.csv", columns={"text": "description", "label": "category"}, says=["--text COLUMN"]),
    Case("comment_date.csv", columns={"text": "notes", "label": "label"}),
    Case("addresses.csv", columns={"text": "message", "label": "label"}),
    Case("long_labels.csv", labels=LONG_LABELS),
    # Dialects.
    Case("escaped.csv", says=["escaped.csv: escape '\\'", "--escape overrules this"]),
    Case("escaped.csv", options={"escape": "\\"}),
    Case("escaped.csv", options={"escape": ""}, refused="has a quote inside a quoted cell"),
    Case("sep_line.csv", says=["delimiter ';', which its first line (sep=) says; --delimiter overrules this."]),
    Case("sep_line.csv", options={"delimiter": ";"}),
    Case("sep_other.csv", says=["delimiter ',', which its lines have; its first line says ';' (sep=;)"]),
    Case("sep_other.csv", options={"delimiter": "comma"}),
    # Compressed files, workbooks, and what the bytes say.
    Case("plain.csv.gz"),
    Case("two_tables.zip", refused="holds 2 tables: a.csv, b.csv", says=["Unpack it"]),
    Case("book.xlsx", refused="The first row of book.xlsx has fewer cells than those below", says=["--skip-rows N"]),
    Case("book.xlsx", options={"skip_rows": 1}, says=["sheet 'Tickets'", "others are 'Notes', 'Old'; --sheet"]),
    Case("book.xlsx", options={"sheet": "Tickets", "skip_rows": 1}),
    Case("book.xlsx", options={"sheet": "Tikets"}, refused="it has 'Notes', 'Tickets', 'Old'", says=["'Tickets'?"]),
    Case("tabs.txt", refused="'delivery' is the value of its column in 5 other rows", says=["--no-header"]),
    Case("tabs.txt", options={"format": "txt"}, refused="No row has a label", says=["--label COLUMN"]),
    Case("tabs.txt", options={"header": False}, columns={"text": "column_2", "label": "column_1"}),
    # Prodigy's answers.
    Case("prodigy.jsonl", says=["2 rows of prodigy.jsonl with the answer 'reject': read as unlabelled",
                                "1 row of prodigy.jsonl with the answer 'ignore'", "--answer=-"], unlabelled=3),
    Case("prodigy.jsonl", options={"answer": "-"}),
    Case("prodigy_one_label.jsonl", labels=("billing", "not billing"), says=["read as the label 'not billing'"]),
    Case("plain.csv", options={"delimiter": "comma", "header": True}),
    # Lists in a cell.
    Case("json_lists.csv", says=["Each list of labels in json_lists.csv has one", "--kind multi"]),
    Case("json_lists.csv", options={"kind": "multi"}, kind="multi", says=["may have several labels, a list"]),
    Case("python_lists.csv", kind="multi", columns=LABELS, says=["2 rows of python_lists.csv have several labels "
                                                                 "(first: line 4)", "--kind single"]),
    Case("numpy_lists.csv", kind="multi", columns=LABELS, says=["a list"]),
    Case("some_lists.jsonl", kind="multi", says=["2 rows of some_lists.jsonl have several labels (first: line 3)"]),
    Case("some_lists.jsonl", options={"kind": "single", "on_conflict": None},
         says=["2 rows of some_lists.jsonl with several labels in a task of one (first: line 3, 8): left out",
               "--on-conflict first takes the first label; --kind multi reads all"]),
    Case("some_lists.jsonl", options={"kind": "single"}, says=["the first label is taken; --kind multi reads all"]),
    Case("some_lists.jsonl", options={"kind": "single", "on_conflict": "error"}, says=["--on-conflict first"],
         refused="2 rows of some_lists.jsonl with several labels in a task of one (first: line 3, 8)"),
    Case("quoted_labels.csv", unlabelled=1, says=["1 row of quoted_labels.csv with an empty list or no score"]),
    Case("broken_list.csv", refused="line 6: '[\"billing\", \"deliv' is neither JSON", says=["--on-bad-row skip"]),
    Case("broken_list.csv", options={"on_bad_row": "skip"}, kind="multi", says=["1 row of broken_list.csv left out"]),
    Case("zeros_and_ones.csv", refused="lists of 2 zeros and ones without names", says=["--labels FIRST,SECOND"]),
    Case("zeros_and_ones.csv", options={"labels": TWO}, kind="multi"),
    Case("hash_labels.csv", kind="multi", says=["separated by '#' (--kind single if each cell is one label)"]),
    Case("hash_labels.csv", options={"label_separator": "#"}, kind="multi"),
    # Objects in a cell.
    Case("choices_objects.csv", kind="multi", says=["2 rows of choices_objects.csv have several labels"]),
    Case("one_score.jsonl", says=["Each row of one_score.jsonl scores one label with 1", "--kind multi"]),
    Case("soft_scores.jsonl", soft=True, says=["scores that sum to one: read as soft labels", "--kind multi"]),
    Case("soft_scores.jsonl", options={"kind": "multi"}, kind="multi", says=["with a score of at least 0.5"]),
    Case("votes.jsonl", soft=True, says=["The labels of votes.jsonl are counts"]),
    Case("free_scores.jsonl", kind="multi", says=["with a score of at least 0.5; --kind single takes the highest"]),
    Case("free_scores.jsonl", options={"kind": "single"}),
    # One column, or one row, a label.
    Case("flag_columns.csv", labels=(*TWO, "refund"), kind="multi", columns=FLAGS,
         says=["a column of 0 and 1 for each label: billing,delivery,refund", "--label COLUMN,COLUMN"]),
    Case("flag_columns_unused.csv", columns=TWO_FLAGS | {"label": "billing,delivery,other"}, kind="multi",
         says=["No row of flag_columns_unused.csv has the label 'other', although it is scored"]),
    Case("flag_columns.csv", options={"label": "billing,delivery"}, kind="multi", columns=TWO_FLAGS),
    Case("flag_columns.csv", labels=("0", "1"), options={"label": "billing"}, columns=FLAGS | {"label": "billing"}),
    Case("one_hot.csv", columns=FLAGS | {"label": "label_billing,label_delivery"}, says=["scores one label with 1"]),
    Case("numbered_columns.csv", kind="multi", columns=FLAGS | {"label": "label_1,label_2"},
         says=["numbered_columns.csv has labels in numbered columns: label_1,label_2"]),
    Case("crosses.csv", kind="multi", columns=TWO_FLAGS),
    Case("one_row_a_label.csv", 14, options={"on_conflict": None}, kind="multi",
         says=["2 texts of one_row_a_label.csv have several rows (first: line 4)", "--kind single"]),
    Case("one_row_a_label.csv", 14, options={"kind": "single"}, says=["2 texts have different labels"]),
    # Exports of labelling tools.
    Case("label_studio.json", columns=TOPIC, unlabelled=2, says=[
        "export of Label Studio: 12 tasks with 10 annotations", "1 annotation was skipped", "1 task has predictions"]),
    Case("label_studio_controls.json", kind="multi", columns=TOPIC,
         says=["It has the controls 'tone', 'topic', and 'topic' is the label; another: --label tone",
               "The control 'words' does not label the whole text: 11 results not read"]),
    Case("label_studio_controls.json", labels=("angry", "calm"), options={"label": "tone"},
         columns=TOPIC | {"label": "tone"}, unlabelled=1),
    Case("label_studio_taxonomy.json", labels=("mail / billing", "mail / delivery"), kind="multi", columns=TOPIC),
    Case("label_studio_taxonomy.json", options={"labels": TWO}, kind="multi", columns=TOPIC),
    Case("label_studio_min.json", labels=TWO, columns=TOPIC, says=["export of Label Studio", "another: --label tone"]),
    Case("label_studio.csv", kind="multi", columns=TOPIC, says=["label_studio.csv as an export of Label Studio"]),
    Case("prodigy_choice.jsonl", kind="multi", columns=FLAGS | {"label": "accept"}, unlabelled=1,
         says=["as an export of Prodigy: 12 texts", "1 row of prodigy_choice.jsonl with the answer 'ignore'"]),
    Case("prodigy_cats.jsonl", columns=FLAGS | {"label": "cats"}, says=["as an export of Prodigy"]),
    Case("doccano.jsonl", kind="multi", says=["doccano.jsonl as an export of doccano: 12 texts"]),
    Case("doccano_data.jsonl", columns={"text": "data", "label": "label"}, unlabelled=1,
         says=["1 row of doccano_data.jsonl with an empty list", "unlabelled"]),
    Case("doccano.csv", kind="multi", columns={"text": "data", "label": "label"}, says=["separated by '#'"]),
    Case("doccano_spans.jsonl", refused="marks parts of a text (start, end, label) and does not label the text",
         says=["--on-bad-row skip"]),
    Case("argilla.json", columns=TOPIC, unlabelled=1,
         says=["as an export of Argilla: 12 records", "1 record has a suggestion and no submitted response"]),
    Case("argilla_flat.jsonl", kind="multi", says=["as an export of Argilla"]),
    Case("argilla_suggestions.json", columns=TOPIC | {"label": "topic.suggestion"},
         options={"label": "topic.suggestion"}),
    Case("argilla_suggestions.json", columns={}, refused="No row has a label",
         says=["--label topic.suggestion"]),
    Case("argilla_1.jsonl", columns=FLAGS | {"label": "annotation"}, unlabelled=1, says=["11 with an annotation"]),
    Case("argilla_feedback.json", columns=TOPIC),
    Case("spacy.jsonl", kind="multi", columns=FLAGS | {"label": "cats"}, says=["examples of spaCy's text categoriser"]),
    Case("spacy_examples.json", columns=FLAGS | {"label": "cats"}),
    Case("docbin.spacy", refused="docbin.spacy is spaCy's binary format, which is not read", says=["DocBin"]),
    Case("chat.jsonl", says=["the last turn of the user is the text", "12 chats have a system turn, which"]),
    Case("chat_turns.jsonl", says=["12 chats have earlier turns, which are not read", "Each list"]),
    Case("chat_sharegpt.jsonl"),
    Case("completions.jsonl", columns={"text": "prompt", "label": "completion"}, says=["the prompt is the text"]),
    Case("chat_parts.jsonl", says=["12 chats have a system turn"]),
    Case("instructions.jsonl", columns={"text": "input", "label": "output"}, says=["not read: instruction"]),
    Case("fasttext.txt", kind="multi", says=["fasttext.txt holds lines of fastText"]),
    Case("control_characters.csv", says=["3 rows of control_characters.csv had a label with invisible characters"]),
]  # fmt: skip


def build(case: Case) -> PoolBuild:
    given = {"on_conflict": "first", **case.options}
    labels = given.pop("labels", ())
    return build_pool(FOLDER / case.file, labels=labels, options=PoolOptions(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", FILES, ids=str)
def test_a_file_gives_what_its_row_says(case: Case) -> None:
    if case.refused:
        with pytest.raises(BadData) as caught:
            build(case)
        error = caught.value
        said = f"{error.message} {error.hint}"
        assert case.refused in error.message
        assert error.hint
    else:
        built = build(case)
        said = " ".join(built.report.sentences())
        (source,) = built.report.sources
        assert (source.rows, source.columns) == (case.rows, case.columns)
        assert built.pool.labels == tuple(case.labels)
        assert built.pool.kind == case.kind
        assert (built.pool.soft is not None) == case.soft
        assert built.report.counts["pool"]["unlabelled"] == case.unlabelled
    for part in case.says:
        assert part in said


def test_every_file_of_the_corpus_has_a_row() -> None:
    oracles = {"text2text_oracles.json"}  # of the metrics: no table
    assert {case.file for case in FILES} == {path.name for path in FOLDER.iterdir()} - oracles


@pytest.mark.parametrize("case", [case for case in FILES if case.says], ids=str)
def test_each_flag_in_a_sentence_is_one_of_the_command(case: Case) -> None:
    flags = {flag for parameter in make_command(distill).params for flag in parameter.opts}
    try:
        said = " ".join(build(case).report.sentences())
    except BadData as error:
        said = f"{error.message} {error.hint}"
    assert set(re.findall(r"--[a-z][a-z-]*", said)) <= flags


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("no_header.csv", {"no_header": True}),
        ("title_line.csv", {"skip_rows": 2}),
        ("cp1252.csv", {"encoding": "cp1252"}),
        ("missing_words.csv", {"missing": "nan,None"}),
        ("unknown_split.csv", {"split": "-"}),
        ("stray_quote.tsv", {"quotes": "text", "delimiter": "tab"}),
        ("one_bad_line.csv", {"on_bad_row": "skip"}),
        ("python_lists.csv", {"label_separator": "json", "kind": "multi"}),
        ("hash_labels.csv", {"label_separator": "#"}),
        ("flag_columns.csv", {"label": "billing,delivery", "kind": "multi"}),
        ("label_studio_controls.json", {"label": "tone", "kind": "single"}),
    ],
)
def test_init_takes_the_flags_its_errors_name_and_writes_them(
    tmp_path: Path, file: str, options: dict[str, object]
) -> None:
    written = init(FOLDER / file, out=tmp_path / "potstill.toml", **options)  # type: ignore[arg-type]
    spec = Spec.from_toml(written.file)
    expected = spec_overrides(None, None, 1, options)["data"]
    assert {key: spec.data.model_dump(mode="json")[key] for key in expected} == expected
    guessed = "--delimiter overrules this."  # and is a key of the file now, as is the procedure
    kept = [sentence for sentence in written.sentences if not sentence.endswith(guessed)]
    said = tuple(sentence for sentence in kept if not sentence.startswith("Every text has a label"))
    assert read_inputs(written.file, None, {}).messages[1:] == said[1:]


def test_several_columns_of_labels_are_a_list_in_a_toml_file() -> None:
    spec = Spec.from_dict({"budget": 1, "data": {"label": ["billing", "delivery"]}})
    assert spec.data.label == "billing,delivery"


@pytest.mark.parametrize("file", sorted({case.file for case in FILES if not case.options and not case.refused}))
def test_what_init_writes_is_read_as_the_file_itself(tmp_path: Path, file: str) -> None:
    written = init(FOLDER / file, out=tmp_path / "potstill.toml")
    direct = read_inputs(FOLDER / file, None, {"budget": 1})
    again = read_inputs(written.file, None, {})
    assert (again.task.kind, again.task.labels) == (direct.task.kind, direct.task.labels)
    assert again.pool.key == direct.pool.key
