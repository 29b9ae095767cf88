"""Eq. 3-5 with numbers worked out by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from tpo_plugin.training.objective import dpo_loss, rewards, sequence_logps, sft_loss, total_loss


def test_a_sequence_has_the_sum_of_its_own_tokens():
    token_logps = torch.tensor([[-1.0, -2.0, -4.0], [-0.5, -8.0, -16.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    # Row 0: -1 - 2; row 1: -0.5. Masked positions do not count, whatever stands there.
    assert sequence_logps(token_logps, mask).tolist() == [-3.0, -0.5]
    token_logps[0, 2] = float("-inf")
    assert sequence_logps(token_logps, mask).tolist() == [-3.0, -0.5]


def test_dpo_loss_row_by_row():
    # beta 0.5. Row 0: policy as the reference: reward difference 0, loss -log(1/2) = log 2.
    # Row 1: chosen +2 log 3 over the reference, rejected as it was: difference log 3, sigmoid 3/4, loss log(4/3).
    # Row 2: chosen as it was, rejected +2 log 3: difference -log 3, sigmoid 1/4, loss log 4.
    # Row 3: both +2: difference 0, loss log 2: only the margin counts.
    reference = torch.tensor([-5.0, -5.0, -5.0, -5.0])
    chosen = rewards(reference + torch.tensor([0.0, 2 * log(3), 0.0, 2.0]), reference, beta=0.5)
    rejected = rewards(reference + torch.tensor([0.0, 0.0, 2 * log(3), 2.0]), reference, beta=0.5)
    assert chosen.tolist() == pytest.approx([0.0, log(3), 0.0, 1.0], abs=1e-6)
    assert dpo_loss(chosen, rejected).tolist() == pytest.approx([log(2), log(4 / 3), log(4), log(2)], abs=1e-6)


def test_dpo_loss_pulls_each_side_by_beta_times_the_error():
    # d loss / d log pi(chosen) = -beta * (1 - sigmoid(margin)); here margin 0, beta 0.3: -0.15, and +0.15 for the rejected.
    policy = torch.tensor([[-4.0], [-4.0]], requires_grad=True)
    reference = torch.tensor([-4.0])
    dpo_loss(rewards(policy[0], reference, 0.3), rewards(policy[1], reference, 0.3)).sum().backward()
    assert policy.grad.flatten().tolist() == pytest.approx([-0.15, 0.15], abs=1e-7)


def test_sft_loss_is_a_mean_over_tokens_or_over_pairs():
    # Responses of 1 and 3 tokens with -log p of 2 and 1 + 1 + 6: over tokens (2 + 8) / 4, over pairs (2 + 8/3) / 2.
    chosen, tokens = torch.tensor([-2.0, -8.0]), torch.tensor([1, 3])
    assert sft_loss(chosen, tokens).item() == 2.5
    assert sft_loss(chosen, tokens, by_pair=True).item() == pytest.approx(7 / 3)


def test_total_loss_weighs_both_terms():
    # 2 * (1 + 3) / 2 + 0.5 * 6 = 7; without the preference term 0.5 * 6 = 3.
    assert total_loss(torch.tensor([1.0, 3.0]), torch.tensor(6.0), dpo_alpha=2.0, gamma=0.5).item() == 7.0
    assert total_loss(None, torch.tensor(6.0), dpo_alpha=0.0, gamma=0.5).item() == 3.0
