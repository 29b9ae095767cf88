"""The objective of Temporal Preference Optimization (arXiv 2501.13919, Eq. 3-5) as pure functions.

B is the number of pairs, T the number of positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Scores:
    """A batch of B pairs: the responses' log-probabilities (B,) for each side, and the chosen ones' numbers of tokens (B,)."""

    chosen: Tensor
    rejected: Tensor | None
    tokens: Tensor


def sequence_logps(token_logps: Tensor, mask: Tensor) -> Tensor:
    """log pi(y | video, query) of each response: the sum of its tokens' log-probabilities.

    `token_logps` (B, T) float, `mask` (B, T) bool, true on response tokens. Returns (B,).
    """
    return token_logps.masked_fill(~mask, 0.0).sum(dim=-1)


def rewards(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The implicit reward beta * log(pi(y) / pi_ref(y)) from log-probabilities of shape (B,). Returns (B,)."""
    return beta * (policy - reference)


def dpo_loss(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """L_DPO of each pair (Eq. 3): -log sigmoid(reward of the chosen - reward of the rejected). (B,), (B,) -> (B,)."""
    return -F.logsigmoid(chosen_rewards - rejected_rewards)


def sft_loss(chosen: Tensor, tokens: Tensor, by_pair: bool = False) -> Tensor:
    """L_SFT (Eq. 4) as LLaVA-NeXT computes it: the mean of -log p over all chosen response tokens of the batch. (B,), (B,) -> ().

    `chosen` are sums over the responses, `tokens` their lengths. `by_pair`: the mean over pairs of their tokens' means, which is what
    accumulated batches of one pair amount to.
    """
    return -(chosen / tokens).mean() if by_pair else -chosen.sum() / tokens.sum()


def total_loss(dpo: Tensor | None, sft: Tensor, dpo_alpha: float, gamma: float) -> Tensor:
    """dpo_alpha * mean(L_DPO) + gamma * L_SFT (Eq. 5, whose alpha is `gamma` here). `dpo` (B,), None where dpo_alpha is 0."""
    preference = torch.zeros_like(sft) if dpo is None else dpo_alpha * dpo.mean()
    return preference + gamma * sft
