"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import pytest

from potstill.data.atomic import atomic_file, atomic_folder


def test_a_folder_replaces_the_old_one_only_when_complete(tmp_path):
    target = tmp_path / "bundle"
    for content in ("old", "new"):
        with atomic_folder(target) as fresh:
            (fresh / "model").write_text(content)
            assert not target.exists() or (target / "model").read_text() == "old"
    assert (target / "model").read_text() == "new"
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as fresh:
        (fresh / "model").write_text("half")
        raise KeyboardInterrupt
    assert (target / "model").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_replaces_the_old_one_only_when_complete(tmp_path):
    target = tmp_path / "report.json"
    with atomic_file(target) as path:
        path.write_text("old")
    with pytest.raises(OSError), atomic_file(target) as path:
        path.write_text("half")
        raise OSError("the disk is full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
