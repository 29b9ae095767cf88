"""The operations of a step of any size, counted on the meta device, which computes nothing and holds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tpo_plugin.bench.flops import Flops, count
from tpo_plugin.bench.paths import prepare
from tpo_plugin.bench.sizes import VIDEO, Size, build, pairs
from tpo_plugin.training.policies.hf import EncodedPair, collate
from tpo_plugin.training.policies.hf_tree import collate_trees
from tpo_plugin.training.policies.tree import TreeBatch


def count_step(size: Size, frames: int, number: int, path: str, rejected_per_chosen: int = 1) -> Flops:
    """The operations of a step of `path` on one video, without computing anything: on the meta device.

    `number` different queries with `rejected_per_chosen` pairs each (sizes.pairs). What is called is what paths.py calls; but not the loss, which has no matrix products and looks at values.
    """
    model, data = meta_model(size, path == "fast"), meta_pairs(size, frames, number, rejected_per_chosen)
    if path == "fast":
        return count(lambda: _tree(model, data).sum().backward())
    return count(lambda: _sequences(model, data, path))


def count_reference(size: Size, frames: int, number: int, rejected_per_chosen: int = 1) -> Flops:
    """The operations of the one-off reference pass over a video's tree."""
    model, data = meta_model(size, trees=True), meta_pairs(size, frames, number, rejected_per_chosen)
    with torch.no_grad():
        return count(lambda: _tree(model, data))


def _tree(model: Any, data: Sequence[EncodedPair]) -> Tensor:
    tree = collate_trees(data, [0] * len(data))["tree"]
    inputs = tuple({key: value.to("meta") for key, value in one.items()} for one in tree.inputs)
    logps: Tensor = model(tree=TreeBatch(tree.packed, inputs))  # the tree itself has values
    return logps


def _sequences(model: Any, data: Sequence[EncodedPair], path: str) -> None:
    """Policy and reference on both sequences of each pair, with logits everywhere or (`plain`) only where a response begins and after."""
    for pair in data:
        [group] = collate([pair], pad_token_id=0)["groups"]
        keep = 0 if path == "upstream" else max(map(len, pair.responses)) + 1
        inputs = {key: value.to("meta") for key, value in group["inputs"].items()}
        inputs["attention_mask"] = {
            "full_attention": None
        }  # causal; else transformers looks for padding in it, at values
        model(**inputs, use_cache=False, logits_to_keep=keep).logits.sum().backward()
        with torch.no_grad():
            model(**inputs, use_cache=False, logits_to_keep=keep)


@cache
def meta_model(size: Size, trees: bool) -> Any:
    """A model without values, and without the check that a video has as many features as tokens, which looks at values."""
    model = build(size, "meta", torch.float32)

    def placeholders(input_ids: Tensor, inputs_embeds: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        mask = (input_ids == VIDEO)[..., None]
        return mask, mask

    model.model.get_placeholder_mask = placeholders
    if trees:
        prepare(model)
    return model


def meta_pairs(size: Size, frames: int, number: int, rejected_per_chosen: int = 1) -> list[EncodedPair]:
    """Pairs whose pixels have no values, without attention mask."""
    made = pairs(size, frames, number, "meta", torch.float32, rejected_per_chosen=rejected_per_chosen)
    for pair in made:
        pair.prompt.pop("attention_mask", None)  # pairs of one chosen response share their prompt
    return made
