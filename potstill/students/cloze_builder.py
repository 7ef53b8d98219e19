"""Builds a cloze network and its tokenizer from a pattern, label words and a language model.

Selects the label words, and converts pattern and words to token ids and positions. Trains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from potstill.data.task import TaskKind
from potstill.errors import BadSpec
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer, tokenizer_from_json
from potstill.students.backbone import predict_batches
from potstill.students.base import TrainingData
from potstill.students.cloze_network import ClozeNetwork, PretrainedLM
from potstill.students.cloze_options import ClozeOptions
from potstill.students.verbalizer import (
    LabelTokens,
    LabelWords,
    TokenAggregation,
    VerbalizerSpec,
    causal_verbalizer,
    default_label_words,
    find_label_tokens,
    first_token_collisions,
    masked_verbalizer,
    resolve_collisions,
)

# A trie of more nodes, or more masks, would cost more than the text: then words are blended at the first position.
MAX_TRIE_NODES, MAX_MASKS = 16, 4
ROWS_PER_LABEL = 16  # for the search for label words
PLACEHOLDERS = re.compile(r"(\{text\}|\{text_b\}|\{label\})")
# (pair task, masked model) -> the default pattern.
DEFAULT_TEMPLATES = {
    (False, False): "{text}\nTopic: {label}",
    (False, True): "{text} Topic: {label}.",
    (True, False): "{text}\n{text_b}\nTogether: {label}",
    (True, True): "{text}? {label}, {text_b}",
}
CONTEXT_CHARS = 12  # characters before a word that it is tokenized with


@dataclass(frozen=True)
class Pattern:
    """The pattern around the texts and the label, for one language model.

    Attributes:
        lm: the language model.
        options: the user's.
        kind: of the task; "pair" has two texts per row.

    Raises:
        BadSpec: placeholders that are missing or in the wrong order, or a causal model's label that is not last.
    """

    lm: PretrainedLM
    options: ClozeOptions
    kind: TaskKind = "single"

    def __post_init__(self) -> None:
        template, causal = self.template, self.lm.mask_id is None
        texts = ["{text}", "{text_b}"] if self.kind == "pair" else ["{text}"]
        placeholders = PLACEHOLDERS.findall(template)
        if [name for name in placeholders if name != "{label}"] != texts:
            raise BadSpec(
                f"The cloze's pattern {template!r} needs {' and then '.join(texts)}, once.",
                f"Write it as in {self.default_template!r}.",
            )
        if causal and not template.rstrip().endswith("{label}"):
            raise BadSpec(
                "A causal model continues a text, and the cloze's pattern does not end in {label}.",
                f"Write it as in {self.default_template!r}, or use a masked language model.",
            )

    @property
    def default_template(self) -> str:
        """The default pattern of the kind of task and of model."""
        return DEFAULT_TEMPLATES[self.kind == "pair", self.lm.mask_id is not None]

    @property
    def template(self) -> str:
        """The user's pattern, or the default."""
        return self.options.pattern or self.default_template

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return tokenizer_from_json(self.lm.tokenizer)

    def encode_after(self, before: str, text: str) -> list[int]:
        """Token ids of `text` as it continues `before`.

        Encoded together because tokenizers attach a space to the next word, and some put one before the first word.
        """
        whole = self.tokenizer.encode(before + text, add_special_tokens=False).ids
        prefix = self.tokenizer.encode(before, add_special_tokens=False).ids if before else []
        if whole[: len(prefix)] == prefix:
            return list(whole[len(prefix) :])
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_word(self, word: str) -> list[int]:
        """Token ids of a word in the label's position."""
        before = PLACEHOLDERS.split(self.template.partition("{label}")[0])[-1]
        space = " " if before and (before[-1] == " " or not before[-1].isspace()) else ""
        return self.encode_after(before.rstrip(" ")[-CONTEXT_CHARS:], space + word)

    def layout(self, verbalizer: VerbalizerSpec) -> PatternLayout:
        """The pattern as token ids, with one mask per position of the verbalizer.

        Raises:
            BadSpec: `max_length` leaves too few tokens for a text.
        """
        lm = self.lm
        parts: list[list[int]] = []
        ids = [*lm.prefix_ids, *[0] * self.options.soft_prompt_tokens]
        for i, piece in enumerate(PLACEHOLDERS.split(self.template)):
            if piece == "{label}":
                ids += [] if lm.mask_id is None else [lm.mask_id] * verbalizer.n_positions
            elif PLACEHOLDERS.fullmatch(piece):
                parts, ids = [*parts, ids], []
            else:
                ids += self.encode_after("x" if i else "", piece.rstrip(" ")) if piece.strip() else []
        parts.append([*ids, *lm.suffix_ids])
        prefix, *separator, suffix = (tuple(part) for part in parts)
        max_length = min(self.options.max_length or 256, lm.context_length - len(verbalizer.tokens))
        n_pattern = sum(map(len, parts))
        if max_length < n_pattern + 4:
            raise BadSpec(
                f"A row of {max_length} tokens has no room for a text beside the pattern's {n_pattern}.",
                "Set a larger max_length, or a shorter pattern.",
            )
        separator_ids = separator[0] if separator else None
        return PatternLayout(prefix, suffix, self._text_prefix, max_length, separator_ids=separator_ids)

    @property
    def _text_prefix(self) -> str:
        """A space if a word of the pattern precedes the (first) text."""
        before = self.template.partition("{text}")[0].replace("{label}", "x")
        return " " if before.strip() and not before.endswith("\n") else ""


def choose_label_words(
    pattern: Pattern, labels: Sequence[str], descriptions: Mapping[str, str], data: TrainingData | None
) -> LabelWords:
    """Select the words of K labels; see `ClozeOptions.verbalizer`.

    Args:
        pattern: the pattern and its language model.
        labels: the K label names.
        descriptions: label -> one sentence; may be empty.
        data: rows for the search of label words; None for a zero-shot student.

    Raises:
        BadSpec: two labels have words of the same tokens, or a label has words without tokens.
    """
    options = pattern.options
    words = default_label_words(labels, options.label_words)
    free = [label for label in range(len(labels)) if labels[label] not in options.label_words]
    method = options.verbalizer
    if method in ("descriptions", "auto"):
        resolved = resolve_collisions(words, labels, descriptions, pattern.encode_word)
        words = tuple(resolved[label] if label in free else words[label] for label in range(len(labels)))
    tokens = _encode_words(pattern, words)
    if method == "data":
        to_search = free
    elif method == "auto" and all(len(word) <= 1 for label_words in tokens for word in label_words):
        to_search = [label for label in first_token_collisions(tokens) if label in free]
    else:  # names of several tokens are better label words than one token of a search
        to_search = [label for label in _indistinct(tokens) if label in free]
    if to_search and data is not None:
        words = _search_words(pattern, words, to_search, data)
    indistinct = _indistinct(_encode_words(pattern, words))
    if indistinct:
        raise BadSpec(
            f"The words of {labels[indistinct[0]]!r} have the same tokens as another label's in this model, or none.",
            "Set others in `label_words`, or give training rows to select them by.",
        )
    return words


def _encode_words(pattern: Pattern, words: LabelWords) -> list[list[list[int]]]:
    return [[pattern.encode_word(word) for word in label_words] for label_words in words]


def build_cloze_network(pattern: Pattern, words: LabelWords) -> tuple[ClozeNetwork, PatternTokenizer]:
    """The untrained network that scores `words` in the pattern, and the tokenizer of its texts."""
    lm, options = pattern.lm, pattern.options
    tokens = _encode_words(pattern, words)
    aggregation = _token_aggregation(options, tokens, causal=lm.mask_id is None)
    if lm.mask_id is None:
        end = [*pattern.encode_after("x", "\n"), lm.prefix_ids[0]][0]  # some tokenizers have no line break
        verbalizer = causal_verbalizer(tokens, aggregation, end)
    else:
        verbalizer = masked_verbalizer(tokens, aggregation)
    if pattern.kind == "multi":  # sigmoids need log-probabilities: the scale of logits differs between texts
        verbalizer = replace(verbalizer, normalised=True)
    network = ClozeNetwork(lm.model, verbalizer, lm.mask_id, (options.soft_prompt_tokens, len(lm.prefix_ids)))
    if options.soft_prompt_tokens:
        _init_soft_prompt(network, tokens)
    return network.eval(), PatternTokenizer(lm.tokenizer, pattern.layout(verbalizer))


def _token_aggregation(options: ClozeOptions, tokens: LabelTokens, *, causal: bool) -> TokenAggregation:
    if options.token_aggregation != "auto":
        return options.token_aggregation
    if causal:
        nodes = {tuple(word[:n]) for own in tokens for word in own for n in range(1, len(word))}
        return "sum" if len(nodes) <= MAX_TRIE_NODES else "blend"
    return "mean" if max(len(word) for own in tokens for word in own) <= MAX_MASKS else "blend"


def _indistinct(tokens: LabelTokens) -> list[int]:
    """Labels with the same tokens as another label, or without tokens."""
    label_of: dict[tuple[tuple[int, ...], ...], int] = {}
    indistinct = set()
    for label, label_words in enumerate(tokens):
        key = tuple(sorted(tuple(word) for word in label_words))
        if not all(key):
            indistinct.add(label)
        if key in label_of:
            indistinct |= {label_of[key], label}
        label_of.setdefault(key, label)
    return sorted(indistinct)


def _search_words(pattern: Pattern, words: LabelWords, to_search: Sequence[int], data: TrainingData) -> LabelWords:
    """Replace the words of these labels by single tokens that separate the labels on the training rows."""
    lm = pattern.lm
    single = VerbalizerSpec((), (), ((0, 0),), np.ones((1, 1), dtype=np.float32), False)
    hard = replace(pattern, options=pattern.options.model_copy(update={"soft_prompt_tokens": 0}))
    network = ClozeNetwork(lm.model, single, lm.mask_id)
    tokenizer = PatternTokenizer(lm.tokenizer, hard.layout(single))
    gold = np.asarray(data.targets).argmax(axis=1)
    labelled = np.asarray(data.targets).max(axis=1) > 0  # in multi-label tasks a row may have no label
    rows = np.concatenate([np.flatnonzero(labelled & (gold == label))[:ROWS_PER_LABEL] for label in range(len(words))])
    ids = tokenizer.encode([data.texts[row] for row in rows]).ids
    log_probs = predict_batches(network.first_token_log_probs, ids, tokenizer.layout.pad_id, low_precision=True)
    used = {pattern.encode_word(word)[0] for label, own in enumerate(words) if label not in to_search for word in own}
    word_of = _single_token_words(pattern, log_probs.shape[1], used)
    allowed = np.zeros(log_probs.shape[1], dtype=np.bool_)
    allowed[list(word_of)] = True
    found = list(words)
    for label, candidates in enumerate(find_label_tokens(log_probs, gold[rows], len(words), allowed)):
        token = next((token for token in candidates if token in word_of and token not in used), None)
        if label in to_search and token is not None:
            used.add(token)
            found[label] = (word_of[token],)
    return tuple(found)


def _single_token_words(pattern: Pattern, vocabulary_size: int, used: Collection[int]) -> dict[int, str]:
    """Token id -> word, for all words of three or more letters that are one token."""
    words: dict[int, str] = {}
    for token, number in pattern.tokenizer.get_vocab().items():
        word = token.lstrip("Ġ▁")
        suits = word.isalpha() and len(word) > 2 and number < vocabulary_size and number not in used
        if suits and pattern.encode_word(word) == [number]:
            words[number] = word
    return words


def _init_soft_prompt(network: ClozeNetwork, tokens: LabelTokens) -> None:
    """Initialise the soft prompt with the embeddings of the label words' tokens, in turn (Lester et al. 2021)."""
    flat = [token for label_words in tokens for word in label_words for token in word]
    prompt = network.soft_prompt
    with torch.no_grad():
        ids = torch.tensor([flat[i % len(flat)] for i in range(len(prompt))]).to(prompt.device)
        prompt.copy_(network.model.get_input_embeddings()(ids))
