"""Writes an encoder for tests: a BERT of a few thousand random weights, with one token per word."""

from __future__ import annotations

from pathlib import Path

WORDS = [
    "the",
    "and",
    "one",
    "please",
    "or",
    "a",
    "much",
    "longer",
    "text",
    "soup",
    "bread",
    "cheese",
    "dinner",
    "apple",
    "kitchen",
    "match",
    "goal",
    "referee",
    "tennis",
    "runner",
    "stadium",
    "bank",
    "loan",
    "market",
    "shares",
    "profit",
    "invoice",
    "word",
    ",",
    ".",
    "!",
]


def write_tinybert(folder: Path, hidden: int = 48, layers: int = 2) -> Path:
    """Write config.json, model.safetensors and tokenizer.json into the folder; always the same."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = BertModel(config, add_pooling_layer=False)
        # With the library's small initial weights all words would be nearly equal.
        torch.nn.init.normal_(network.embeddings.word_embeddings.weight, std=1.0)
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
