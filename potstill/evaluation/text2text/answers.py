"""Metrics of answers in words, one value a text and reference: exact match, token F1 (SQuAD), ROUGE, BLEU, iBLEU.

A text may have several references; the best one counts, as the metrics' own scripts do it. All values are in [0, 1].
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.text2text.resampling import safe_divide

Floats = NDArray[np.float64]
# (predictions, others) -> a similarity in [0, 1] of each pair.
Similarity = Callable[[Sequence[str], Sequence[str]], Floats]
MAX_ORDER = 4  # of BLEU's n-grams
IBLEU_BETA = 4.0  # weight of the similarity over that of 1 - self-BLEU
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NOT_PUNCTUATION = {ord(mark): None for mark in string.punctuation}


def best_of(metric: Callable[[str, str], float], prediction: str, references: Sequence[str]) -> float:
    """The metric of the reference that fits best; 0 without references."""
    return max((metric(prediction, each) for each in references), default=0.0)


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space, as SQuAD's evaluation script does it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NOT_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 if both are equal after `normalise_answer`, else 0 (Rajpurkar et al. 2016)."""
    return float(normalise_answer(prediction) == normalise_answer(reference))


def token_f1(prediction: str, reference: str) -> float:
    """F1 of the words of both after `normalise_answer`; 1 if neither has any (Rajpurkar et al. 2018)."""
    found, expected = normalise_answer(prediction).split(), normalise_answer(reference).split()
    if not found or not expected:
        return float(found == expected)
    same = (Counter(found) & Counter(expected)).total()
    return 2 * same / (len(found) + len(expected))


# --- ROUGE ----------------------------------------------------------------------------------------------------------


def rouge_words(text: str) -> list[str]:
    """The words that ROUGE compares: runs of a-z and digits, in lower case, without stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_n(prediction: str, reference: str, n: int = 1) -> float:
    """ROUGE-N (Lin 2004) as F1 of the n-grams of both."""
    found, expected = (_ngrams(rouge_words(text), n) for text in (prediction, reference))
    whole = found.total() + expected.total()
    return 2 * (found & expected).total() / whole if whole else 0.0


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L (Lin 2004) as F1 of the longest common subsequence of words, of the text as one sentence."""
    found, expected = rouge_words(prediction), rouge_words(reference)
    if not found or not expected:
        return 0.0
    return 2 * _common_subsequence(found, expected) / (len(found) + len(expected))


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for j, each in enumerate(other, 1):
            diagonal, lengths[j] = lengths[j], diagonal + 1 if word == each else max(lengths[j], lengths[j - 1])
    return lengths[-1]


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


# --- BLEU -----------------------------------------------------------------------------------------------------------


def bleu_words(text: str) -> list[str]:
    """The words of NIST's mteval-v13a: punctuation by itself, but for marks between digits."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(entity, mark)
    text = re.sub(r"([{-~\[-` -&(-+:-@/])", r" \1 ", f" {text} ")
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


def bleu_counts(prediction: str, references: Sequence[str]) -> Floats:
    """(10,) counts of one text: words, words of the reference of nearest length, matches and totals of 1 to 4-grams.

    Their sums over texts are scored by `bleu_of_sums`.
    """
    words = bleu_words(prediction)
    others = [bleu_words(each) for each in references]
    nearest = min((len(each) for each in others), key=lambda size: (abs(size - len(words)), size), default=0)
    matches, totals = [], []
    for n in range(1, MAX_ORDER + 1):
        found = _ngrams(words, n)
        most: Counter[tuple[str, ...]] = Counter()
        for each in others:
            most |= _ngrams(each, n)
        matches.append((found & most).total())
        totals.append(max(len(words) - n + 1, 0))
    return np.array([len(words), nearest, *matches, *totals], dtype=np.float64)


def bleu_of_sums(sums: Floats, *, effective_order: bool = False) -> Floats:
    """(R, 10) sums of `bleu_counts` -> (R,) BLEU (Papineni et al. 2002), smoothed as sacrebleu does it ("exp").

    With `effective_order` orders that a text is too short for are left out, as is usual for single texts.
    """
    return np.array([_bleu(row, effective_order) for row in np.asarray(sums, dtype=np.float64)])


def _bleu(sums: Floats, effective_order: bool) -> float:
    n_words, n_reference = sums[:2]
    matches, totals = sums[2 : 2 + MAX_ORDER], sums[2 + MAX_ORDER :]
    if not matches.any():
        return 0.0
    logs, smoothing, order = [], 1.0, MAX_ORDER
    for n, (match, total) in enumerate(zip(matches, totals, strict=True), 1):
        if total == 0:
            break
        if effective_order:
            order = n
        if match == 0:
            smoothing *= 2
        logs.append(log(match / total if match else 1 / (smoothing * total)))
    if len(logs) < order:  # an order without n-grams counts as a precision of zero
        return 0.0
    brevity = 1.0 if n_words >= n_reference else exp(1 - n_reference / n_words)
    return float(brevity * exp(sum(logs[:order]) / order))


def sentence_bleu(prediction: str, references: Sequence[str]) -> float:
    """BLEU of one text, of the orders it has."""
    return float(bleu_of_sums(bleu_counts(prediction, references)[None], effective_order=True)[0])


# --- paraphrases ----------------------------------------------------------------------------------------------------


def similarity_ibleu(
    sources: Sequence[str], predictions: Sequence[str], similarity: Similarity, beta: float = IBLEU_BETA
) -> Floats:
    """(N,) scores of paraphrases: alike in meaning, unlike in words (BERT-iBLEU: Niu et al. 2021, eq. 2).

    The weighted harmonic mean of the similarity of source and prediction, and of 1 - BLEU of the prediction against its
    source. The values depend on the similarity that is plugged in: name it beside them.

    Args:
        sources: N texts.
        predictions: their paraphrases.
        similarity: of the pairs, in [0, 1].
        beta: weight of the similarity.
    """
    alike = np.asarray(similarity(predictions, sources), dtype=np.float64)
    copied = np.array([sentence_bleu(p, [s]) for p, s in zip(predictions, sources, strict=True)])
    unlike = 1 - copied
    scores: Floats = safe_divide((beta + 1) * alike * unlike, beta * unlike + alike)
    return np.asarray(np.where((alike > 0) & (unlike > 0), scores, 0.0), dtype=np.float64)


def greedy_token_similarity(ours: Sequence[Floats], theirs: Sequence[Floats]) -> Floats:
    """(N,) F1 of greedy matching of tokens by cosine (BERTScore without weights: Zhang et al. 2020), clipped to [0, 1].

    Args:
        ours: N arrays (T_i, D) of token vectors.
        theirs: N arrays (S_i, D) of the other texts.
    """
    scores = []
    for one, other in zip(ours, theirs, strict=True):
        if not len(one) or not len(other):
            scores.append(0.0)
            continue
        a, b = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (one, other))
        cosines = a @ b.T
        precision, recall = float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean())
        scores.append(2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0)
    return np.asarray(np.clip(scores, 0.0, 1.0), dtype=np.float64)
