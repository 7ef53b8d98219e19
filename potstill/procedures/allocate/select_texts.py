"""Which unlabelled texts annotators are asked about next, by the option `query_strategy`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.procedures import coverage_sampling, query_strategies
from potstill.procedures.allocate.label_sources import AllocationState, LabelSources

MAX_CANDIDATE_TEXTS = 5000  # unlabelled texts that a strategy selects from
LSA_DIMS = 64


def select_texts(sources: LabelSources, state: AllocationState, n: int) -> list[int]:
    """The rows of `n` of the unlabelled texts; typical ones (TypiClust) if fewer than two labels have a text."""
    run, strategy, labelled = sources.run, sources.options.query_strategy, state.labelled
    draw = np.random.default_rng((run.spec.seed, len(labelled)))
    rows = draw.permutation(len(state.unlabelled))[:MAX_CANDIDATE_TEXTS]
    texts = [state.unlabelled[row] for row in rows]
    if strategy == "random" or not len(texts):
        return list(rows[:n].tolist())
    if len(set(labelled.gold.tolist())) < 2:
        return list(rows[coverage_sampling.typiclust_sampling(lsa_features(texts), n, run.spec.seed)].tolist())
    student = run.learn(labelled.texts, labelled.targets, student=sources.proxy_student, purpose="plan")
    probs = student.predict_proba(texts)
    if strategy == "margin":
        selected = query_strategies.margin_sampling(probs, n)
    elif strategy == "entropy":
        selected = query_strategies.entropy_sampling(probs, n)
    elif strategy == "diverse":
        vectors = student.embed([*texts, *labelled.texts])
        selected = coverage_sampling.coreset_sampling(vectors, n, selected=np.arange(len(texts), len(vectors)))
    else:
        selected = coverage_sampling.badge_sampling(probs, student.embed(texts), n, draw)
    return list(rows[selected].tolist())


def lsa_features(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N, D) latent semantic analysis of N texts: TF-IDF vectors reduced to at most 64 dimensions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    counts = TfidfVectorizer(sublinear_tf=True, min_df=1, max_features=20_000).fit_transform(texts)
    dims = min(LSA_DIMS, min(counts.shape) - 1)
    if dims < 1:
        return np.asarray(counts.todense())
    return np.asarray(normalize(TruncatedSVD(dims, random_state=0).fit_transform(counts)))
