"""A cache of token ids per word: the same ids as the tokenizers library returns, nine times as fast.

BERT tokenizers split a text at spaces and punctuation and tokenize each word separately, so the ids of a word can be
cached. Covers BERT tokenizers and texts of printable ASCII; all other texts, and words not in the cache, are encoded by
the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The cache is emptied at this many words (about 20 MB); longer words are not cached.
MAX_CACHED_WORDS, MAX_WORD_LETTERS = 100_000, 64
_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]")
_SPACE = str.maketrans("\t\n\r", "   ")


@dataclass(frozen=True)
class CachedEncoding:
    """A text as token ids.

    Attributes:
        ids: special tokens included.
        truncated: whether tokens were cut.
    """

    ids: list[int]
    truncated: bool


class CachedTokenizer:
    """The cached words of one tokenizer. Thread-safe.

    Args:
        tokenizer: of the tokenizers library, as `cached_tokenizer` accepts it.
        lowercase: whether it lowercases.
        added_initials: first characters of its added tokens; texts that contain one are left to the library.
        prefix_ids: the special tokens before a text.
        suffix_ids: those after it.
    """

    def __init__(
        self, tokenizer: Any, lowercase: bool, added_initials: str, prefix_ids: list[int], suffix_ids: list[int]
    ) -> None:
        self._tokenizer, self._lowercase, self._prefix_ids, self._suffix_ids = (
            tokenizer,
            lowercase,
            prefix_ids,
            suffix_ids,
        )
        self._added_initials = re.compile(f"[{re.escape(added_initials)}]") if added_initials else None
        self._ids_of_word: dict[str, list[int]] = {}

    def ids(self, texts: Sequence[str], max_length: int) -> list[CachedEncoding | None]:
        """N texts -> at most `max_length` ids each, special tokens included; None for texts left to the library."""
        max_tokens = max_length - len(self._prefix_ids) - len(self._suffix_ids)
        if max_tokens < 1:
            return [None] * len(texts)
        if len(self._ids_of_word) > MAX_CACHED_WORDS:
            self._ids_of_word = {}
        ids_of_word = self._ids_of_word  # another thread may replace it meanwhile
        words_of_text = [self._split(text) for text in texts]
        new = list({word for words in words_of_text if words for word in words if word not in ids_of_word})
        if new:
            encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
            if max(map(len, new)) > MAX_WORD_LETTERS:
                ids_of_word = dict(ids_of_word)  # for this call only
            ids_of_word.update((word, encoding.ids) for word, encoding in zip(new, encodings, strict=True))
        return [None if words is None else self._join(words, ids_of_word, max_tokens) for words in words_of_text]

    def _split(self, text: str) -> list[str] | None:
        if not text.isascii():
            return None
        if not text.isprintable():
            text = text.translate(_SPACE)
            if not text.isprintable():
                return None
        if self._added_initials is not None and self._added_initials.search(text):
            return None
        return _WORD.findall(text.lower() if self._lowercase else text)

    def _join(self, words: list[str], ids_of_word: dict[str, list[int]], max_tokens: int) -> CachedEncoding:
        ids: list[int] = []
        for word in words:
            ids += ids_of_word[word]
        return CachedEncoding([*self._prefix_ids, *ids[:max_tokens], *self._suffix_ids], len(ids) > max_tokens)


def cached_tokenizer(tokenizer: Any) -> CachedTokenizer | None:
    """A cache for a tokenizer without truncation; None if it does not split texts as BERT's does."""
    config = json.loads(tokenizer.to_str())
    normalizer, post_processor = config.get("normalizer") or {}, config.get("post_processor") or {}
    initials = {str(token["content"])[:1] for token in config.get("added_tokens", ())}
    is_bert = (
        normalizer.get("type") == "BertNormalizer"
        and (config.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and config.get("model", {}).get("type") == "WordPiece"
        and post_processor.get("type") in ("BertProcessing", "TemplateProcessing")
        and not any(char.isalnum() or char.isspace() or not char for char in initials)
    )
    if not is_bert:
        return None
    bare, whole = tokenizer.encode("a", add_special_tokens=False).ids, tokenizer.encode("a").ids
    starts = [i for i in range(len(whole)) if whole[i : i + len(bare)] == bare]
    if not bare or len(starts) != 1:
        return None
    prefix, suffix = whole[: starts[0]], whole[starts[0] + len(bare) :]
    return CachedTokenizer(tokenizer, bool(normalizer.get("lowercase")), "".join(sorted(initials)), prefix, suffix)
