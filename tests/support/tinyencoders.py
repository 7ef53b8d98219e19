"""Writes encoders of other families than BERT for tests: a few thousand random weights, one token per word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.tinybert import WORDS

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
SIZE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


def _mpnet(n: int) -> Any:
    from transformers import MPNetConfig

    return MPNetConfig(vocab_size=n, max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZE)


def _xlm_roberta(n: int) -> Any:
    from transformers import XLMRobertaConfig

    places = {"max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return XLMRobertaConfig(vocab_size=n, type_vocab_size=1, **places, **SIZE)


def _modernbert(n: int) -> Any:
    from transformers import ModernBertConfig

    ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return ModernBertConfig(
        vocab_size=n, max_position_embeddings=64, local_attention=16, global_attn_every_n_layers=2, **ids, **SIZE
    )


def _deberta(n: int) -> Any:
    from transformers import DebertaV2Config

    relative = {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]}
    return DebertaV2Config(
        vocab_size=n, max_position_embeddings=64, type_vocab_size=0, norm_rel_ebd="layer_norm", share_att_key=True,
        position_biased_input=False, **relative, **SIZE,
    )  # fmt: skip


FAMILIES: dict[str, tuple[Callable[[int], Any], tuple[str, ...]]] = {
    "mpnet": (_mpnet, ROBERTA_TOKENS),
    "xlm-roberta": (_xlm_roberta, ROBERTA_TOKENS),
    "modernbert": (_modernbert, BERT_TOKENS),
    "deberta-v2": (_deberta, BERT_TOKENS),
}


def write_tinyencoder(family: str, folder: Path) -> Path:
    """A folder as a hub has it: config.json, model.safetensors, tokenizer.json and how its vectors are pooled."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoModel

    make, special = FAMILIES[family]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    unknown, begin, end = ("[UNK]", "[CLS]", "[SEP]") if special is BERT_TOKENS else ("<unk>", "<s>", "</s>")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocabulary[end]), (begin, vocabulary[begin]), add_prefix_space=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = AutoModel.from_config(make(len(vocabulary)))
        torch.nn.init.normal_(network.get_input_embeddings().weight, std=1.0)
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"pooling_mode_cls_token": family == "modernbert", "pooling_mode_mean_tokens": family != "modernbert"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder
