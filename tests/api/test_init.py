"""`init` writes what was read and guessed as keys with reasons, and the reader takes the file as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from support.tables import workbook

from potstill.api.init import init
from potstill.errors import BadSpec
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
