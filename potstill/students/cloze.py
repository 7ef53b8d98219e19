"""The cloze student, procedure P: a pattern around the text, and a language model that says the label's word there.

As in PET (Schick and Schuetze 2021) and LM-BFF (Gao et al. 2021), with soft targets, over a masked language model or a
small causal one. Before any row is learnt it scores zero-shot, its label bias removed on rows without content.
Where a text may have several labels, each is said or not by itself. Does not cover ensembles of patterns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from potstill.errors import BadInput, BadSpec, NotARun, missing_extra
from potstill.models.causal_lm import content_hash, require_torch
from potstill.models.cloze_pattern import PatternIds, Surroundings
from potstill.models.device import choose_device, here, on_cpu
from potstill.models.tokens.encoder import check_texts
from potstill.models.weights import Weights, find
from potstill.students.base import Floats, Graph, Lesson, Make
from potstill.students.clozeoptions import Options
from potstill.students.lesson import check_lesson, in_content_order, probabilities, refuse_likeness
from potstill.students.verbalizer import Reading, Words, name_words

if TYPE_CHECKING:
    from potstill.students.clozenet import Base, ClozeNetwork, Mode

DEFAULT_WEIGHTS = "smollm2"
# Texts without content tell what a label's words are worth whatever the text says (Zhao et al. 2021).
EMPTY_TEXTS = ("N/A", "", "text", "...")
# What names of parts of a masked language model's head begin with.
HEADS = ("cls.predictions.", "lm_head.", "vocab_transform.", "predictions.", "head.dense.")


class Cloze:
    """A student that says a label's word where a pattern asks for it. See `students.base.Student` for the contract.

    Attributes:
        truncated: share of the lesson's texts that lost their tail, in [0, 1].
        learnt: facts of the last `fit`.
        words: label by label, what is scored for it; empty before the model is read.
    """

    def __init__(self, make: Make) -> None:
        if make.kind not in ("single", "pair", "multi"):
            raise BadSpec(f"The student 'cloze' cannot do a task of the kind {make.kind!r}.", "Take an encoder.")
        self.kind = make.kind
        self.labels = tuple(make.labels)
        self.weights = make.weights or DEFAULT_WEIGHTS
        self.options = Options.read(make.options)
        self.descriptions = dict(make.descriptions)
        self.words: Words = name_words(self.labels, self.options.words)
        self.truncated = 0.0
        self.learnt: dict[str, Any] = {}
        self._found: Weights | None = None
        self._network: ClozeNetwork | None = None
        self._ids: PatternIds | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Facts for a report and for the model card."""
        facts = {"weights": self.weights, "truncated": self.truncated, "words": [list(own) for own in self.words]}
        licence = self._found.licence if self._found else "unknown"
        return {**facts, "licence": licence, **self.learnt}

    def prepare(self) -> None:
        """See that torch and the weights are here, and that the weights can do P; see `Student.prepare`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise missing_extra("torch", "train", "A cloze student")
        find_language_model(self.weights)

    def fit(self, lesson: Lesson) -> Self:
        """Learn from scratch; see `Student.fit`. The row order does not matter. Mode "zero-shot" reads no row."""
        if self.options.mode == "zero-shot":
            self._begin()
            return self
        check_texts(lesson.texts)
        refuse_likeness(lesson, "cloze")
        lesson = in_content_order(check_lesson(lesson, len(self.labels), self.kind))
        deadline = None if lesson.deadline_s is None else time.monotonic() + lesson.deadline_s
        base = self._open()
        from potstill.students.clozebuild import Pattern, build, choose_words
        from potstill.students.clozetune import Effort, Rows, learn

        pattern = Pattern(base, self.options, self.kind)
        self.words = choose_words(pattern, self.labels, self.descriptions, lesson)
        network, ids = build(pattern, self.words)
        wrapped = ids.encode(lesson.texts)
        self.truncated = wrapped.truncated / len(lesson.texts)
        assert lesson.weights is not None  # check_lesson saw to it
        mode, layers, lr = self._how(network)
        effort = Effort(
            mode=mode,
            layers=layers,
            rank=self.options.rank,
            lr=lr,
            epochs=self.options.epochs,
            batch=self.options.batch,
            seed=lesson.seed,
            deadline=deadline,
            progress=lesson.progress,
        )
        rows = Rows(wrapped.ids, lesson.targets, lesson.weights, multi=self.kind == "multi")
        self.learnt = learn(network, rows, effort, ids.around.pad_id)
        self._network, self._ids = network, ids
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores; zero-shot where nothing was learnt."""
        return self._run(texts, "forward", len(self.labels))

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities; rows sum to one unless each label is decided by itself."""
        return probabilities(self.predict_logits(texts), self.kind)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) states at the place where the label is said."""
        return self._run(texts, "embed", self._ready()[0].dim)

    def save(self, folder: Path) -> None:
        """Write `cloze.json`, `tokenizer.json` and `learnt.safetensors`.

        Only what was learnt is written; the language model itself is found again by its name, and known by its hash.
        """
        from safetensors.torch import save_file

        network, ids = self._ready()
        assert self._found is not None
        (folder / "tokenizer.json").write_text(ids.tokenizer, encoding="utf-8")
        learnt = {name: each.cpu().contiguous() for name, each in network.learnt.items()}
        save_file(learnt, folder / "learnt.safetensors")
        mode, layers, _ = self._how(network)
        record = {
            "format": 1,
            "labels": self.labels,
            "weights": self.weights,
            "sha256": content_hash(self._found.path),
            "options": asdict(self.options),
            "descriptions": self.descriptions,
            "words": self.words,
            "around": ids.around.to_json(),
            "reading": network.reading.to_json(),
            "kind": self.kind,
            "soft_at": network.soft_at,
            "mode": mode,
            "layers": layers,
            "truncated": self.truncated,
            "learnt": self.learnt,
        }
        (folder / "cloze.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote, predicting exactly the same.

        Raises:
            MissingWeights: the language model it learnt on is not here any more.
            NotARun: another model has its name now.
        """
        from safetensors.torch import load_file

        record = json.loads((folder / "cloze.json").read_text(encoding="utf-8"))
        labels, descriptions, options = tuple(record["labels"]), record["descriptions"], here(record["options"])
        student = cls(Make(labels, record["weights"], descriptions, options, record.get("kind", "single")))
        student.truncated, student.learnt = record["truncated"], record["learnt"]
        student.words = tuple(tuple(own) for own in record["words"])
        base = student._open()
        assert student._found is not None
        if content_hash(student._found.path) != record["sha256"]:
            raise NotARun(
                f"{folder} learnt on other weights than those that are called {record['weights']!r} now.",
                "Bring the old weights back, or learn again.",
            )
        from potstill.students.clozenet import ClozeNetwork

        soft = (student.options.soft, record["soft_at"])
        network = ClozeNetwork(base.model, Reading.of_json(record["reading"]), base.mask_id, soft)
        network.recall(load_file(folder / "learnt.safetensors"), record["mode"], record["layers"], student.options.rank)
        student._network = network
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        student._ids = PatternIds(text, Surroundings.of_json(record["around"]))
        return student

    def export(self, folder: Path) -> Graph:
        """Write `model.onnx` and `tokenizer.json`.

        Raises:
            BadSpec: it predicts in bfloat16, or is too large for one ONNX file.
        """
        from potstill.students.onnxgraph import write_graph

        network, ids = self._ready()
        if self.options.dtype != "float32":
            raise BadSpec("A cloze that predicts in bfloat16 has no exact graph.", 'Set dtype = "float32" to export.')
        size = sum(each.numel() for each in network.parameters()) * 4
        if size > 1_900_000_000:
            raise BadSpec(
                f"This cloze is {size / 1e9:.1f} GB, too large for one ONNX file.",
                "Distil it into a smaller student: --teacher trained:cloze:... --student encoder.",
            )
        write_graph(on_cpu(network), folder / "model.onnx")
        (folder / "tokenizer.json").write_text(ids.tokenizer, encoding="utf-8")
        return Graph("cloze", ids.around.to_json(), quantisable=True)

    # --- inside ------------------------------------------------------------------------------------------------

    def _open(self) -> Base:
        try:
            from potstill.students.clozenet import read_base
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A cloze student") from error
        self._found = find_language_model(self.weights)
        self.learnt = {}
        base = read_base(self._found)
        base.model.to(choose_device(self.options.device))
        return base

    def _ready(self) -> tuple[ClozeNetwork, PatternIds]:
        """The network; where nothing was learnt, the model as it is with the label bias of empty texts removed."""
        if self._network is None or self._ids is None:
            self._begin()
        assert self._network is not None
        assert self._ids is not None
        return self._network, self._ids

    def _begin(self) -> None:
        base = self._open()
        from potstill.students.clozebuild import Pattern, build, choose_words

        pattern = Pattern(base, self.options, self.kind)
        self.words = choose_words(pattern, self.labels, self.descriptions, None)
        self._network, self._ids = build(pattern, self.words)
        self.learnt = {"mode": "zero-shot", "rows": 0}
        self.unbias(EMPTY_TEXTS)

    def unbias(self, texts: Sequence[str]) -> Self:
        """Make the labels equally likely on average over texts without labels: what a label's words are worth alone.

        Where a text may have several labels, one label a text is expected.

        Fresh students do that on texts without content; the texts of the task themselves do it better, where there are
        some tens of them and the labels are about equally common (batch calibration, Zhou et al. 2024).
        """
        from potstill.students.clozetune import set_bias

        network, ids = self._ready()
        uniform = np.full(len(self.labels), 1 / len(self.labels))
        set_bias(network, ids.encode(texts).ids, uniform, ids.around.pad_id, multi=self.kind == "multi")
        return self

    def _run(self, texts: Sequence[str], what: str, width: int) -> Floats:
        from potstill.students.backbone import run_network

        check_texts(texts)
        network, ids = self._ready()
        found = ids.encode(texts).ids
        if not found:
            return np.zeros((0, width), dtype=np.float32)
        low = self.options.dtype == "bfloat16"
        return run_network(getattr(network, what), found, ids.around.pad_id, low_precision=low)

    def _how(self, network: ClozeNetwork) -> tuple[Mode, int, float]:
        own = self.options
        mode: Mode = "lora" if network.causal else "full"
        if own.mode != "auto":
            mode = "frozen" if own.mode == "zero-shot" else own.mode
        n = len(network.blocks)
        layers = own.layers or (max(1, n // 2) if network.causal else n)
        return mode, min(layers, n), own.lr or {"lora": 5e-4, "full": 3e-5, "frozen": 1e-3}[mode]


def find_language_model(name: str) -> Weights:
    """The weights a user named, if they can do P: a causal model, or a masked one that kept its head.

    Raises:
        BadInput: they cannot; the message says which procedures they can do.
        UnknownName, MissingWeights, MissingExtra: see `weights.find`.
    """
    found = find(name)
    if found.kind in ("gguf", "causal"):
        require_torch(found)
        return found
    if found.kind == "encoder" and any(key.startswith(HEADS) for key in tensor_names(found.folder)):
        return found
    kind = found.kind if found.kind in ("encoder", "static") else ""
    can = f"As a student it is {kind}:{name}, for finetune, kd and pgkd" if kind else "It is no student potstill has"
    raise BadInput(
        f"{name!r} has no language-model head, from which P (the student 'cloze') reads the label's word.",
        f"{can}; for P take cloze:{DEFAULT_WEIGHTS}, or a folder saved from a ...ForMaskedLM or ...ForCausalLM model.",
    )


def tensor_names(folder: Path) -> list[str]:
    """The names of the tensors in a folder's safetensors files, from their headers alone."""
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            try:
                names += json.loads(opened.read(min(size, 100_000_000)))
            except ValueError:
                raise BadInput(f"{file} is damaged.", "Fetch the weights again.") from None
    return names
