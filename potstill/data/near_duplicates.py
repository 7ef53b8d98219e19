"""Texts that are on both sides: the same but for case and punctuation, or nearly the same (MinHash over shingles).

Functions of texts and arrays. Knows no files and no labels. Does NOT cover paraphrases: those need a model.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

_SHINGLE = 5  # characters
_BANDS, _ROWS = 10, 3  # two texts of Jaccard similarity 0.8 meet in a band with probability 0.999, of 0.4 with 0.48
_READ = 512  # characters of a text that are compared
_CHUNK = 2048  # texts hashed at once: bounds the memory
_PAIRS = 20  # candidates looked at for one text
_PRIME = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class NearDuplicates:
    """What `near_twins` found.

    Attributes:
        pairs: (index into `texts`, index into `others`) of each text with a near twin, one pair a text.
        checked: how many of `others` were looked at.
    """

    pairs: tuple[tuple[int, int], ...]
    n_checked: int


@cache
def _punctuation() -> re.Pattern[str]:
    # Only punctuation: symbols (C++, emoji) and marks (vowels in Hindi or Thai) tell texts apart.
    signs = (c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "P")
    return re.compile(f"[{re.escape(''.join(signs))}]+")


_ASCII_PUNCTUATION = re.compile(r"[!-#%-*,-/:;?@\[-\]_{}]+")


def normalise(text: str) -> str:
    """The text without case, punctuation, accidents of Unicode and of white space; a text of signs alone keeps them."""
    if text.isascii():
        plain = " ".join(_ASCII_PUNCTUATION.sub(" ", text.lower()).split())
    else:
        text = unicodedata.normalize("NFKC", text)
        plain = " ".join(_punctuation().sub(" ", text.casefold()).split())
    return plain or " ".join(text.casefold().split())


def hash_texts(texts: Sequence[str], seed: int = 0) -> Hashes:
    """(N,) 64-bit hashes of the texts, the same on every machine; another seed gives another order."""
    salt = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b
    joined = b"".join(digest(t.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest() for t in texts)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def find_near_duplicates(
    texts: Sequence[str], others: Sequence[str], *, similarity: float = 0.8, max_texts: int = 50_000
) -> NearDuplicates:
    """The texts that have a near twin among `others`: Jaccard similarity of their 5-character shingles.

    MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, ch. 3) proposes, the shingles themselves decide.
    Only the first 512 characters are compared, and `others` is thinned evenly so that both together stay below `most`.

    Args:
        texts: N normalised texts.
        others: M normalised texts.
        similarity: from which on two texts are near twins, in (0, 1].
        most: how many texts are hashed at all.
    """
    texts = texts[: max_texts // 2]
    step = max(1, -(-len(others) // max(1, max_texts - len(texts))))
    kept = range(0, len(others), step)
    if not texts or not others:
        return NearDuplicates((), len(kept))
    mine = _bands(texts)
    theirs = _bands([others[j] for j in kept])
    candidates: dict[int, list[int]] = {}
    for band in range(_BANDS):
        order = np.argsort(theirs[:, band], kind="stable")
        ranked = theirs[order, band]
        left = np.searchsorted(ranked, mine[:, band], "left")
        right = np.searchsorted(ranked, mine[:, band], "right")
        for i in np.flatnonzero(right > left).tolist():
            met = candidates.setdefault(i, [])
            met.extend(int(j) for j in order[left[i] : min(right[i], left[i] + _PAIRS)])
    pairs: list[tuple[int, int]] = []
    for i in sorted(candidates):
        own = _shingles(texts[i])
        for j in dict.fromkeys(candidates[i]):
            theirs_j = _shingles(others[kept[j]])
            if len(own & theirs_j) >= similarity * len(own | theirs_j):
                pairs.append((i, kept[j]))
                break
    return NearDuplicates(tuple(pairs), len(kept))


def _shingles(text: str) -> set[str]:
    text = text[:_READ]
    return {text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1))}


def _bands(texts: Sequence[str]) -> Hashes:
    """(N, bands) one number for each band of each text's MinHash."""
    return np.concatenate([_banded(chunk) for chunk in _chunks(texts)])


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(texts), _CHUNK):
        # a text shorter than a shingle is filled up, so that each has at least one
        yield [t[:_READ].ljust(_SHINGLE) for t in texts[at : at + _CHUNK]]


def _banded(texts: list[str]) -> Hashes:
    """Roll all the shingles of the chunk at once: (S,) hashes, then each text's least under each of 30 functions."""
    lengths = np.array([len(t) for t in texts])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    rolled = np.zeros(len(codes), dtype=np.uint64)
    for k in range(_SHINGLE):
        rolled[: len(codes) - k] = rolled[: len(codes) - k] * np.uint64(1_000_003) + codes[k:]
    ends = np.cumsum(lengths)
    within = np.ones(len(codes), dtype=np.bool_)  # a shingle must not run into the next text
    for k in range(1, _SHINGLE):
        within[ends - k] = False
    shingles = _mixed(rolled[within])
    starts = np.concatenate([[0], np.cumsum(lengths - _SHINGLE + 1)[:-1]])
    result = np.zeros((len(texts), _BANDS), dtype=np.uint64)
    for band in range(_BANDS):
        for row in range(_ROWS):
            salt = np.uint64((band * _ROWS + row + 1) * int(_PRIME) % 2**64)
            least = np.minimum.reduceat((shingles ^ salt) * (salt | np.uint64(1)), starts)
            result[:, band] = _mixed(result[:, band] * _PRIME + least)
    return result


def _mixed(values: Hashes) -> Hashes:
    with np.errstate(over="ignore"):  # wrapping around is the point
        values = (values ^ (values >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(29))
