"""What every trainer of this package shares: the loss of a batch and the numbers that are logged with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from tpo_plugin.options import ObjectiveOptions
from tpo_plugin.records import Kind
from tpo_plugin.training.objective import Scores, dpo_loss, rewards, sft_loss, total_loss
from tpo_plugin.training.packing import Packed

KINDS: tuple[str, ...] = get_args(Kind)


def needs_reference(objective: ObjectiveOptions) -> bool:
    """Whether the loss looks at the rejected side and the reference at all; without, it is plain SFT."""
    return objective.dpo_alpha != 0


def absent(objective: ObjectiveOptions) -> list[str]:
    """What a run with this objective does not compute, and so does not log."""
    return [] if needs_reference(objective) else ["rejected side", "reference", "DPO loss", "rewards"]


def tree_scores(packed: Packed, logps: Tensor, pairs: int) -> Scores:
    """The scores of `pairs` pairs, whose responses lie in `packed` in the order chosen, rejected (or chosen alone), from the scored
    tokens' log-probabilities (M,)."""
    sums = torch.where(packed.members, logps, 0.0).sum(dim=1).view(pairs, -1)
    tokens = packed.members.sum(dim=1).view(pairs, -1)[:, 0]
    return Scores(sums[:, 0], sums[:, 1] if sums.shape[1] > 1 else None, tokens)


def batch_loss(
    policy: Scores,
    reference: Scores | None,
    kinds: Sequence[str],
    objective: ObjectiveOptions,
    sft_by_pair: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch of B pairs (scalar) and its metrics, each as (sum, count), so that they add up over processes.

    `reference` is None where the objective needs none; then only the chosen side is logged. `sft_by_pair`: see `sft_loss`.
    """
    sft = sft_loss(policy.chosen, policy.tokens, sft_by_pair)
    spread = torch.stack([-policy.chosen.detach().sum(), policy.tokens.sum()])
    metrics = {
        "loss/sft": _total(-policy.chosen / policy.tokens) if sft_by_pair else spread,
        "logps/chosen": _total(policy.chosen),
    }
    if not needs_reference(objective):
        return total_loss(None, sft, objective.dpo_alpha, objective.gamma), metrics
    assert reference is not None
    assert policy.rejected is not None
    assert reference.rejected is not None
    chosen = rewards(policy.chosen, reference.chosen, objective.beta)
    rejected = rewards(policy.rejected, reference.rejected, objective.beta)
    dpo = dpo_loss(chosen, rejected)
    margins = chosen - rejected
    metrics |= {
        "loss/dpo": _total(dpo),
        "logps/rejected": _total(policy.rejected),
        "rewards/chosen": _total(chosen),
        "rewards/rejected": _total(rejected),
        "rewards/margins": _total(margins),
        "rewards/accuracies": _total((margins > 0).float()),
    }
    for kind in KINDS:
        of_kind = torch.tensor([one == kind for one in kinds], device=margins.device)
        metrics[f"rewards/margins/{kind}"] = _total(margins[of_kind])
    return total_loss(dpo, sft, objective.dpo_alpha, objective.gamma), metrics


def _total(values: Tensor) -> Tensor:
    """(sum, count) of `values`, without gradient."""
    values = values.detach()
    return torch.stack([values.sum(), values.new_tensor(float(values.numel()))])
