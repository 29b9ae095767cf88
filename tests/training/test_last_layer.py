"""In a tree's last layer only what is read is computed; every other call computes all of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from tpo_plugin.generators.base import Prompt
from tpo_plugin.training.policies.hf import encode_pair
from tpo_plugin.training.policies.hf_tree import HFFamily, collate_trees
from tpo_plugin.training.policies.tree import install


def with_trees(family: Any) -> tuple[Any, Any, list[Any]]:
    """A model that takes trees, a tree of two responses, and the numbers of tokens that each layer's MLP was called with, to be filled."""
    model, processor = copy.deepcopy(family[0]), family[1]
    install(model, HFFamily())
    clip = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    pair = encode_pair(
        processor, Prompt(clip, (0, 1, 2, 3), 8.0, "What shape is shown?"), ("a star", "two red circles")
    )
    seen: list[int] = []
    for layer in model.model.language_model.layers:
        layer.mlp.gate_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    return model, collate_trees([pair], ["video"])["tree"], seen


def test_the_last_mlp_sees_only_what_is_read(family: Any) -> None:
    model, tree, seen = with_trees(family)
    model(tree=tree)
    read = len(tree.packed.sources.unique())  # both responses' first tokens are predicted by the same one
    assert read == len(tree.packed.targets) - 1
    assert seen == [len(tree.packed.ids)] * (len(seen) - 1) + [read]


def test_it_sees_all_of_a_sequence_also_after_a_tree_that_failed(family: Any) -> None:
    model, tree, seen = with_trees(family)
    mlp = model.model.language_model.layers[-1].mlp
    broken = mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        model(tree=tree)
    except ZeroDivisionError:
        broken.remove()
    ids = torch.ones(1, 7, dtype=torch.long)
    seen.clear()
    model(input_ids=ids)
    assert seen == [7] * len(seen)
