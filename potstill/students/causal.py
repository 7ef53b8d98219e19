"""The causal student: a causal language model that answers a text in words, fine-tuned by LoRA or in full.

It reads the instruction, the text and an arrow, and writes the answer behind them. `layers` keeps the first layers of
the model alone: a smaller student, whose remaining weights are all trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import missing_extra
from potstill.models.answer_prompt import AnswerTokenizer, make_prompt, tokenizer_key
from potstill.models.causal_lm import load_tokenizer
from potstill.models.device import resolve_device, to_cpu
from potstill.models.weights import Weights
from potstill.students.base import ExportedGraph, StudentCapabilities
from potstill.students.decoder import find_causal_model
from potstill.students.writing_student import WritingStudent

if TYPE_CHECKING:
    from potstill.students.causal_network import CausalNetwork

MAX_PROMPT, MAX_ANSWER = 512, 256  # tokens, unless the user says otherwise


class CausalStudent(WritingStudent):
    """A student of free texts on a causal language model; see `WritingStudent`."""

    name = "causal"
    default_weights = "smollm2"
    capabilities = StudentCapabilities(
        task_kinds=frozenset({"text2text"}), output_forms=frozenset({"free"}), pretrained=True, token_scores=True
    )

    def tokenizer_key(self) -> str:
        """See `TokenScoringStudent.tokenizer_key`."""
        return tokenizer_key(*load_tokenizer(self._find_weights()))

    def export(self, folder: Path) -> ExportedGraph:
        """Write `model.onnx`, a step of decoding with keys and values as inputs and outputs, and `tokenizer.json`.

        Beside them are the weights and configurations that transformers loads.
        """
        from potstill.students.torch_onnx import write_decoder_onnx
        from potstill.students.transformers_writing import save_writer_for_transformers

        network, tokenizer = self._loaded()
        self._check_size(network)
        network = to_cpu(network)
        write_decoder_onnx(network, folder / "model.onnx")
        save_writer_for_transformers(network.model, tokenizer.tokenizer, tokenizer.prompt, folder)
        return ExportedGraph("prompts", tokenizer.prompt, quantizable=True)

    def _find_weights(self) -> Weights:
        return find_causal_model(self.weights, self.name, gives_labels=False)

    def _load_pretrained(self) -> tuple[CausalNetwork, AnswerTokenizer]:
        """See `WritingStudent`."""
        try:
            from potstill.students.causal_network import CausalNetwork
            from potstill.students.cloze_network import load_pretrained_lm
            from potstill.students.tuned_lm import keep_layers
        except ModuleNotFoundError as error:
            raise missing_extra(error.name or "torch", "train", "A causal student") from error
        self._lm_weights = self._find_weights()
        lm = load_pretrained_lm(self._lm_weights)
        if self.options.layers is not None:
            keep_layers(lm.model, self.options.layers)
        network = CausalNetwork(lm.model).eval()
        network.to(resolve_device(self.options.device))
        max_tokens = self.output.max_tokens or min(MAX_ANSWER, lm.context_length // 2)
        room = lm.context_length - max_tokens - 1
        prompt = make_prompt(
            lm.tokenizer,
            self.instruction,
            lm.prefix_ids,
            lm.end_id,
            max_length=min(self.options.max_length or MAX_PROMPT, room),
            max_tokens=max_tokens,
        )
        return network, AnswerTokenizer(lm.tokenizer, prompt)
