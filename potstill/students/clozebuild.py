"""A pattern, words and a language model -> a network that scores labels, and the reader of its texts.

Decides which words stand for the labels, and turns pattern and words into token ids and places. Learns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from potstill.errors import BadSpec
from potstill.pattern import PatternIds, Surroundings, read_tokenizer
from potstill.students.backbone import run_network
from potstill.students.base import Lesson
from potstill.students.clozenet import Base, ClozeNetwork
from potstill.students.clozeoptions import CAUSAL_PATTERN, MASKED_PATTERN, Options
from potstill.students.verbalizer import (
    Reading,
    Several,
    Words,
    candidates,
    collisions,
    name_words,
    read_masks,
    read_tree,
    told_apart,
)

# A label tree of more tokens, or more masks, would cost more than the text: then a word is blended at the first place.
MOST_NODES, MOST_MASKS = 16, 4
ROWS_A_LABEL = 16  # that the search for words looks at
CONTEXT = 12  # characters before a word: enough for any tokenizer to settle


@dataclass(frozen=True)
class Pattern:
    """The words around the text and the label, in one model's token ids.

    Attributes:
        base: the language model.
        template: with {text} and {label} in it.
    """

    base: Base
    template: str

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own."""
        return read_tokenizer(self.base.tokenizer)

    @cached_property
    def parts(self) -> tuple[str, str, str]:
        """What stands before, between and after the text and the label."""
        first, second = ("{label}", "{text}") if self.label_first else ("{text}", "{label}")
        head, _, rest = self.template.partition(first)
        middle, _, tail = rest.partition(second)
        return head, middle, tail

    @property
    def label_first(self) -> bool:
        """Whether the label stands before the text, as only a masked model can read it."""
        return self.template.index("{label}") < self.template.index("{text}")

    @property
    def before_label(self) -> str:
        """What stands before the label."""
        return self.parts[0 if self.label_first else 1]

    def behind(self, before: str, text: str) -> list[int]:
        """The token ids of `text` as it stands behind `before`; tokenizers glue spaces, and some add one in front."""
        whole = self.tokenizer.encode(before + text, add_special_tokens=False).ids
        head = self.tokenizer.encode(before, add_special_tokens=False).ids if before else []
        if whole[: len(head)] == head:
            return list(whole[len(head) :])
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def word(self, word: str) -> list[int]:
        """The token ids of a word in the label's place."""
        before = self.before_label
        gap = " " if before and (before[-1] == " " or not before[-1].isspace()) else ""
        return self.behind(before.rstrip(" ")[-CONTEXT:], gap + word)


def pattern_of(base: Base, options: Options) -> Pattern:
    """The user's pattern, or the kind's own.

    Raises:
        BadSpec: a causal model is asked for a label that does not stand at the end.
    """
    template = options.pattern or (CAUSAL_PATTERN if base.mask_id is None else MASKED_PATTERN)
    if base.mask_id is None and not template.rstrip().endswith("{label}"):
        raise BadSpec(
            "A causal model continues a text, and the cloze's pattern does not end in {label}.",
            f"Write it as {CAUSAL_PATTERN!r}, or take a masked language model.",
        )
    return Pattern(base, template)


def choose_words(
    base: Base, labels: Sequence[str], descriptions: Mapping[str, str], options: Options, lesson: Lesson | None
) -> Words:
    """The words that stand for K labels; see `Options.verbalizer`.

    Raises:
        BadSpec: the words of two labels read the same, and nothing better is known.
    """
    pattern = pattern_of(base, options)
    words = name_words(labels, options.words)
    free = [label for label in range(len(labels)) if labels[label] not in options.words]
    how = options.verbalizer

    def tokens() -> list[list[list[int]]]:
        return [[pattern.word(word) for word in own] for own in words]

    if how in ("descriptions", "auto"):
        better = told_apart(words, labels, descriptions, pattern.word)
        words = tuple(better[label] if label in free else words[label] for label in range(len(labels)))
    unread = [label for label in _unread(tokens()) if label in free]
    wanted = free if how == "data" else [label for label in collisions(tokens()) if label in free]
    # Names of several words say more than one found token does, unless a model cannot read them at all.
    wanted = wanted if how == "data" or (how == "auto" and _few(words, pattern)) else unread
    if wanted and lesson is not None:
        words = _found(base, pattern, words, wanted, options, lesson)
    bad = _unread(tokens())
    if bad:
        raise BadSpec(
            f"The words of {labels[bad[0]]!r} read like those of another label to this model, or not at all.",
            "Give it others under `words`, or rows to find some by.",
        )
    return words


def build(base: Base, options: Options, words: Words) -> tuple[ClozeNetwork, PatternIds]:
    """The network that scores `words` in the pattern, before learning, and the reader of its texts."""
    pattern = pattern_of(base, options)
    tokens = [[pattern.word(word) for word in own] for own in words]
    if base.mask_id is None:
        end = [*pattern.behind("x", "\n"), base.begin[0]][0]  # a tokenizer may know no line breaks
        reading = read_tree(tokens, _several(options, tokens, causal=True), end)
    else:
        reading = read_masks(tokens, _several(options, tokens, causal=False))
    frame = _frame(pattern, options, reading)
    network = ClozeNetwork(base.model, reading, frame.slots, (options.soft, len(base.begin)))
    if options.soft:
        _start_soft(network, tokens)
    return network.eval(), PatternIds(base.tokenizer, frame.around)


@dataclass(frozen=True)
class _Frame:
    """What stands around each text, and where in a row the masks are."""

    around: Surroundings
    slots: tuple[int, ...]


def _frame(pattern: Pattern, options: Options, reading: Reading) -> _Frame:
    base, (head, middle, _) = pattern.base, pattern.parts
    longest = min(options.max_length or 256, base.context - len(reading.tokens))
    opened = [*base.begin, *[0] * options.soft]
    if base.mask_id is None:
        begin = [*opened, *(pattern.behind("", head.rstrip(" ")) if head.strip() else [])]
        end, slots = pattern.behind("x", middle.rstrip(" ")), range(0)
    else:
        masks = [base.mask_id] * reading.places
        before, between, after = (pattern.behind("", part.strip()) if part.strip() else [] for part in pattern.parts)
        if pattern.label_first:
            begin, end = [*opened, *before, *masks, *between], [*after, *base.close]
            slots = range(len(opened) + len(before), len(opened) + len(before) + len(masks))
        else:
            begin, end = [*opened, *before], [*between, *masks, *after, *base.close]
            slots = range(-len(masks) - len(after) - len(base.close), -len(after) - len(base.close))
    if longest < len(begin) + len(end) + 4:
        raise BadSpec(
            f"A row of {longest} tokens has no room for a text beside the pattern's {len(begin) + len(end)}.",
            "Give a larger max_length, or a shorter pattern.",
        )
    there = middle if pattern.label_first else head
    glue = " " if there.strip() and not there.endswith("\n") else ""
    return _Frame(Surroundings(tuple(begin), tuple(end), glue, longest), tuple(slots))


def _several(options: Options, tokens: Sequence[Sequence[Sequence[int]]], causal: bool) -> Several:
    if options.several != "auto":
        return options.several
    longest = max(len(word) for own in tokens for word in own)
    if causal:
        inner = {tuple(word[:n]) for own in tokens for word in own for n in range(1, len(word))}
        return "sum" if len(inner) <= MOST_NODES else "blend"
    return "mean" if longest <= MOST_MASKS else "blend"


def _few(words: Words, pattern: Pattern) -> bool:
    """Whether all words are single tokens, so that a found token is worth as much as a name."""
    return all(len(pattern.word(word)) <= 1 for own in words for word in own)


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


def _found(
    base: Base, pattern: Pattern, words: Words, wanted: Sequence[int], options: Options, lesson: Lesson
) -> Words:
    """`words`, with those of the wanted labels found in the rows; the place is where a single token would stand."""
    first = Reading((), (), ((0, 0),), np.ones((1, 1), dtype=np.float32), False)
    frame = _frame(pattern, replace(options, soft=0), first)
    network, ids = ClozeNetwork(base.model, first, frame.slots), PatternIds(base.tokenizer, frame.around)
    gold = np.asarray(lesson.targets).argmax(axis=1)
    rows = np.concatenate([np.flatnonzero(gold == label)[:ROWS_A_LABEL] for label in range(len(words))])
    encoded = ids.encode([lesson.texts[row] for row in rows]).ids
    scores = run_network(
        lambda filled, mask: network.words(network.look(filled, mask)), encoded, ids.around.pad_id, low_precision=True
    )
    vocabulary = pattern.tokenizer.get_vocab()
    taken = {pattern.word(word)[0] for label, own in enumerate(words) if label not in wanted for word in own}
    allowed = np.zeros(scores.shape[1], dtype=np.bool_)
    names: dict[int, str] = {}
    for token, number in vocabulary.items():
        bare = token.lstrip("Ġ▁")
        ok = bare.isalpha() and len(bare) > 2 and number < len(allowed)
        if ok and number not in taken and pattern.word(bare) == [number]:
            allowed[number], names[number] = True, bare
    better = list(words)
    for label, choices in enumerate(candidates(scores, gold[rows], len(words), allowed)):
        choice = next((each for each in choices if each in names and each not in taken), None)
        if label in wanted and choice is not None:
            taken.add(choice)
            better[label] = (names[choice],)
    return tuple(better)


def _start_soft(network: ClozeNetwork, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
    """The soft prompt begins as the labels' own tokens, in turn (Lester et al. 2021)."""
    flat = [token for own in tokens for word in own for token in word]
    with torch.no_grad():
        ids = torch.tensor([flat[i % len(flat)] for i in range(len(network.soft))])
        network.soft.copy_(network.model.get_input_embeddings()(ids))
