"""Writes language models for tests: a few thousand random weights, one token per word, masked or causal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.tinybert import WORDS

LABELS = ("food", "sport", "money")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NAMES = ["topic", ":", *LABELS, "order", "wager"]


def write_tinymlm(folder: Path, hidden: int = 48, layers: int = 2) -> Path:
    """Write a BERT with its masked-language-model head into the folder; always the same."""
    import torch
    from tokenizers import processors
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = _tokenizer(SPECIAL)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
    )
    return _write(folder, lambda: BertForMaskedLM(config), tokenizer, torch)


def write_tinycausal(folder: Path, hidden: int = 48, layers: int = 3) -> Path:
    """Write a Llama of a few layers into the folder; always the same."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(["[PAD]", "[UNK]", "<|endoftext|>"])
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=2,
    )
    return _write(folder, lambda: LlamaForCausalLM(config), tokenizer, torch)


def write_tinyt5(folder: Path, hidden: int = 48, layers: int = 2) -> Path:
    """Write a T5 of a few layers into the folder; always the same."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = _tokenizer(["[PAD]", "</s>", "[UNK]"])
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=hidden,
        d_kv=hidden // 4,
        d_ff=2 * hidden,
        num_layers=layers,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return _write(folder, lambda: T5ForConditionalGeneration(config), tokenizer, torch)


def _tokenizer(special: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate([*special, *WORDS, *NAMES])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    return tokenizer


def _write(folder: Path, make: Any, tokenizer: Any, torch: Any) -> Path:
    from transformers import PreTrainedTokenizerFast

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make()
        # With the library's small initial weights all words would be nearly equal.
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    if "<|endoftext|>" in tokenizer.get_vocab():
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
        ).save_pretrained(folder)
    return folder
