"""A bundle of a student that answers in words: predict with it. Needs numpy, onnxruntime and tokenizers, never torch.

The sibling of `Bundle`: the same folder, record and checks, and `predict` gives the answer to each text. Get one from
`FreeTextBundle.open`. Does not cover sampling, or calibration: a confidence orders answers, and is no frequency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import exp
from pathlib import Path
from typing import Any

from potstill.bundle.bundle import TRY_OUT_TEXTS
from potstill.bundle.form_bundle import FormBundle
from potstill.bundle.layout import ENCODER
from potstill.bundle.onnx_decoder import OnnxDecoder, OnnxSeq2SeqDecoder
from potstill.bundle.preprocessors import PromptPreprocessor
from potstill.bundle.record import EXPORT_AGAIN, BundleRecord
from potstill.bundle.sessions import open_session
from potstill.bundle.text_inputs import read_inputs
from potstill.errors import RunNotFound
from potstill.models.greedy_decoding import Floats, GeneratedAnswer, forced_scores, generate_ids
from potstill.models.tokens.tokenizer import check_texts

BLOCK_TEXTS = 256  # texts whose answers are written before the next are read
TRY_OUT_TOKENS = 2  # tokens that are written when a bundle is loaded


class FreeTextBundle(FormBundle[PromptPreprocessor]):
    """A trained student that answers in words; it has no `labels`, and the preprocessor gives prompts.

    Attributes:
        encoder: the graph that reads the prompts of an encoder-decoder, open in onnxruntime; None of a causal model,
            whose graph reads them itself.
    """

    form = "free"
    preprocessor_type = PromptPreprocessor

    def __init__(self, folder: Path, record: BundleRecord, *, graph: str = "", threads: int = 1) -> None:
        super().__init__(folder, record, graph=graph, threads=threads)
        reads_apart = self.preprocessor.prompt.start_id is not None
        if reads_apart and ENCODER not in record.needed_files(self.graph):  # what is not needed is not checked
            raise RunNotFound(f"{folder} is damaged: its record does not list {ENCODER}.", EXPORT_AGAIN)
        self.encoder: Any = open_session(folder / ENCODER) if reads_apart else None

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The answer to each of N texts, in their order.

        Args:
            texts: N texts: a list, a column, or a data frame, Arrow table, data set or list of dictionaries, which is
                read by the column the student was trained on.

        Raises:
            BadData: a text is not a string, or a frame lacks the column.
        """
        return [each.text for each in self.iter_answers(texts)]

    def iter_answers(self, texts: Iterable[str], rows: int = BLOCK_TEXTS) -> Iterator[GeneratedAnswer]:
        """The answer to each text with its confidence, in order, holding at most `rows` texts at a time."""
        source = iter(read_inputs(texts, self.record) if hasattr(texts, "__getitem__") else texts)
        while block := list(islice(source, rows)):
            yield from self.generate(block)

    def generate(self, texts: Sequence[str]) -> list[GeneratedAnswer]:
        """The answers to N texts, the most probable token each time."""
        return self._generate(texts, self.preprocessor.prompt.max_tokens)

    def forced_logits(self, texts: Sequence[str], answers: Sequence[str]) -> list[Floats]:
        """N arrays (A_i, V) of scores of the tokens of given answers and their end, each after those before it."""
        prompts, written = self.preprocessor.encode(texts), self.preprocessor.encode_answers(answers)
        return forced_scores(self._decoder(), prompts, written)

    def try_out(self) -> None:
        """Begin to answer two texts. Raises BadData, or the error of a library, if the files do not fit together."""
        self._generate(TRY_OUT_TEXTS, TRY_OUT_TOKENS)

    def _decoder(self) -> OnnxDecoder:
        start_id = self.preprocessor.prompt.start_id
        if start_id is None:
            return OnnxDecoder(self.session, self.graph)
        return OnnxSeq2SeqDecoder(self.session, self.graph, self.encoder, start_id)

    def _generate(self, texts: Sequence[str], max_tokens: int) -> list[GeneratedAnswer]:
        check_texts(texts)
        limits = replace(self.preprocessor.prompt.limits, max_tokens=max_tokens)
        found = generate_ids(self._decoder(), self.preprocessor.encode(texts), limits, threads=self.threads)
        return [
            GeneratedAnswer(self.preprocessor.decode(each.ids), exp(each.log_prob), each.complete) for each in found
        ]
