"""A pattern, words and a language model -> a network that scores labels, and the reader of its texts.

Decides which words stand for the labels, and turns pattern and words into token ids and places. Learns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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

# A label tree of more tokens, or more masks, would cost more than the text: then a word is blended at the first place.
MAX_TRIE_NODES, MAX_MASKS = 16, 4
ROWS_PER_LABEL = 16  # that the search for words looks at
PLACEHOLDERS = re.compile(r"(\{text\}|\{text_b\}|\{label\})")
# (pair, masked) -> the pattern where the user gives none.
DEFAULT_TEMPLATES = {
    (False, False): "{text}\nTopic: {label}",
    (False, True): "{text} Topic: {label}.",
    (True, False): "{text}\n{text_b}\nTogether: {label}",
    (True, True): "{text}? {label}, {text_b}",
}
CONTEXT_CHARS = 12  # characters before a word: enough for any tokenizer to settle


@dataclass(frozen=True)
class Pattern:
    """What stands around the texts and the label, in one model's token ids.

    Attributes:
        base: the language model.
        options: the user's.
        kind: of the task; "pair" has two texts a row.

    Raises:
        BadSpec: places that are missing or in a wrong order, or a causal model's label that does not stand last.
    """

    base: PretrainedLM
    options: ClozeOptions
    kind: TaskKind = "single"

    def __post_init__(self) -> None:
        template, causal = self.template, self.base.mask_id is None
        texts = ["{text}", "{text_b}"] if self.kind == "pair" else ["{text}"]
        holes = [piece for piece in PLACEHOLDERS.split(template) if PLACEHOLDERS.fullmatch(piece)]
        if [hole for hole in holes if hole != "{label}"] != texts:
            wanted = " and then ".join(texts)
            raise BadSpec(
                f"The cloze's pattern {template!r} needs {wanted} in it, once.", f"As {self.default_template!r}."
            )
        if causal and not template.rstrip().endswith("{label}"):
            raise BadSpec(
                "A causal model continues a text, and the cloze's pattern does not end in {label}.",
                f"Write it as {self.default_template!r}, or take a masked language model.",
            )

    @property
    def default_template(self) -> str:
        """The pattern of the kind of task and of model."""
        return DEFAULT_TEMPLATES[self.kind == "pair", self.base.mask_id is not None]

    @property
    def template(self) -> str:
        """The user's pattern, or the usual one."""
        return self.options.pattern or self.default_template

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own."""
        return tokenizer_from_json(self.base.tokenizer)

    def encode_after(self, before: str, text: str) -> list[int]:
        """The token ids of `text` as it stands behind `before`; tokenizers glue spaces, and some add one in front."""
        whole = self.tokenizer.encode(before + text, add_special_tokens=False).ids
        head = self.tokenizer.encode(before, add_special_tokens=False).ids if before else []
        if whole[: len(head)] == head:
            return list(whole[len(head) :])
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_word(self, word: str) -> list[int]:
        """The token ids of a word in the label's place."""
        before = PLACEHOLDERS.split(self.template.partition("{label}")[0])[-1]
        gap = " " if before and (before[-1] == " " or not before[-1].isspace()) else ""
        return self.encode_after(before.rstrip(" ")[-CONTEXT_CHARS:], gap + word)

    def layout(self, reading: VerbalizerSpec) -> PatternLayout:
        """What stands around each text, with a mask for each place that is read.

        Raises:
            BadSpec: rows have no room for a text.
        """
        base = self.base
        pieces: list[list[int]] = []
        now = [*base.prefix_ids, *[0] * self.options.soft_prompt_tokens]
        for i, piece in enumerate(PLACEHOLDERS.split(self.template)):
            if piece == "{label}":
                now += [] if base.mask_id is None else [base.mask_id] * reading.n_positions
            elif PLACEHOLDERS.fullmatch(piece):
                pieces, now = [*pieces, now], []
            else:
                now += self.encode_after("x" if i else "", piece.rstrip(" ")) if piece.strip() else []
        pieces.append([*now, *base.suffix_ids])
        begin, *between, end = (tuple(piece) for piece in pieces)
        longest = min(self.options.max_length or 256, base.context_length - len(reading.tokens))
        found = PatternLayout(begin, end, self._glue, longest, separator_ids=between[0] if between else None)
        taken = sum(map(len, pieces))
        if longest < taken + 4:
            raise BadSpec(
                f"A row of {longest} tokens has no room for a text beside the pattern's {taken}.",
                "Give a larger max_length, or a shorter pattern.",
            )
        return found

    @property
    def _glue(self) -> str:
        """A space before a text's characters where a word stands before the (first) text."""
        before = self.template.partition("{text}")[0].replace("{label}", "x")
        return " " if before.strip() and not before.endswith("\n") else ""


def choose_label_words(
    pattern: Pattern, labels: Sequence[str], descriptions: Mapping[str, str], data: TrainingData | None
) -> LabelWords:
    """The words that stand for K labels; see `Options.verbalizer`.

    Raises:
        BadSpec: the words of two labels read the same, and nothing better is known.
    """
    options = pattern.options
    words = default_label_words(labels, options.label_words)
    free = [label for label in range(len(labels)) if labels[label] not in options.label_words]
    how = options.verbalizer

    def tokens() -> list[list[list[int]]]:
        return [[pattern.encode_word(word) for word in own] for own in words]

    if how in ("descriptions", "auto"):
        better = resolve_collisions(words, labels, descriptions, pattern.encode_word)
        words = tuple(better[label] if label in free else words[label] for label in range(len(labels)))
    unread = [label for label in _unread(tokens()) if label in free]
    wanted = free if how == "data" else [label for label in first_token_collisions(tokens()) if label in free]
    # Names of several words say more than one found token does, unless a model cannot read them at all.
    wanted = wanted if how == "data" or (how == "auto" and _few(words, pattern)) else unread
    if wanted and data is not None:
        words = _found(pattern, words, wanted, data)
    bad = _unread(tokens())
    if bad:
        raise BadSpec(
            f"The words of {labels[bad[0]]!r} read like those of another label to this model, or not at all.",
            "Give it others under `words`, or rows to find some by.",
        )
    return words


def build_cloze_network(pattern: Pattern, words: LabelWords) -> tuple[ClozeNetwork, PatternTokenizer]:
    """The network that scores `words` in the pattern, before learning, and the reader of its texts."""
    base, options = pattern.base, pattern.options
    tokens = [[pattern.encode_word(word) for word in own] for own in words]
    if base.mask_id is None:
        end = [*pattern.encode_after("x", "\n"), base.prefix_ids[0]][0]  # a tokenizer may know no line breaks
        reading = causal_verbalizer(tokens, _several(options, tokens, causal=True), end)
    else:
        reading = masked_verbalizer(tokens, _several(options, tokens, causal=False))
    if pattern.kind == "multi":  # each label by itself: how loud the model is about a text as a whole must not count
        reading = replace(reading, normalised=True)
    network = ClozeNetwork(base.model, reading, base.mask_id, (options.soft_prompt_tokens, len(base.prefix_ids)))
    if options.soft_prompt_tokens:
        _start_soft(network, tokens)
    return network.eval(), PatternTokenizer(base.tokenizer, pattern.layout(reading))


def _several(options: ClozeOptions, tokens: Sequence[Sequence[Sequence[int]]], causal: bool) -> TokenAggregation:
    if options.token_aggregation != "auto":
        return options.token_aggregation
    longest = max(len(word) for own in tokens for word in own)
    if causal:
        inner = {tuple(word[:n]) for own in tokens for word in own for n in range(1, len(word))}
        return "sum" if len(inner) <= MAX_TRIE_NODES else "blend"
    return "mean" if longest <= MAX_MASKS else "blend"


def _few(words: LabelWords, pattern: Pattern) -> bool:
    """Whether all words are single tokens, so that a found token is worth as much as a name."""
    return all(len(pattern.encode_word(word)) <= 1 for own in words for word in own)


def _unread(tokens: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """Labels whose tokens are those of another label, or none."""
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    bad = []
    for label, own in enumerate(tokens):
        key = tuple(sorted(tuple(word) for word in own))
        if not all(key) or key in seen:
            bad += [label] if key not in seen else [seen[key], label]
        seen.setdefault(key, label)
    return sorted(set(bad))


def _found(pattern: Pattern, words: LabelWords, wanted: Sequence[int], data: TrainingData) -> LabelWords:
    """`words`, with those of the wanted labels found in the rows; the place is where a single token would stand."""
    base = pattern.base
    first = VerbalizerSpec((), (), ((0, 0),), np.ones((1, 1), dtype=np.float32), False)
    hard = replace(pattern, options=pattern.options.model_copy(update={"soft_prompt_tokens": 0}))
    network, ids = ClozeNetwork(base.model, first, base.mask_id), PatternTokenizer(base.tokenizer, hard.layout(first))
    gold = np.asarray(data.targets).argmax(axis=1)
    known = np.asarray(data.targets).max(axis=1) > 0  # a row may have no label, where it may have several
    rows = np.concatenate([np.flatnonzero(known & (gold == label))[:ROWS_PER_LABEL] for label in range(len(words))])
    encoded = ids.encode([data.texts[row] for row in rows]).ids
    scores = predict_batches(network.first_token_log_probs, encoded, ids.layout.pad_id, low_precision=True)
    vocabulary = pattern.tokenizer.get_vocab()
    taken = {pattern.encode_word(word)[0] for label, own in enumerate(words) if label not in wanted for word in own}
    allowed = np.zeros(scores.shape[1], dtype=np.bool_)
    names: dict[int, str] = {}
    for token, number in vocabulary.items():
        bare = token.lstrip("Ġ▁")
        ok = bare.isalpha() and len(bare) > 2 and number < len(allowed)
        if ok and number not in taken and pattern.encode_word(bare) == [number]:
            allowed[number], names[number] = True, bare
    better = list(words)
    for label, choices in enumerate(find_label_tokens(scores, gold[rows], len(words), allowed)):
        choice = next((each for each in choices if each in names and each not in taken), None)
        if label in wanted and choice is not None:
            taken.add(choice)
            better[label] = (names[choice],)
    return tuple(better)


def _start_soft(network: ClozeNetwork, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
    """The soft prompt begins as the labels' own tokens, in turn (Lester et al. 2021)."""
    flat = [token for own in tokens for word in own for token in word]
    with torch.no_grad():
        ids = torch.tensor([flat[i % len(flat)] for i in range(len(network.soft_prompt))]).to(
            network.soft_prompt.device
        )
        network.soft_prompt.copy_(network.model.get_input_embeddings()(ids))
