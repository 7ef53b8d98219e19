"""The two texts of a pair kept as one string, so that everything that carries texts carries pairs as well.

Only what looks inside (a tokenizer, n-grams, a prompt) takes them apart again. Does not know whether a task is of
pairs: in a task that is not, the mark is a character like any other.
"""

from __future__ import annotations

PAIR_MARK = "\u241e"  # SYMBOL FOR RECORD SEPARATOR: a visible sign that no keyboard has
PAIR_SEPARATOR = f" {PAIR_MARK} "


def join_pair(first: str, second: str) -> str:
    """Two texts as one string; the mark itself, should a text hold it, becomes a blank."""
    return f"{first.replace(PAIR_MARK, ' ').strip()}{PAIR_SEPARATOR}{second.replace(PAIR_MARK, ' ').strip()}"


def split_pair(text: str) -> tuple[str, str]:
    """The two texts that `join_pair` joined; of a string that is no pair the second one is empty."""
    first, _, second = text.partition(PAIR_MARK)
    return first.strip(), second.replace(PAIR_MARK, " ").strip()


def is_pair(text: str) -> bool:
    """Whether the string holds two texts."""
    return PAIR_MARK in text
