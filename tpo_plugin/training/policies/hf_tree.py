"""Token trees for Hugging Face models: what a model's own forward makes of a prompt, and the pairs of a batch as trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast

from tpo_plugin.training.packing import Branches, pack
from tpo_plugin.training.policies.hf import EncodedPair
from tpo_plugin.training.policies.tree import TreeBatch


class HFFamily:
    """Models whose `model.model` puts features into embeddings and hands them to its `language_model` (LlavaOnevision, Qwen-VL)."""

    def body(self, model: Any) -> Any:
        return model.model.language_model

    def embed(self, model: Any, inputs: Sequence[Mapping[str, Any]]) -> list[tuple[Tensor, Tensor | None]]:
        return [self._embed(model, one) for one in inputs]

    def _embed(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The model's own arguments to its language model, taken where they arrive; the body itself is not run."""
        body, taken = self.body(model), {}

        def take(**arguments: Any) -> BaseModelOutputWithPast:
            taken.update(arguments)
            return BaseModelOutputWithPast(last_hidden_state=arguments["inputs_embeds"])

        body.forward = take
        try:
            model.model(**inputs, use_cache=False)
        finally:
            del body.forward
        positions = taken.get("position_ids")
        if positions is None or positions.ndim < 3:
            return taken["inputs_embeds"][0], None
        return taken["inputs_embeds"][0], positions[
            -3:, 0
        ]  # newer releases put the text's own positions before the three


def collate_trees(pairs: Sequence[EncodedPair], videos: Sequence[Any]) -> dict[str, Any]:
    """A batch: its `tree`, with the pairs of one video (equal entries of `videos`) in one tree, and `kinds`, in the trees' order."""
    groups: dict[Any, list[EncodedPair]] = {}
    for pair, video in zip(pairs, videos, strict=True):
        groups.setdefault(video, []).append(pair)
    trees = [[Branches(pair.prompt["input_ids"][0], pair.responses) for pair in group] for group in groups.values()]
    inputs = tuple(group[0].prompt for group in groups.values())
    return {
        "tree": TreeBatch(pack(trees), inputs),
        "kinds": [pair.kind for group in groups.values() for pair in group],
    }


def to_device(tree: TreeBatch, device: torch.device) -> TreeBatch:
    """The tree with its tensors on `device`."""
    moved = tuple(
        {key: value.to(device) if isinstance(value, Tensor) else value for key, value in one.items()}
        for one in tree.inputs
    )
    return TreeBatch(tree.packed.to(device), moved)
