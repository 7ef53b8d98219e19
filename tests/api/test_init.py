"""`init` writes what was read and guessed as keys with reasons, and the reader takes the file as it is."""

from __future__ import annotations

import json
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.tables import workbook

from potstill.api.annotate import label_errors
from potstill.api.init import init
from potstill.data.printable import escape_controls
from potstill.errors import BadData, BadSpec, PotstillError
from potstill.run.inputs import read_inputs

ROWS = [(f"the thing {i} broke, and I wait", "ab"[i % 2]) for i in range(30)]
CASES = {
    "semicolons.csv": ("text;label\n" + "".join(f'"{t}";{y}\n' for t, y in ROWS)).encode(),
    "utf16.tsv": ("text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in ROWS)).encode("utf-16"),
    "escaped.csv": ("text,label\n" + "".join(f'"she said \\"{t}\\"",{y}\n' for t, y in ROWS)).encode(),
    "declared.csv": ("sep=;\ntext;label\n" + "".join(f"{t};{y}\n" for t, y in ROWS)).encode(),
    "lines.jsonl": "".join(f'{{"text": "{t}", "label": "{y}"}}\n' for t, y in ROWS).encode(),
    "book.xlsx": workbook({"Notes": [], "Old \x27s": [["text", "label"], *ROWS]}),
    "odd\u001b name.csv": ("message,\x1bkind\n" + "".join(f'"{t}",{y}\n' for t, y in ROWS)).encode(),
}


def test_a_frame_is_no_file() -> None:
    for frame in ([{"text": "a", "label": "b"}], 7):
        with pytest.raises(BadSpec, match="names data files"):
            init(frame)


@pytest.mark.parametrize("name", CASES)
def test_the_toml_file_shows_what_was_guessed_and_reads_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CASES[name])
    inputs = read_inputs(path, None, {"budget": 1})
    written = init(path)
    text = written.file.read_text(encoding="utf-8")
    data = tomllib.loads(text)["data"]
    again = read_inputs(written.file, None, {})
    assert again.pool.key == inputs.pool.key
    assert again.layout == inputs.layout
    assert again.guesses == ()
    for guess in inputs.guesses:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{guess.key} = ")]
        assert f"# guessed: {guess.reason}" in line
        assert guess.key in data
    assert "\x1b" not in text


NEXT = {
    "single": ("text,label\n" + "".join(f"{t!r},{y}\n".replace("'", '"') for t, y in ROWS), {}, True),
    "pair": ("text,text_b,label\n" + "".join(f"first {i},second {i},{'ab'[i % 2]}\n" for i in range(30)), {}, True),
    "one label, and few": ("text,label\n" + "".join(f"thing {i},{'ab'[i % 2]}\n" for i in range(8)), {}, False),
    "several": (
        "text,label\n" + "".join(f"thing {i},{'a|b' if i % 2 else 'b'}\n" for i in range(30)),
        {"kind": "multi"},
        False,
    ),
    "answers": ("text,answer\n" + "".join(f"thing {i},one says {i}\n" for i in range(30)), {"form": "free"}, False),
}


@pytest.mark.parametrize("name", NEXT)
def test_label_errors_is_the_next_step_where_it_works(tmp_path: Path, name: str) -> None:
    content, options, works = NEXT[name]
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    written = init(path, **options)
    assert ("label-errors" in written.to_text()) == works
    if works:
        assert label_errors(written.file).n_checked
    else:
        with pytest.raises(PotstillError):
            label_errors(written.file)


def test_a_file_without_an_unlabelled_text_proposes_what_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(NEXT["single"][0], encoding="utf-8")
    written = init(path, out=tmp_path / "all.toml")
    spec = tomllib.loads(written.file.read_text(encoding="utf-8"))
    assert (spec["procedure"]["name"], "teacher" in spec) == ("finetune", False)
    assert "pool =" in written.to_text()
    assert f"potstill distill {written.file.name}" in written.file.read_text(encoding="utf-8").splitlines()[0]
    path.write_text(f"{NEXT['single'][0]}a thing without a label,\n", encoding="utf-8")
    spec = tomllib.loads(init(path, out=tmp_path / "some.toml").file.read_text(encoding="utf-8"))
    assert (spec["procedure"]["name"], "teacher" in spec) == ("kd", True)


def test_where_no_teacher_is_asked_its_table_is_a_comment_and_init_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"

    def proposed(**options: str) -> tuple[dict, str]:
        written = init(path, force=True, **options)
        text = written.file.read_text(encoding="utf-8")
        assert read_inputs(written.file, None, {}).pool.key
        return tomllib.loads(text), f"{text}{written.to_text()}"

    path.write_text(NEXT["several"][0] + "a thing without a label,\n", encoding="utf-8")
    spec, text = proposed(kind="multi")
    assert (spec["procedure"]["name"], "teacher" in spec) == ("finetune", False)
    assert '# [teacher]\n# name = "trained"' in text
    assert "[teacher] is commented out" in text
    spec, text = proposed(kind="multi", teacher="openai:m", base_url="http://127.0.0.1:9/v1")
    assert (spec["procedure"]["name"], spec["teacher"]["name"]) == ("kd", "openai:m")
    assert "commented out" not in text
    path.write_text(NEXT["several"][0], encoding="utf-8")
    spec, text = proposed(kind="multi", teacher="openai:m", base_url="http://127.0.0.1:9/v1")
    assert (spec["procedure"]["name"], "teacher" in spec) == ("finetune", False)
    assert '# base_url = "http://127.0.0.1:9/v1"' in text
    path.write_text(NEXT["answers"][0], encoding="utf-8")
    spec, text = proposed(form="free", teacher="openai:m")
    assert (spec["procedure"]["name"], "teacher" in spec) == ("finetune", False)
    assert "Every text has an answer" in text
    path.write_text(f"{NEXT['answers'][0]}what is without one,\n", encoding="utf-8")
    spec, text = proposed(form="free", teacher="openai:m")
    assert (spec["procedure"]["name"], spec["teacher"]["name"]) == ("kd", "openai:m")
    spec, text = proposed(form="free")
    assert (spec["procedure"]["name"], "[teacher]" in text) == ("finetune", False)


odd_names = st.text(min_size=1, max_size=12) | st.text(
    "\x1b\x07\x9b\x7f\r\n\t\u202e\u2028\\\"'#=~ab", min_size=1, max_size=12
)
HOSTILE = 'a\x1b[2J\x9b\u202e\\"'


@settings(max_examples=40)
@given(odd_names, odd_names, odd_names, odd_names)
@example(HOSTILE, HOSTILE, f"{HOSTILE} y", f"{HOSTILE} s")
@example("~$book", "text", "la\n[data]", "third")
def test_any_name_that_is_read_is_the_same_name_in_the_toml_file(file: str, text: str, label: str, split: str) -> None:
    assume(len({text, label, split}) == 3)
    rows = [
        {text: f"the thing {i} broke", label: f"{label} {i % 2}", split: "test" if i % 5 else label} for i in range(30)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{file}.jsonl"
        try:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        except (OSError, ValueError):
            return  # no file can have such a name
        try:
            inputs = read_inputs(path, None, {"budget": 1})
        except (BadData, BadSpec):
            return
        written = init(path).file.read_text(encoding="utf-8")
        toml = tomllib.loads(written)
        assert toml["data"]["file"] == path.name
        assert toml["task"]["name"] == inputs.name
        assert toml["task"]["labels"] == list(inputs.task.labels)
        assert inputs.columns.items() <= toml["data"].items()
        assert escape_controls(written) == written
        assert read_inputs(path.with_name("potstill.toml"), None, {}).pool.key == inputs.pool.key
