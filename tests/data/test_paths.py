"""data/paths.py: a name that anyone may have chosen becomes the name of one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.api.init import init
from potstill.data.paths import as_path, as_text, folder_name, utf8_folder
from potstill.errors import BadSpec
from potstill.run.inputs import read_inputs


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("film reviews", "film-reviews"),
        ("../../x", "x"),
        ("/etc/cron.d/x", "etc-cron.d-x"),
        ("..\\x", "x"),
        ("C:\\x", "C-x"),
        ("..", "run"),
        ("", "run"),
        ("a\x1b[2Jb", "a-[2Jb"),
        ("Ünïcode v1.2", "Ünïcode-v1.2"),
    ],
)
def test_a_folder_is_named_after_a_task_and_lies_where_it_should(name: str, folder: str) -> None:
    assert folder_name(name) == folder


@given(st.text(max_size=300))
def test_no_name_leads_out_of_the_folder_or_is_too_long(name: str) -> None:
    folder = folder_name(name)
    assert (Path("runs") / folder).resolve().parent == Path("runs").resolve()
    assert 1 <= len(folder.encode()) <= 100


def test_a_name_that_is_not_utf8_is_text_with_a_mark_and_no_folder_of_models() -> None:
    odd = Path(b"caf\xe9.csv".decode("utf-8", "surrogateescape"))
    assert as_text(odd) == "caf\ufffd.csv"
    assert as_text(Path("café.csv")) == "café.csv"
    with pytest.raises(BadSpec, match="not UTF-8"):
        utf8_folder(odd)


def test_a_tilde_that_names_no_user_is_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_path("~") == Path.home()
    assert as_path("~$book.csv") == Path("~$book.csv")
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"the thing {i} broke,{'ab'[i % 2]}\n" for i in range(20))
    Path("~$book.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    assert read_inputs(init("~$book.csv").file, None, {}).source == "~$book.csv"
