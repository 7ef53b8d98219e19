"""Losses of answers' tokens: token-level distillation beside torch's KL divergence, and padding, which has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.tinylm import write_tinycausal

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from potstill.data.free_text.token_scores import TokenScores
from potstill.models.tokens.tokenizer import Ids
from potstill.students.answer_rows import AnswerNetwork, AnswerRows, answer_losses, distillation_losses, score_tokens

A, V, T = 5, 12, 2.0


def scores_of(logits: Any, k: int) -> TokenScores:
    """A teacher's scores from its (A, V) logits."""
    log_probs = logits.log_softmax(1)
    top, ids = log_probs.topk(k, dim=1)
    rest = torch.log((1 - top.exp().sum(1)).clamp(min=1e-20))
    return TokenScores(ids[:, 0].numpy(), ids.numpy(), top.numpy(), rest.numpy(), "a tokenizer")


def random_logits(seed: int) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (A, V)).astype(np.float32))


def test_with_all_tokens_it_is_the_divergence_of_the_whole_distributions() -> None:
    teacher, student = random_logits(0), random_logits(1).requires_grad_()
    expected = T**2 * torch.nn.functional.kl_div(
        (student / T).log_softmax(1), (teacher / T).log_softmax(1), reduction="none", log_target=True
    ).sum(1)
    found = distillation_losses(student, scores_of(teacher, V), T)
    assert torch.allclose(found, expected, atol=1e-5)
    (own,) = torch.autograd.grad(found.sum(), student)
    (other,) = torch.autograd.grad(expected.sum(), student)
    assert torch.allclose(own, other, atol=1e-5)


def test_all_other_tokens_count_as_one() -> None:
    teacher, student, k = random_logits(2), random_logits(3), 4
    given = scores_of(teacher, k)
    sides = []
    for logits in (teacher, student):
        probs = logits.softmax(1)
        top = probs.gather(1, torch.from_numpy(given.top_ids))
        whole = torch.cat([top, 1 - top.sum(1, keepdim=True)], 1) ** (1 / T)
        sides.append(whole / whole.sum(1, keepdim=True))
    expected = T**2 * (sides[0] * (sides[0] / sides[1]).log()).sum(1)
    assert torch.allclose(distillation_losses(student, given, T), expected, atol=1e-4)
    assert torch.allclose(distillation_losses(teacher, given, T), torch.zeros(A), atol=1e-5)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> AnswerNetwork:
    from potstill.students.causal_network import CausalNetwork
    from potstill.students.cloze_network import load_pretrained_lm
    from potstill.students.decoder import find_causal_model

    folder = write_tinycausal(tmp_path_factory.mktemp("tinycausal"))
    return CausalNetwork(load_pretrained_lm(find_causal_model(str(folder))).model).eval()


def ids(*tokens: int) -> Ids:
    return np.array(tokens, dtype=np.int64)


def test_padding_has_no_loss(network: AnswerNetwork) -> None:
    rows = [(ids(5, 6, 7), ids(8, 2)), (ids(9), ids(10, 11, 12, 13, 14, 2)), (ids(4, 5), ids(2))]
    prompts, answers = [prompt for prompt, _ in rows], [answer for _, answer in rows]
    teacher = score_tokens(network, prompts[::-1], answers, 3, "a tokenizer")
    both = AnswerRows(prompts, answers, [teacher[0], None, teacher[2]], T)
    with torch.no_grad():
        alone = [both.take(np.array([row])).block_loss(network, 0, None, 0.0).item() for row in range(3)]
        whole = both.block_loss(network, 0, None, 0.0).item()
        learnt = answer_losses(network, prompts, answers, 0).tolist()
        logits = network.answer_logits(prompts[:1], answers[:1], 0)
        expected = distillation_losses(logits, teacher[0], T).mean().item()
    assert whole == pytest.approx(sum(alone), rel=1e-5)
    assert alone[0] == pytest.approx(expected, rel=1e-5)
    assert alone[1] == pytest.approx(learnt[1], rel=1e-5)


def test_scores_are_stored_and_damaged_ones_are_none() -> None:
    import json

    from potstill.data.free_text.answers import FreeTextAnswer, read_free_text_answer

    answer = FreeTextAnswer("ok", text="food", tokens=scores_of(random_logits(4), 3))
    record = json.loads(json.dumps(answer.to_json()))
    assert read_free_text_answer(record) == answer.checked()
    assert read_free_text_answer({**record, "state": "failed", "text": ""}) is not None
    for damage in (
        {"ids": [1]},
        {"top_ids": [[1], [2, 3]]},
        {"rest_log_probs": [None] * A},
        {"tokenizer": None, "ids": 3},
    ):
        assert read_free_text_answer({**record, "tokens": {**record["tokens"], **damage}}) is None
    assert read_free_text_answer({**record, "tokens": "none"}) is None
