"""Answers that a language model learns: their losses on gold tokens and on a teacher's, and which weights are kept.

Token-level distillation is Hinton et al. 2015 at each token of a teacher's answer: T^2 KL(teacher / T || student / T).
Of the teacher the most probable tokens are known, and the probability of all others together, which counts as one more
token on both sides. Padding is no token and has no loss. Knows token ids, no texts and no files; the networks are in
`causal_network` and `seq2seq_network`, optimiser steps in `encoder_training`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.data.free_text.token_scores import FLOOR, TokenScores
from potstill.evaluation.text2text.answer_metrics import AnswerMetric, answer_score
from potstill.models.device import device_of
from potstill.models.greedy_decoding import DecoderStep, DecodingLimits, GeneratedIds, generate_ids
from potstill.models.tokens.tokenizer import Ids, length_batches
from potstill.students.backbone import HeadedNetwork, autocast
from potstill.students.base import Floats
from potstill.students.tuned_lm import TunedLM

TIE_WEIGHT = 1e-3  # of the cross-entropy beside the metric
SCORED_TOKENS = 512  # of prompts and answers whose scores are in memory at once


class AnswerNetwork(TunedLM):
    """A language model that answers a prompt, with its own head.

    Args:
        model: a language model of transformers.
        causal: whether it reads prompt and answer alike.

    Attributes:
        head: without parameters; the language model's head is part of the model.
    """

    def __init__(self, model: Any, *, causal: bool) -> None:
        super().__init__(model, causal=causal)
        self.head = nn.Identity()
        self.requires_grad_(False)

    def answer_logits(self, prompts: Sequence[Ids], answers: Sequence[Ids], pad_id: int) -> Tensor:
        """(M, V) scores of the M tokens of all answers, one answer after the other, each after the tokens before it."""
        raise NotImplementedError

    def decoder(self) -> DecoderStep:
        """The network as a step of decoding."""
        raise NotImplementedError


def answer_losses(network: AnswerNetwork, prompts: Sequence[Ids], answers: Sequence[Ids], pad_id: int) -> Tensor:
    """(B,) mean cross-entropies of the tokens of B answers."""
    logits = network.answer_logits(prompts, answers, pad_id).float()
    tokens = torch.from_numpy(np.concatenate(answers)).to(logits.device)
    return _row_means(nn.functional.cross_entropy(logits, tokens, reduction="none"), answers)


def distillation_losses(logits: Tensor, scores: TokenScores, temperature: float) -> Tensor:
    """(A,) T^2 KL(teacher / T || student / T) of the tokens of an answer.

    Args:
        logits: (A, V) the student's scores of these tokens.
        scores: the teacher's; with all V tokens among its top ones, the divergence is that of the whole distributions.
        temperature: T.
    """
    device = logits.device
    top_ids = torch.from_numpy(scores.top_ids).to(device)
    teacher, student = torch.from_numpy(scores.top_log_probs).to(device), logits.gather(1, top_ids)
    if top_ids.shape[1] < logits.shape[1]:
        others = logits.scatter(1, top_ids, float("-inf")).logsumexp(1, keepdim=True)
        student = torch.cat([student, others], 1)
        teacher = torch.cat([teacher, torch.from_numpy(scores.rest_log_probs).to(device)[:, None]], 1)
    teacher, student = ((each / temperature).log_softmax(1) for each in (teacher, student))
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(1)


def score_tokens(
    network: AnswerNetwork, prompts: Sequence[Ids], answers: Sequence[Ids], k: int, tokenizer: str
) -> list[TokenScores]:
    """The k most probable tokens at each token of N answers, of a network in evaluation mode."""
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    by_row: dict[int, TokenScores] = {}
    for rows in length_batches(lengths, SCORED_TOKENS):
        some = [answers[row] for row in rows]
        with torch.inference_mode():
            logits = network.answer_logits([prompts[row] for row in rows], some, 0).float()
            log_probs = logits.log_softmax(1)
            top, top_ids = log_probs.topk(min(k, log_probs.shape[1]), dim=1)
            rest = log_probs.scatter(1, top_ids, float("-inf")).logsumexp(1).clamp(min=FLOOR)
        ends = np.cumsum([len(each) for each in some])
        parts = [np.split(each.cpu().numpy(), ends[:-1]) for each in (top_ids, top, rest)]
        for row, own, own_ids, own_top, own_rest in zip(rows.tolist(), some, *parts, strict=True):
            by_row[row] = TokenScores(own, own_ids, own_top, own_rest, tokenizer)
    return [by_row[row] for row in range(len(answers))]


def generate(
    network: AnswerNetwork, prompts: Sequence[Ids], limits: DecodingLimits, *, low_precision: bool = False
) -> list[GeneratedIds]:
    """The most probable answers to N prompts, of a network in evaluation mode."""
    with torch.inference_mode(), autocast(low_precision, device_of(network)):
        return generate_ids(network.decoder(), prompts, limits)


@dataclass(frozen=True)
class ValidationAnswers:
    """Texts whose answers say which weights are kept.

    Attributes:
        prompts: of the texts that are answered.
        references: of these texts.
        metric: what is measured of the answers.
        limits: when an answer ends.
        decode: token ids -> text.
    """

    prompts: Sequence[Ids]
    references: Sequence[Sequence[str]]
    metric: AnswerMetric
    limits: DecodingLimits
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class AnswerRows:
    """N prompts with an answer each: rows of `encoder_training.fine_tune`.

    Attributes:
        prompts: N arrays of token ids, which are not learnt.
        answers: N arrays of token ids, their ends included.
        teacher: N teachers' scores of the tokens of an answer, which are learnt in place of them; None learns the
            tokens. Empty for all None.
        temperature: of the teachers' scores.
        validation: what `validation_loss` measures beside the cross-entropy of the rows.
    """

    prompts: Sequence[Ids]
    answers: Sequence[Ids]
    teacher: Sequence[TokenScores | None] = ()
    temperature: float = 1.0
    validation: ValidationAnswers | None = None

    @property
    def ids(self) -> list[Ids]:
        """N arrays of the token ids of a prompt and its answer."""
        return [np.concatenate(both) for both in zip(self.prompts, self.answers, strict=True)]

    @property
    def hint_features(self) -> Floats | None:
        """See `TrainingRows`: never any."""
        return None

    def take(self, rows: NDArray[np.intp]) -> Self:
        """These rows only."""
        return replace(
            self,
            prompts=[self.prompts[row] for row in rows],
            answers=[self.answers[row] for row in rows],
            teacher=[self.teacher[row] for row in rows] if self.teacher else (),
        )

    def block_loss(self, network: HeadedNetwork, pad_id: int, hint_map: nn.Linear | None, dropout: float) -> Tensor:
        """See `TrainingRows`: the mean loss of the tokens of a row's answer, summed over the rows."""
        assert isinstance(network, AnswerNetwork)
        if not any(self.teacher):
            return answer_losses(network, self.prompts, self.answers, pad_id).sum()
        logits = network.answer_logits(self.prompts, self.answers, pad_id).float()
        losses, start = [], 0
        for answer, scores in zip(self.answers, self.teacher, strict=True):
            own, start = logits[start : start + len(answer)], start + len(answer)
            if scores is None:
                tokens = torch.from_numpy(answer).to(own.device)
                losses.append(nn.functional.cross_entropy(own, tokens))
            else:
                losses.append(distillation_losses(own, scores, self.temperature).mean())
        return torch.stack(losses).sum()

    def validation_loss(self, network: HeadedNetwork, pad_id: int) -> float:
        """See `TrainingRows`: 1 - metric of the generated answers; of equal ones the smaller cross-entropy counts."""
        assert isinstance(network, AnswerNetwork)
        assert self.validation is not None
        losses = []
        with torch.inference_mode(), autocast(device=device_of(network)):
            for rows in length_batches([len(row) for row in self.ids]):
                some = self.take(rows)
                losses += answer_losses(network, some.prompts, some.answers, pad_id).cpu().tolist()
        found = generate(network, self.validation.prompts, self.validation.limits, low_precision=True)
        texts = [self.validation.decode(each.ids) for each in found]
        score = answer_score(self.validation.metric, texts, self.validation.references)
        return 1 - score + TIE_WEIGHT * float(np.mean(losses))


def _row_means(losses: Tensor, answers: Sequence[Ids]) -> Tensor:
    """(M,) losses of the tokens of B answers -> (B,) means."""
    lengths = torch.tensor([len(answer) for answer in answers], device=losses.device)
    rows = torch.arange(len(answers), device=losses.device).repeat_interleave(lengths)
    return torch.zeros(len(answers), device=losses.device).index_add(0, rows, losses) / lengths.clamp(min=1)
