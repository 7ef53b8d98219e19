"""Find weights by name: a path, the short name of a download, or a repository of the Hugging Face hub.

Returns where they are, their kind and licence; loads no weights.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from potstill.data.paths import as_path
from potstill.errors import BadInput, MissingWeights, PotstillError, missing_extra, unknown_name
from potstill.models.downloads.fetch import DOWNLOADS, cache_folder, cached_path, fetch
from potstill.models.downloads.record import DownloadRecord

if TYPE_CHECKING:
    from potstill.data.task import JsonObject  # at run time it would load numpy

WeightsKind = Literal["gguf", "encoder", "static", "causal", "seq2seq"]
WeightsSource = Literal["path", "download", "hub"]
Pooling = Literal["mean", "cls"]

_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]  # never a pickle
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Weights:
    """Weights on this machine.

    Attributes:
        name: as the user wrote it.
        path: a folder, or the file where `kind` is `gguf`.
        kind: `gguf` (a causal LM in one file), `encoder` (BERT-like), `static` (model2vec), `causal` or `seq2seq`
            (transformers folders).
        source: where they come from.
        licence: as the publisher states it, else "unknown".
        pooling: how an encoder's token vectors become one vector; `mean` if unknown.
    """

    name: str
    path: Path
    kind: WeightsKind
    source: WeightsSource
    licence: str = "unknown"
    pooling: Pooling = "mean"

    @property
    def folder(self) -> Path:
        """The folder that holds the weights."""
        return self.path.parent if self.kind == "gguf" else self.path


def find_weights(name: str | Path, *, kind: WeightsKind | None = None, download: bool = False) -> Weights:
    """Find weights by name.

    Args:
        name: a folder or .gguf file; the short name of a download; `owner/name` or `hub:owner/name` on the hub (fetched
            into the hub's own cache if necessary); `hub:owner/name/file.gguf` for one file of it.
        kind: the kind of weights the caller needs; None accepts any.
        download: fetch a missing download instead of raising MissingWeights.

    Raises:
        UnknownName: no such name; the hint names the nearest.
        MissingWeights: it is known, but not on this machine.
        MissingExtra: it is on the hub and huggingface-hub is not installed.
        BadInput: the path holds no weights, or weights of another kind.
    """
    text = str(name)
    path = as_path(name)
    if isinstance(name, str) and name.startswith("hub:"):
        found = _from_hub(name, name.removeprefix("hub:"))
    elif isinstance(name, str) and name in DOWNLOADS and DOWNLOADS[name].kind != "data":
        found = _from_downloads(name, download)
    elif path.exists():
        found = _inspect(text, path, "path")
    elif isinstance(name, str) and name in DOWNLOADS:
        raise BadInput(f"{name!r} is a data set, not weights.", f"Its files are where `potstill fetch {name}` says.")
    elif isinstance(name, Path) or text.startswith((".", "/", "~")) or text.endswith(".gguf") or "\\" in text:
        raise MissingWeights(f"{text} does not exist.", "Name a folder with config.json, or a .gguf file.")
    elif _REPOSITORY.fullmatch(text):
        found = _from_hub(text, text)
    else:
        raise unknown_name("weights", text, [row.name for row in DOWNLOADS.values() if row.kind != "data"])
    if kind is not None and found.kind != kind:
        raise BadInput(f"{text!r} is of the kind {found.kind!r}, and {kind!r} is needed here.", _suggestion(kind))
    return found


def base_model_facts(name: str) -> dict[str, str]:
    """What is known of weights beside their licence: `base_model`, their name on the hub, and `language`, if one.

    Args:
        name: of weights that `find_weights` found on this machine.
    """
    row = DOWNLOADS.get(name)
    if row is not None:
        hub_name, language = row.hub_name, row.language
    else:
        hub_name, language = "/".join(name.removeprefix("hub:").split("/")[:2]), ""
        if not _REPOSITORY.fullmatch(hub_name) or Path(name).exists():
            hub_name = ""
    return {key: value for key, value in (("base_model", hub_name), ("language", language)) if value}


def _suggestion(kind: WeightsKind) -> str:
    names = [row.name for row in DOWNLOADS.values() if row.kind == kind and not row.opt_in]
    return f"Try {' or '.join(names)}." if names else f"Name a folder that holds weights of the kind {kind!r}."


def _from_downloads(name: str, download: bool) -> Weights:
    row = DOWNLOADS[name]
    path = fetch(name) if download else cached_path(name)
    if path is None:
        raise MissingWeights(
            f"The weights {name!r} ({row.size_mb} MB, {row.licence}) are not in {cache_folder()}, or not whole.",
            f"Run: potstill fetch {name}" + (" --accept-licence" if row.opt_in else ""),
        )
    return _inspect(name, path, "download")


def _from_hub(name: str, repository: str) -> Weights:
    owner, _, rest = repository.partition("/")
    model, _, file = rest.partition("/")
    repository = f"{owner}/{model}"
    if not _REPOSITORY.fullmatch(repository):
        raise BadInput(f"{name!r} is no repository of the hub.", "Write it as hub:owner/name.")
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise missing_extra("huggingface-hub", "hub", f"Fetching {repository} from the Hugging Face hub") from None
    try:
        if file:
            path = Path(hf_hub_download(repository, file))
        else:
            path = Path(snapshot_download(repository, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # not found, gated, or no network and no copy
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingWeights(
            f"{repository} could not be fetched from the hub: {reason}",
            "Check the name and the network, log in if the repository is gated, or name a local folder.",
        ) from None
    try:
        return _inspect(name, path, "hub")
    except PotstillError as error:
        raise BadInput(f"{repository} on the hub cannot be used: {error.message}", error.hint) from None


def _inspect(name: str, path: Path, source: WeightsSource) -> Weights:
    if path.is_dir() and not (path / "config.json").exists():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            contents = f"{len(files)} .gguf files" if files else "neither config.json nor a .gguf file"
            raise BadInput(f"The folder {path} holds {contents}.", "Name a folder with config.json, or one .gguf file.")
        path = files[0]
    if path.is_file():
        with path.open("rb") as opened:
            magic = opened.read(4)
        if magic != b"GGUF":
            raise BadInput(f"{path} is not a GGUF file.", "Name a .gguf file, or a folder with config.json.")
        return Weights(name, path, "gguf", source, _licence(path.parent))
    if not any(path.glob("*.safetensors")):  # a .bin file is a pickle, which can execute code when it is loaded
        raise BadInput(f"The folder {path} has a config.json and no *.safetensors.", "Add model.safetensors to it.")
    return Weights(name, path, _kind(_json(path / "config.json")), source, _licence(path), _pooling(path))


def _kind(config: JsonObject) -> WeightsKind:
    architectures = " ".join(str(name) for name in config.get("architectures") or [])
    if config.get("model_type") == "model2vec" or "StaticModel" in architectures:
        return "static"
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    return "causal" if "ForCausalLM" in architectures or "LMHeadModel" in architectures else "encoder"


def _pooling(folder: Path) -> Pooling:
    """From the record of the download, else from sentence-transformers' files, else mean."""
    if (record := DownloadRecord.read(folder)) is not None:
        return "cls" if record.pooling == "cls" else "mean"
    if (folder / "1_Pooling" / "config.json").exists():
        return "cls" if _json(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token") else "mean"
    return "mean"


def _licence(folder: Path) -> str:
    """From the record of the download, else from the model card's front matter."""
    if (record := DownloadRecord.read(folder)) is not None:
        return record.licence
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8", errors="replace")[:4000] if card.is_file() else ""
    stated = re.search(r"\A---\s.*?^license:\s*([^\s#]+)", head, re.MULTILINE | re.DOTALL)
    return stated[1].strip("\"'") if stated else "unknown"


def _json(path: Path) -> JsonObject:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}.", "Repair it, or fetch the weights again.") from None
    return record if isinstance(record, dict) else {}
