"""The journal: what was kept is found again, and nothing that is out of date or torn is believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.bundle.journal import Journal, content_key
from potstill.errors import BadData

JOB = {"bundle": "abc", "columns": ["a", "b"]}


def fill(path: Path, n: int, job: dict[str, object] = JOB) -> None:
    with Journal(path, job) as journal:
        for i in range(n):
            if journal.find(f"k{i}") is None:
                journal.add(f"k{i}", [i, "é"])


def found(path: Path, n: int, job: dict[str, object] = JOB) -> int:
    with Journal(path, job) as journal:
        return sum(journal.find(f"k{i}") == [i, "é"] for i in range(n))


def test_what_was_kept_is_found_again_and_added_to(tmp_path: Path) -> None:
    fill(tmp_path / "j", 3)
    assert found(tmp_path / "j", 5) == 3
    fill(tmp_path / "j", 5)
    assert found(tmp_path / "j", 5) == 5


def test_another_job_starts_afresh(tmp_path: Path) -> None:
    fill(tmp_path / "j", 3)
    assert found(tmp_path / "j", 3, {**JOB, "bundle": "other"}) == 0


def test_after_a_block_that_changed_nothing_is_believed(tmp_path: Path) -> None:
    fill(tmp_path / "j", 4)
    with Journal(tmp_path / "j", JOB) as journal:
        assert journal.find("k0") == [0, "é"]
        assert journal.find("changed") is None
        journal.add("changed", 1)
        assert journal.find("k2") is None
        journal.add("k2", [2, "é"])
    with Journal(tmp_path / "j", JOB) as journal:
        assert [journal.find(key) for key in ("k0", "changed", "k2", "k3")] == [[0, "é"], 1, [2, "é"], None]


def test_a_file_cut_at_any_byte_gives_whole_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 4)
    whole = path.read_bytes()
    last = 0
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = found(path, 4)
        assert last <= kept <= 4
        last = kept
        path.write_bytes(whole[:cut])
        fill(path, 4)
        assert path.read_bytes() == whole
    assert last == 4


@pytest.mark.parametrize("noise", [b"\0" * 100, b"{}\n", b"[1]\n" * 3, b"\xff\xfe\n", b"null\n"])
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path: Path, noise: bytes) -> None:
    (tmp_path / "j").write_bytes(noise)
    with pytest.raises(BadData, match="is no journal"):
        found(tmp_path / "j", 2)
    assert (tmp_path / "j").read_bytes() == noise


def test_an_empty_file_is_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"")
    assert found(tmp_path / "j", 2) == 0


def test_a_finished_journal_and_an_empty_one_leave_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", JOB):
        pass
    assert not (tmp_path / "j").exists()
    with Journal(tmp_path / "j", JOB) as journal:
        journal.add("k", 1)
        journal.finish()
    assert not (tmp_path / "j").exists()


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_lists_share_a_key_only_if_they_are_equal(a: list[str], b: list[str]) -> None:
    assert (content_key(a) == content_key(b)) == (a == b)
