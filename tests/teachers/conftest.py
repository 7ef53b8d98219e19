"""Tiny causal models with random weights, made on the fly: exactness needs no knowledge. And short waits between tries.

That waits grow and are honoured is tested on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.batch_queue_run import Shop
from support.chat_server import FakeServer
from support.chat_server_batches import BatchQueue

from potstill.teachers import batch_api as batches
from potstill.teachers import rate_limit as pace

WORDS = ["red", "blue", "news", "sports", "money", "of", "the", "and", "world", "card", "fee", "late", "day", "bank"]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "INITIAL_BACKOFF_S", 0.01)


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A folder and a server with a batch queue, in the dialect that the parameter names."""
    monkeypatch.setattr(batches, "STEP_TIMEOUT_S", 0.3)
    queue = BatchQueue(anthropic=request.param == "anthropic")
    with FakeServer(queue=queue) as server:
        yield Shop(tmp_path / "run", server, queue)


@pytest.fixture(scope="session")
def tiny_causal() -> Callable[..., Any]:
    """Call it for a random two-layer decoder: `tiny_causal(kind="llama", dtype="float32", **config)`."""

    def make(kind: str = "llama", dtype: str = "float32", vocabulary: int = 61, **config: Any) -> Any:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        settings = {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 512,
            "initializer_range": 0.4,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        torch.manual_seed(3)
        made = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**settings, **config}))
        return made.eval().to(getattr(torch, dtype))

    return make


@pytest.fixture(scope="session")
def tiny_folder(tiny_causal: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder of such a decoder with a byte-level tokenizer that knows a few words, one for control."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    control = ["<|endoftext|>", "<|im_end|>"]
    lines = [f" {word} {word}\n\n{word}" for word in WORDS] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=control, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    tiny_causal(vocabulary=tokenizer.get_vocab_size(), max_position_embeddings=8192).save_pretrained(folder)
    return folder
