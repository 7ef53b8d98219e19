"""Tiny models and texts for `gpu.py --small`: a causal model and an encoder of a few thousand random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("food", "sport", "money")
WORDS = {
    "food": "soup bread cheese dinner apple kitchen".split(),
    "sport": "match goal referee tennis runner stadium".split(),
    "money": "bank loan market shares profit invoice".split(),
}
SIZE = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


def small_texts(n: int, seed: int) -> list[tuple[str, str]]:
    """n texts of three words with their labels."""
    draw = np.random.default_rng(seed)
    labels = [LABELS[row % len(LABELS)] for row in range(n)]
    return [(" ".join(draw.choice(WORDS[label], 3)), label) for label in labels]


def write_small_models(folder: Path) -> tuple[Path, Path]:
    """Write a causal model and an encoder; returns their folders. Always the same weights."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    causal, encoder = folder / "causal", folder / "encoder"
    words = [":", "Text", "Label", *LABELS, *(word for row in WORDS.values() for word in row)]
    chat = _tokenizer(["[PAD]", "[UNK]", "<|endoftext|>"], words)
    masked = _tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=chat.get_vocab_size(),
                num_key_value_heads=2,
                max_position_embeddings=512,
                bos_token_id=2,
                eos_token_id=2,
                **SIZE,
            )
        )
        bert = BertModel(
            BertConfig(vocab_size=masked.get_vocab_size(), max_position_embeddings=64, **SIZE), add_pooling_layer=False
        )
        for model in (llama, bert):  # with the library's small initial weights all words would be nearly equal
            torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    llama.save_pretrained(causal)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=chat, bos_token=end, eos_token=end, pad_token="[PAD]").save_pretrained(
        causal
    )
    bert.save_pretrained(encoder)
    masked.save(str(encoder / "tokenizer.json"))
    return causal, encoder


def _tokenizer(special: list[str], words: list[str]) -> Any:
    """One token a word; `[CLS] text [SEP]` where there are such tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    if "[CLS]" in vocabulary:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", 2))
    return tokenizer
