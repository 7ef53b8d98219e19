"""Exports a language model that answers in words as a folder that transformers generates with.

The tokenizer puts the prompt of the task around each text, as others put special tokens, so that a program gives it the
text alone. Does not cover classifiers; `transformers_export` does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from potstill.data.task import JsonObject
from potstill.models.answer_prompt import AnswerPrompt
from potstill.models.cloze_pattern import tokenizer_from_json
from potstill.models.tokens.tokenizer import Ids
from potstill.students.backbone import silence_transformers
from potstill.students.base import Floats

TEXT = {"Sequence": {"id": "A", "type_id": 0}}
PAIR = [TEXT, {"Sequence": {"id": "B", "type_id": 0}}]


def save_writer_for_transformers(model: Any, tokenizer: str, prompt: AnswerPrompt, folder: Path) -> None:
    """Write `model.safetensors`, the configurations of model, generation and tokenizer, and `tokenizer.json`.

    Args:
        model: a language model of transformers, trained.
        tokenizer: the content of its `tokenizer.json`.
        prompt: the prompt of the task.
        folder: that of the bundle.
    """
    from transformers import GenerationConfig

    names = tokenizer_from_json(tokenizer)
    end = str(names.id_to_token(prompt.stop_id))
    # A pad token is a special one and missing in what is decoded, and the layout's may be a word.
    pad_id = model.config.pad_token_id if model.config.is_encoder_decoder else prompt.stop_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=prompt.max_tokens,
        eos_token_id=prompt.stop_id,
        pad_token_id=pad_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )
    with silence_transformers():
        model.save_pretrained(folder)
    written = json.loads(tokenizer)
    written["post_processor"] = _prompt_template(prompt, names)
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": prompt.layout.max_length,
        "eos_token": end,
        "pad_token": str(names.id_to_token(pad_id)),
        "padding_side": "right" if model.config.is_encoder_decoder else "left",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=1), encoding="utf-8")


def _prompt_template(prompt: AnswerPrompt, names: Any) -> JsonObject:
    """The post-processor that puts the prompt's tokens around a text."""
    before, after = prompt.layout.prefix_ids, prompt.layout.suffix_ids
    tokens = {token: str(names.id_to_token(token)) for token in (*before, *after)}
    pieces = {token: {"SpecialToken": {"id": name, "type_id": 0}} for token, name in tokens.items()}
    return {
        "type": "TemplateProcessing",
        "single": [*(pieces[token] for token in before), TEXT, *(pieces[token] for token in after)],
        "pair": PAIR,
        "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]} for token, name in tokens.items()},
    }


def transformers_forced_logits(folder: Path, texts: Sequence[str], answers: Sequence[Ids]) -> list[Floats]:
    """N arrays (A_i, V) of scores of the tokens of given answers by transformers' own classes, one text at a time.

    Args:
        folder: of a bundle.
        texts: N texts, each on one line.
        answers: their N answers as token ids.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    with silence_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        writes_beside = AutoConfig.from_pretrained(folder, local_files_only=True).is_encoder_decoder
        kind = AutoModelForSeq2SeqLM if writes_beside else AutoModelForCausalLM
        model = kind.from_pretrained(folder, local_files_only=True).eval()
    found = []
    with torch.inference_mode():
        for text, answer in zip(texts, answers, strict=True):
            ids = tokenizer(text, truncation=True, return_tensors="pt")["input_ids"]
            own = torch.from_numpy(answer)[None]
            if writes_beside:
                logits = model(input_ids=ids, labels=own).logits[0]
            else:
                logits = model(torch.cat([ids, own], 1)).logits[0, ids.shape[1] - 1 : -1]
            found.append(logits.float().numpy())
    return found
