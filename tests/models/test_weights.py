"""Finding weights: folders and files made here, downloads and a hub that are replaced; no network is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from potstill.errors import BadInput, MissingExtra, MissingWeights, UnknownName
from potstill.models import weights
from potstill.models.downloads.fetch import DOWNLOADS
from potstill.models.downloads.record import DownloadRecord
from potstill.models.weights import find_weights


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_folder(folder: Path, config: dict[str, object] | None = None, card: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "bert", "architectures": ["BertModel"]}))
    (folder / "model.safetensors").write_bytes(b"")
    if card:
        (folder / "README.md").write_text(card)
    return folder


def make_gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF\x03\0\0\0")
    return path


def fake_download(cache: Path, name: str) -> Path:
    """Write what `potstill fetch` does, without the weights."""
    row = DOWNLOADS[name]
    folder = cache / name
    if row.kind == "gguf":
        make_gguf(folder / next(iter(row.files[0].members.values())))
    else:
        make_folder(folder, {"model_type": "model2vec"} if row.kind == "static" else None)
    DownloadRecord.of(row).write(folder)
    return folder


def test_a_folder_is_found_by_its_path_as_text_or_path(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "mine")
    for name in (str(folder), folder):
        found = find_weights(name)
        assert (found.path, found.kind, found.source) == (folder, "encoder", "path")


def test_a_gguf_file_is_found_directly_or_as_the_only_one_of_a_folder(tmp_path: Path) -> None:
    file = make_gguf(tmp_path / "models" / "small.gguf")
    for name in (file, file.parent):
        found = find_weights(name)
        assert (found.path, found.kind, found.folder) == (file, "gguf", file.parent)


def test_a_folder_with_two_gguf_files_asks_for_one_of_them(tmp_path: Path) -> None:
    make_gguf(tmp_path / "a.gguf")
    make_gguf(tmp_path / "b.gguf")
    with pytest.raises(BadInput, match=r"2 \.gguf files"):
        find_weights(tmp_path)


def test_a_file_that_only_calls_itself_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    with pytest.raises(BadInput, match="not a GGUF file"):
        find_weights(tmp_path / "page.gguf")


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "causal"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "causal"),
        ({"model_type": "t5", "is_encoder_decoder": True, "architectures": ["T5ForConditionalGeneration"]}, "seq2seq"),
        ({"model_type": "model2vec", "architectures": ["StaticModel"]}, "static"),
    ],
)
def test_the_kind_is_read_from_the_configuration(tmp_path: Path, config: dict[str, object], kind: str) -> None:
    assert find_weights(make_folder(tmp_path / "mine", config)).kind == kind


def test_weights_of_another_kind_than_needed_are_refused_with_names_that_fit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'encoder', and 'static' is needed") as caught:
        find_weights(make_folder(tmp_path / "mine"), kind="static")
    assert "potion-8m" in caught.value.hint


def test_a_folder_without_weights_or_with_a_broken_configuration_says_which(tmp_path: Path) -> None:
    (make_folder(tmp_path / "empty") / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"no \*\.safetensors"):
        find_weights(tmp_path / "empty")
    (make_folder(tmp_path / "broken") / "config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read as JSON"):
        find_weights(tmp_path / "broken")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/no-such-folder", "absent.gguf"])
def test_a_path_to_nothing_is_told_apart_from_a_misspelt_name(name: str) -> None:
    with pytest.raises(MissingWeights, match="does not exist"):
        find_weights(name)


@pytest.mark.parametrize("name", [name for name, row in DOWNLOADS.items() if row.kind != "data"])
def test_a_fetched_download_is_found_by_its_short_name(empty_cache: Path, name: str) -> None:
    fake_download(empty_cache, name)
    found = find_weights(name)
    row = DOWNLOADS[name]
    assert (found.kind, found.source, found.licence) == (row.kind, "download", row.licence)
    assert found.pooling == (row.pooling or "mean")
    assert found.folder == empty_cache / name


def test_missing_weights_hint_at_potstill_fetch() -> None:
    with pytest.raises(MissingWeights, match="smollm2") as caught:
        find_weights("smollm2")
    assert caught.value.hint == "Run: potstill fetch smollm2"
    with pytest.raises(MissingWeights) as caught:
        find_weights("gemma-270m")
    assert caught.value.hint.endswith("--accept-licence")


def test_missing_weights_are_downloaded_if_the_caller_asks(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "fetch", lambda name: fake_download(empty_cache, name))
    assert find_weights("minilm", download=True).folder == empty_cache / "minilm"


def test_a_data_set_is_not_taken_for_weights() -> None:
    with pytest.raises(BadInput, match="data set"):
        find_weights("banking77")


def test_a_misspelt_name_gets_the_nearest_weights_and_no_data_set() -> None:
    with pytest.raises(UnknownName, match="minilm"):
        find_weights("miniml")
    with pytest.raises(UnknownName) as caught:
        find_weights("xyzzy")
    assert "banking77" not in caught.value.hint


def test_a_folder_of_the_same_name_does_not_hide_a_download(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "here" / "minilm")
    monkeypatch.chdir(tmp_path / "here")
    fake_download(empty_cache, "minilm")
    assert find_weights("minilm").source == "download"
    assert find_weights("./minilm").source == "path"


def test_the_licence_is_read_from_the_model_card_and_never_guessed(tmp_path: Path) -> None:
    card = "---\nlanguage: en\nlicense: apache-2.0 # see below\n---\n# Model\n"
    assert find_weights(make_folder(tmp_path / "stated", card=card)).licence == "apache-2.0"
    assert find_weights(make_folder(tmp_path / "silent", card="# Model\nlicense: MIT\n")).licence == "unknown"


def test_pooling_follows_sentence_transformers_and_is_mean_where_nothing_is_written(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "mine")
    assert find_weights(folder).pooling == "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert find_weights(folder).pooling == "cls"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A hub of one repository, `owner/model`; returns what was asked of it."""
    hub_module = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, ...]] = []
    folder = make_folder(tmp_path / "snapshot", card="---\nlicense: mit\n---\n")

    def snapshot_download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository,))
        assert not any(pattern.endswith((".bin", ".pt", ".pkl", "*")) for pattern in allow_patterns)
        if repository != "owner/model":
            raise hub_module.errors.LocalEntryNotFoundError("no network and no copy\nsecond line")
        return str(folder)

    def hf_hub_download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(make_gguf(tmp_path / file))

    monkeypatch.setattr(hub_module, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub_module, "hf_hub_download", hf_hub_download)
    return asked


def test_a_repository_is_had_from_the_hub_with_or_without_the_prefix(hub: list[tuple[str, ...]]) -> None:
    for name in ("hub:owner/model", "owner/model"):
        found = find_weights(name)
        assert (found.source, found.kind, found.licence) == ("hub", "encoder", "mit")
    assert hub == [("owner/model",), ("owner/model",)]


def test_one_file_of_a_repository_can_be_named(hub: list[tuple[str, ...]]) -> None:
    assert find_weights("hub:owner/model/sub.Q4_0.gguf").kind == "gguf"
    assert hub == [("owner/model", "sub.Q4_0.gguf")]


def test_a_local_folder_called_like_a_repository_comes_first(
    hub: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "owner" / "model")
    monkeypatch.chdir(tmp_path)
    assert find_weights("owner/model").source == "path"
    assert hub == []
    assert find_weights("hub:owner/model").source == "hub"


def test_a_hub_that_fails_is_one_sentence_and_a_mend(hub: list[tuple[str, ...]]) -> None:
    with pytest.raises(MissingWeights) as caught:
        find_weights("hub:owner/absent")
    assert "no network and no copy" in caught.value.message
    assert "second line" not in caught.value.message
    assert "local folder" in caught.value.hint


def test_without_the_hub_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"potstill\[hub\]"):
        find_weights("owner/model")


@pytest.mark.parametrize("name", ["hub:alone", "hub:", "hub:../x/y"])
def test_a_malformed_hub_name_never_reaches_the_hub(hub: list[tuple[str, ...]], name: str) -> None:
    with pytest.raises(BadInput, match="no repository"):
        find_weights(name)
    assert hub == []


def test_importing_weights_loads_no_heavy_library() -> None:
    import subprocess

    heavy = ("torch", "transformers", "onnx", "numpy")
    code = f"import sys, potstill.models.weights; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
