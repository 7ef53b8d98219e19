"""The seq2seq student: an encoder-decoder of the T5 family that answers a text in words, by LoRA or in full.

It reads the instruction and the text, and writes the answer. `layers` keeps the first layers of encoder and decoder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

from potstill.errors import BadInput, BadSpec, missing_extra
from potstill.models.answer_prompt import AnswerPrompt, AnswerTokenizer, check_room, tokenizer_key
from potstill.models.cloze_pattern import PatternLayout, tokenizer_from_json
from potstill.models.device import resolve_device, to_cpu
from potstill.models.weights import Weights, find_weights
from potstill.students.base import ExportedGraph, StudentCapabilities
from potstill.students.writing_student import WritingStudent

if TYPE_CHECKING:
    from potstill.students.seq2seq_network import Seq2SeqNetwork

MAX_PROMPT, MAX_ANSWER = 512, 256  # tokens, unless the user says otherwise


class Seq2SeqStudent(WritingStudent):
    """A student of free texts on an encoder-decoder language model; see `WritingStudent`."""

    name = "seq2seq"
    default_weights = ""
    capabilities = StudentCapabilities(
        task_kinds=frozenset({"text2text"}), output_forms=frozenset({"free"}), pretrained=True, token_scores=True
    )

    def tokenizer_key(self) -> str:
        """See `TokenScoringStudent.tokenizer_key`."""
        text, end_id, _ = _read_tokenizer(self._find_weights())
        return tokenizer_key(text, end_id)

    def export(self, folder: Path) -> ExportedGraph:
        """Write `encoder_model.onnx`, `model.onnx`, which is a step of decoding, and `tokenizer.json`.

        Beside them are the weights and configurations that transformers loads.
        """
        from potstill.students.seq2seq_network import Seq2SeqEncoder
        from potstill.students.torch_onnx import write_seq2seq_onnx
        from potstill.students.transformers_writing import save_writer_for_transformers

        loaded, tokenizer = self._loaded()
        self._check_size(loaded)
        network = cast("Seq2SeqNetwork", to_cpu(loaded))
        write_seq2seq_onnx(network, Seq2SeqEncoder(network), folder / "encoder_model.onnx", folder / "model.onnx")
        save_writer_for_transformers(network.model, tokenizer.tokenizer, tokenizer.prompt, folder)
        return ExportedGraph("prompts", tokenizer.prompt, quantizable=True)

    def _find_weights(self) -> Weights:
        if not self.weights:
            raise BadSpec(
                "A seq2seq student is made of weights, and none are named.",
                "Name a folder or a repository of the hub: --student seq2seq:google/flan-t5-small",
            )
        found = find_weights(self.weights)
        if found.kind != "seq2seq":
            raise BadInput(
                f"{self.weights!r} is no encoder-decoder language model, which the student 'seq2seq' is made of.",
                "Name a folder saved from a T5, Flan-T5 or mT5, or take --student causal.",
            )
        return found

    def _load_pretrained(self) -> tuple[Seq2SeqNetwork, AnswerTokenizer]:
        """See `WritingStudent`."""
        try:
            from potstill.students.seq2seq_network import (
                CONTEXT_LENGTH,
                Seq2SeqNetwork,
                keep_seq2seq_layers,
                load_seq2seq,
            )
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A seq2seq student") from error
        self._lm_weights = self._find_weights()
        model = load_seq2seq(self._lm_weights)
        if self.options.layers is not None:
            keep_seq2seq_layers(model, self.options.layers)
        network = Seq2SeqNetwork(model).eval()
        network.to(resolve_device(self.options.device))
        text, end_id, pad_id = _read_tokenizer(self._lm_weights)
        instruction = " ".join(self.instruction.split())
        before = tokenizer_from_json(text).encode(instruction, add_special_tokens=False).ids if instruction else ()
        max_length = min(self.options.max_length or MAX_PROMPT, CONTEXT_LENGTH)
        layout = PatternLayout(tuple(before), (end_id,), "", max_length, pad_id)
        check_room(layout)
        prompt = AnswerPrompt(layout, end_id, self.output.max_tokens or MAX_ANSWER, start_id=network.start_id)
        return network, AnswerTokenizer(text, prompt)


def _read_tokenizer(weights: Weights) -> tuple[str, int, int]:
    """The content of `tokenizer.json`, and the ids of the tokens that end a text and that pad it."""
    try:
        text = (weights.folder / "tokenizer.json").read_text(encoding="utf-8")
        config = json.loads((weights.folder / "config.json").read_text(encoding="utf-8"))
        return text, int(config["eos_token_id"]), int(config["pad_token_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{weights.folder} lacks a tokenizer.json, or its config.json the tokens that end and pad a text.",
            "Save the tokenizer as a fast one: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER).",
        ) from error
