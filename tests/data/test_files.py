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

    def __str__(self) -> str:
        return " ".join([self.file, *map(str, self.options)])


SPLIT = {"text": "text", "label": "label", "split": "split"}
NUMBERED = {"text": "column_1", "label": "column_2"}
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
    # Prodigy's answers.
    Case("prodigy.jsonl", says=["2 rows of prodigy.jsonl with the answer 'reject': read as unlabelled",
                                "1 row of prodigy.jsonl with the answer 'ignore'", "--answer=-"], unlabelled=3),
    Case("prodigy.jsonl", options={"answer": "-"}),
    Case("prodigy_one_label.jsonl", labels=("billing", "not billing"), says=["read as the label 'not billing'"]),
    Case("plain.csv", options={"delimiter": "comma", "header": True}),
]  # fmt: skip


def build(case: Case) -> PoolBuild:
    options = PoolOptions(on_conflict="first", **case.options)  # type: ignore[arg-type]
    return build_pool(FOLDER / case.file, options=options)


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
        assert built.report.counts["pool"]["unlabelled"] == case.unlabelled
    for part in case.says:
        assert part in said


def test_every_file_of_the_corpus_has_a_row() -> None:
    assert {case.file for case in FILES} == {path.name for path in FOLDER.iterdir()}


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
    ],
)
def test_init_takes_the_flags_its_errors_name_and_writes_them(
    tmp_path: Path, file: str, options: dict[str, object]
) -> None:
    written = init(FOLDER / file, out=tmp_path / "potstill.toml", **options)  # type: ignore[arg-type]
    spec = Spec.from_toml(written.file)
    expected = spec_overrides(None, None, 1, options)["data"]
    assert {key: spec.data.model_dump(mode="json")[key] for key in expected} == expected
    guessed = "--delimiter overrules this."  # and is a key of the file now
    said = tuple(sentence for sentence in written.sentences if not sentence.endswith(guessed))
    assert read_inputs(written.file, None, {}).messages[1:] == said[1:]
