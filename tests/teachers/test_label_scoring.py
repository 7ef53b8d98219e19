"""Label scoring against a plain forward pass over every whole sequence, on tiny models with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadSpec
from potstill.models.label_trie import build_label_trie, needs_end_token
from potstill.teachers.label_scoring import LabelScorer

PROMPT = [1, 5, 9, 23, 40, 11, 7]
TEXTS = [[4, 8, 15], [16], [23, 42, 4, 8, 15, 16, 23, 42, 30, 31, 32], [50, 51], [9, 9, 9, 9, 9, 9]]
SINGLE = [[10], [20], [30]]
SHARED = [[10, 20], [10, 21, 22], [10, 21, 23, 24], [33], [34, 10, 20]]

token_lists = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=2, max_size=12, unique_by=tuple)


def naive(model: Any, texts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], prompt: Sequence[int]) -> Any:
    """(N, K): one full forward pass for each text and label, as anybody would write it first."""
    import torch

    model.set_attn_implementation("eager")
    rows = []
    with torch.inference_mode():
        for text in texts:
            row = []
            for label in labels:
                logs = model(torch.tensor([[*prompt, *text, *label]])).logits[0].float().log_softmax(-1)
                start = len(prompt) + len(text) - 1
                row.append(sum(float(logs[start + step, token]) for step, token in enumerate(label)))
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("labels", [SINGLE, SHARED], ids=["single-token", "shared-first-tokens"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt_neox", "phi", "olmo2"])
def test_scores_are_those_of_a_plain_forward_pass(
    tiny_causal: Callable[..., Any], kind: str, labels: list[list[int]]
) -> None:
    own = {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0} if kind == "gemma2" else {}
    model = tiny_causal(kind, **own)
    expected = naive(model, TEXTS, labels, PROMPT)
    scores = LabelScorer(model, PROMPT, labels).score(TEXTS)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(scores, expected, atol=2e-4)


AMONG = [(0, 3), (4,), (2, 1), (3,), (1, 4, 0)]


@pytest.mark.parametrize("pass_tokens", [8, 1000])
def test_some_labels_of_a_text_are_scored_as_among_all(tiny_causal: Callable[..., Any], pass_tokens: int) -> None:
    scorer = LabelScorer(tiny_causal(), PROMPT, SHARED, pass_tokens)
    full, some = scorer.score(TEXTS), scorer.score(TEXTS, AMONG)
    for row, columns in enumerate(AMONG):
        left_out = [column for column in range(len(SHARED)) if column not in columns]
        np.testing.assert_allclose(some[row, list(columns)], full[row, list(columns)], atol=1e-4)
        assert (some[row, left_out] == -np.inf).all()
    assert scorer.count_tokens(TEXTS, AMONG) < scorer.count_tokens(TEXTS)
    everything = [tuple(range(len(SHARED)))] * len(TEXTS)
    assert scorer.count_tokens(TEXTS, everything) == scorer.count_tokens(TEXTS)


@pytest.mark.parametrize("kind", ["bloom", "gptj"])
def test_a_model_whose_attention_cannot_be_replaced_is_refused(tiny_causal: Callable[..., Any], kind: str) -> None:
    model = tiny_causal(kind, n_layer=2, n_head=4, n_embd=32, rotary_dim=4)
    with pytest.raises(BadSpec, match=f"{kind}.* attention interface") as caught:
        LabelScorer(model, PROMPT, SHARED).score(TEXTS)
    assert "openai:MODEL" in caught.value.hint


def test_a_label_that_begins_another_is_distinguished_by_the_separator(tiny_causal: Callable[..., Any]) -> None:
    model = tiny_causal()
    labels = [[10], [10, 20], [10, 20, 30]]
    assert needs_end_token(labels)
    ended = [[*label, 3] for label in labels]
    assert not needs_end_token(ended)
    expected = naive(model, TEXTS, ended, PROMPT)
    scores = LabelScorer(model, PROMPT, ended).score(TEXTS)
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    assert (scores[:, 0] < scores[:, 1]).any(), "the shorter label would win every text without its end"


@pytest.mark.parametrize("pass_tokens", [1, 12, 10_000])
def test_a_text_gets_the_same_scores_alone_and_in_any_batch(tiny_causal: Callable[..., Any], pass_tokens: int) -> None:
    model = tiny_causal()
    alone = np.concatenate([LabelScorer(model, PROMPT, SHARED).score([text]) for text in TEXTS])
    together = LabelScorer(model, PROMPT, SHARED, pass_tokens).score(TEXTS)
    backwards = LabelScorer(model, PROMPT, SHARED, pass_tokens).score(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(backwards, alone, atol=1e-4)


def test_equal_calls_give_equal_bits(tiny_causal: Callable[..., Any]) -> None:
    scorer = LabelScorer(tiny_causal(dtype="bfloat16"), PROMPT, SHARED)
    assert (scorer.score(TEXTS) == scorer.score(TEXTS)).all()


def test_bfloat16_stays_near_float32(tiny_causal: Callable[..., Any]) -> None:
    exact = LabelScorer(tiny_causal(), PROMPT, SHARED).score(TEXTS)
    rounded = LabelScorer(tiny_causal(dtype="bfloat16"), PROMPT, SHARED).score(TEXTS)
    assert 0 < np.abs(rounded - exact).max() < 0.35
    assert np.abs(rounded - exact).mean() < 0.08


def test_the_prompt_is_computed_once(tiny_causal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = LabelScorer(tiny_causal(), PROMPT, SINGLE)
    lengths: list[int] = []
    run = LabelScorer._run

    def counted(self: LabelScorer, ids: Any, places: Any, packed: Any) -> Any:
        lengths.append(len(ids))
        return run(self, ids, places, packed)

    monkeypatch.setattr(LabelScorer, "_run", counted)
    scorer.score(TEXTS)
    scorer.score(TEXTS)
    size = sum(map(len, TEXTS))
    assert lengths == [len(PROMPT), size, size]


def test_no_texts_are_no_rows(tiny_causal: Callable[..., Any]) -> None:
    assert LabelScorer(tiny_causal(), PROMPT, SINGLE).score([]).shape == (0, 3)


def test_a_window_shorter_than_the_prompt_is_refused(tiny_causal: Callable[..., Any]) -> None:
    with pytest.raises(BadSpec, match="more than this model attends to"):
        LabelScorer(tiny_causal("mistral", sliding_window=8), PROMPT, SINGLE).score([[4, 8, 15]])


def test_an_attention_that_caps_its_logits_is_refused(tiny_causal: Callable[..., Any]) -> None:
    with pytest.raises(BadSpec, match="does not support"):
        LabelScorer(tiny_causal("gemma2", attn_logit_softcapping=5.0), PROMPT, SINGLE).score([[4]])


def test_labels_with_the_same_tokens_are_refused() -> None:
    with pytest.raises(BadSpec, match="same tokens"):
        build_label_trie([[1, 2], [3], [1, 2]])
    with pytest.raises(BadSpec, match="one has none"):
        build_label_trie([[1, 2], []])


@given(token_lists)
def test_a_path_through_the_tree_spells_its_label(labels: list[list[int]]) -> None:
    tree = build_label_trie(labels)
    for label, path in zip(labels, tree.paths, strict=True):
        assert [tree.edges[edge][1] for edge in path] == label
        at = -1
        for edge in path:
            node, token = tree.edges[edge]
            assert node == at
            at = next((n for n, p in enumerate(tree.parents) if p == node and tree.tokens[n] == token), -2)


@given(token_lists)
def test_the_tree_feeds_every_shared_beginning_once_and_no_leaf(labels: list[list[int]]) -> None:
    beginnings = {tuple(label[:n]) for label in labels for n in range(1, len(label))}
    assert len(build_label_trie(labels).tokens) == len(beginnings)
    assert needs_end_token(labels) == any(tuple(label) in beginnings for label in labels)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 2000))
def test_passes_cover_every_text_once_and_in_order(lengths: list[int], pass_tokens: int) -> None:
    scorer = object.__new__(LabelScorer)
    scorer.tokens_per_pass, scorer.tree = pass_tokens, build_label_trie([[1], [2]])
    passes = scorer._passes(sorted(lengths))
    assert [row for rows in passes for row in rows] == list(range(len(lengths)))
