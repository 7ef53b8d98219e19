"""Stores the two texts of a pair as one string, so that everything that takes texts takes pairs as well.

Tokenizers, n-grams and prompts split them again. Only in tasks on pairs does the mark have a meaning.
"""

from __future__ import annotations

PAIR_MARK = "\u241e"  # SYMBOL FOR RECORD SEPARATOR: visible, and on no keyboard
PAIR_SEPARATOR = f" {PAIR_MARK} "


def join_pair(first: str, second: str) -> str:
    """Two texts as one string; a mark inside a text becomes a blank."""
    return f"{first.replace(PAIR_MARK, ' ').strip()}{PAIR_SEPARATOR}{second.replace(PAIR_MARK, ' ').strip()}"


def split_pair(text: str) -> tuple[str, str]:
    """The two texts that `join_pair` joined; without a mark the second one is empty."""
    first, _, second = text.partition(PAIR_MARK)
    return first.strip(), second.replace(PAIR_MARK, " ").strip()


def is_pair(text: str) -> bool:
    """Whether the string holds two texts."""
    return PAIR_MARK in text
