"""A training step on each path: the loss of pairs about one video, backward included.

`upstream` is LLaVA-NeXT's and LongVA's scheme (trl/trainer/dpo_trainer.py, concatenated_forward) with the same Hugging Face model as the
others: both sequences in full, padded to the longer, through policy and reference; the tower for each of the four; fp32 logits, and their
log-softmax, at every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tpo_plugin.bench.job import Step
from tpo_plugin.options import ObjectiveOptions
from tpo_plugin.training.objective import Scores, dpo_loss, rewards, sequence_logps, total_loss
from tpo_plugin.training.policies.hf import IGNORE, EncodedPair, collate, score
from tpo_plugin.training.policies.hf_tree import HFFamily, collate_trees, to_device
from tpo_plugin.training.policies.tree import TreeBatch, install
from tpo_plugin.training.trainer import batch_loss, tree_scores

OBJECTIVE = ObjectiveOptions()


def make_step(
    path: str, policy: Any, pairs: Sequence[EncodedPair], reference: Any = None, cached: Scores | None = None
) -> Step:
    """A step of `path` on the pairs of one video. `reference` is a model, and for `fast` `cached` what `reference_scores` found."""
    if path == "fast":
        assert cached is not None
        return lambda: _fast(policy, pairs, cached)
    run = _upstream if path == "upstream" else _plain

    def step() -> Tensor:
        losses = []
        for pair in pairs:  # each in a batch of its own, gradients add up
            loss = run(policy, reference, pair) / len(pairs)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    return step


def prepare(model: Any) -> None:
    """Let the model take trees."""
    install(model, HFFamily())


def tree_of(pairs: Sequence[EncodedPair], device: torch.device) -> TreeBatch:
    """The pairs of one video as one tree."""
    return to_device(collate_trees(pairs, [0] * len(pairs))["tree"], device)


def reference_scores(model: Any, pairs: Sequence[EncodedPair]) -> Scores:
    """The one-off reference pass over a video's pairs."""
    with torch.no_grad():
        batch = tree_of(pairs, model.device)
        return tree_scores(batch.packed, model(tree=batch), len(pairs))


def _fast(policy: Any, pairs: Sequence[EncodedPair], cached: Scores) -> Tensor:
    batch = tree_of(pairs, policy.device)
    ours = tree_scores(batch.packed, policy(tree=batch), len(pairs))
    loss = batch_loss(ours, cached, [""] * len(pairs), OBJECTIVE, sft_by_pair=True)[0]
    loss.backward()
    return loss.detach()


def _plain(policy: Any, reference: Any, pair: EncodedPair) -> Tensor:
    group = _on(policy.device, pair)
    ours = score(policy, [group])
    with torch.no_grad():
        theirs = score(reference, [group])
    return batch_loss(ours, theirs, [""], OBJECTIVE)[0]


def _upstream(policy: Any, reference: Any, pair: EncodedPair) -> Tensor:
    group = _on(policy.device, pair)
    logits, sums = _everywhere(policy, group)
    with torch.no_grad():
        _, known = _everywhere(reference, group)
    chosen, rejected = (rewards(sums[side], known[side], OBJECTIVE.beta) for side in (slice(0, 1), slice(1, 2)))
    sft = F.cross_entropy(logits[0, :-1].contiguous(), group["labels"][0, 1:], ignore_index=IGNORE)
    return total_loss(dpo_loss(chosen, rejected), sft, OBJECTIVE.dpo_alpha, OBJECTIVE.gamma)


def _on(device: torch.device, pair: EncodedPair) -> dict[str, Any]:
    """The pair's two padded sequences (see hf.py) on the device."""
    [group] = collate([pair], pad_token_id=0)["groups"]
    inputs = {key: value.to(device) for key, value in group["inputs"].items()}
    return {**group, "inputs": inputs, "labels": group["labels"].to(device)}


def _everywhere(model: Any, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """fp32 logits (2, L, vocabulary) of both sequences and their responses' log-probabilities (2,)."""
    labels = group["labels"]
    logits = model(**group["inputs"], use_cache=False).logits.float()
    scored = labels[:, 1:] != IGNORE
    wanted = labels[:, 1:].masked_fill(~scored, 0)
    tokens = logits[:, :-1].log_softmax(-1).gather(2, wanted[..., None])[..., 0]
    return logits, sequence_logps(tokens, scored)
