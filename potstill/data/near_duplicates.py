"""Duplicates between two sets of texts: equal up to case and punctuation, or nearly equal (MinHash over shingles).

Functions of texts and arrays. Paraphrases are not found: those need a model.
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

from potstill.data.unicode_forms import normalise_unicode

_SHINGLE_SIZE = 5  # characters
_BANDS, _ROWS = 10, 3  # two texts of Jaccard similarity 0.8 meet in a band with probability 0.999, of 0.4 with 0.48
_MAX_CHARACTERS = 512  # of a text that are compared
_CHUNK = 2048  # texts hashed at once: bounds the memory
_MAX_CANDIDATES = 20  # compared with one text, per band
_PRIME = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class NearDuplicates:
    """What `find_near_duplicates` found.

    Attributes:
        pairs: (index into `texts`, index into `others`) of each text with a near duplicate, one pair a text.
        n_checked: how many of `others` were compared.
    """

    pairs: tuple[tuple[int, int], ...]
    n_checked: int


@cache
def _punctuation() -> re.Pattern[str]:
    # Only punctuation: symbols (C++, emoji) and marks (vowels in Hindi or Thai) change the meaning.
    signs = (c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "P")
    return re.compile(f"[{re.escape(''.join(signs))}]+")


_ASCII_PUNCTUATION = re.compile(r"[!-#%-*,-/:;?@\[-\]_{}]+")


def normalise(text: str) -> str:
    """The text in NFKC without case, punctuation and repeated white space; a text of punctuation alone keeps it."""
    if text.isascii():
        plain = " ".join(_ASCII_PUNCTUATION.sub(" ", text.lower()).split())
    else:
        text = normalise_unicode("NFKC", text)
        plain = " ".join(_punctuation().sub(" ", text.casefold()).split())
    return plain or " ".join(text.casefold().split())


def hash_texts(texts: Sequence[str], seed: int = 0) -> Hashes:
    """(N,) 64-bit hashes of the texts, the same on every machine; another seed gives other hashes."""
    salt = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b
    joined = b"".join(digest(t.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest() for t in texts)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def find_near_duplicates(
    texts: Sequence[str], others: Sequence[str], *, similarity: float = 0.8, max_texts: int = 50_000
) -> NearDuplicates:
    """The texts that have a near duplicate among `others`, by Jaccard similarity of their 5-character shingles.

    MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, ch. 3) finds candidates, whose exact similarity
    decides. Only the first 512 characters are compared. `others` is thinned evenly to at most `max_texts` in all.

    Args:
        texts: N normalised texts.
        others: M normalised texts.
        similarity: least similarity of near duplicates, in (0, 1].
        max_texts: most texts that are hashed.
    """
    texts = texts[: max_texts // 2]
    step = max(1, -(-len(others) // max(1, max_texts - len(texts))))
    sample = range(0, len(others), step)
    if not texts or not others:
        return NearDuplicates((), len(sample))
    bands = _bands(texts)
    other_bands = _bands([others[j] for j in sample])
    candidates: dict[int, list[int]] = {}
    for band in range(_BANDS):
        order = np.argsort(other_bands[:, band], kind="stable")
        ranked = other_bands[order, band]
        left = np.searchsorted(ranked, bands[:, band], "left")
        right = np.searchsorted(ranked, bands[:, band], "right")
        for i in np.flatnonzero(right > left).tolist():
            candidates.setdefault(i, []).extend(
                int(j) for j in order[left[i] : min(right[i], left[i] + _MAX_CANDIDATES)]
            )
    pairs: list[tuple[int, int]] = []
    for i in sorted(candidates):
        a = _shingles(texts[i])
        for j in dict.fromkeys(candidates[i]):
            b = _shingles(others[sample[j]])
            if len(a & b) >= similarity * len(a | b):
                pairs.append((i, sample[j]))
                break
    return NearDuplicates(tuple(pairs), len(sample))


def _shingles(text: str) -> set[str]:
    text = text[:_MAX_CHARACTERS]
    return {text[i : i + _SHINGLE_SIZE] for i in range(max(1, len(text) - _SHINGLE_SIZE + 1))}


def _bands(texts: Sequence[str]) -> Hashes:
    """(N, bands) a hash of each band of each text's MinHash."""
    return np.concatenate([_minhash_bands(chunk) for chunk in _chunks(texts)])


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _CHUNK):
        # A text shorter than a shingle is padded, so that each has at least one.
        yield [t[:_MAX_CHARACTERS].ljust(_SHINGLE_SIZE) for t in texts[start : start + _CHUNK]]


def _minhash_bands(texts: list[str]) -> Hashes:
    """(N, bands) MinHash bands of a chunk: rolling hashes of all shingles, then each text's minimum of 30 functions."""
    lengths = np.array([len(t) for t in texts])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    rolled = np.zeros(len(codes), dtype=np.uint64)
    for k in range(_SHINGLE_SIZE):
        rolled[: len(codes) - k] = rolled[: len(codes) - k] * np.uint64(1_000_003) + codes[k:]
    ends = np.cumsum(lengths)
    within = np.ones(len(codes), dtype=np.bool_)  # False where a shingle would run into the next text
    for k in range(1, _SHINGLE_SIZE):
        within[ends - k] = False
    shingles = _mix(rolled[within])
    starts = np.concatenate([[0], np.cumsum(lengths - _SHINGLE_SIZE + 1)[:-1]])
    result = np.zeros((len(texts), _BANDS), dtype=np.uint64)
    for band in range(_BANDS):
        for row in range(_ROWS):
            salt = np.uint64((band * _ROWS + row + 1) * int(_PRIME) % 2**64)
            minimum = np.minimum.reduceat((shingles ^ salt) * (salt | np.uint64(1)), starts)
            result[:, band] = _mix(result[:, band] * _PRIME + minimum)
    return result


def _mix(values: Hashes) -> Hashes:
    with np.errstate(over="ignore"):  # overflow is intended
        values = (values ^ (values >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(29))
