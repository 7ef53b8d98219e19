"""data/paths.py: a name that anyone may have chosen becomes the name of one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.paths import folder_name


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
