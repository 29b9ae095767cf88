"""The fast policy: one forward over the token trees of a batch (packing.py), scored at the response tokens alone.

The video is encoded once for all its prompts and responses, the body runs once over what they share, and the head sees only the hidden
states that predict a scored token, a chunk at a time: no (T, vocabulary) tensor exists. All of it happens inside the model's own
`forward`, so that DDP, DeepSpeed, autocast and adapters see one ordinary call a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tpo_plugin.training import attention
from tpo_plugin.training.packing import Packed, Root

HEAD_TOKENS = 256  # whose logits exist at a time


@dataclass(frozen=True)
class TreeBatch:
    """The trees of a batch, and for each video the model's arguments for its first prompt alone (one row), the video among them."""

    packed: Packed
    inputs: tuple[Mapping[str, Any], ...]


class Family(Protocol):
    """What differs between model classes."""

    def embed(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """A prompt's embeddings (P, hidden) with its video in place, and its rotary positions (D, P); None: they count up."""

    def body(self, model: Any) -> Any:
        """The language model without its head."""


def install(model: Any, family: Family) -> None:
    """Let `model(tree=TreeBatch)` return the scored tokens' log-probabilities (M,) in float32; other calls stay as they are.

    `model` is the plain model, not one wrapped in adapters. Its attention becomes `attention.NAME` where transformers has an interface
    for it (from 4.48 on), which is SDPA for all but trees.
    """
    original = type(model).forward  # not the bound one: a copy of the model would go on calling this one's
    if attention.register():
        family.body(model).config._attn_implementation = attention.NAME

    @wraps(original)
    def forward(self: Any, *args: Any, tree: TreeBatch | None = None, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) if tree is None else tree_logps(self, family, tree)

    model.forward = MethodType(forward, model)


def tree_logps(model: Any, family: Family, batch: TreeBatch) -> Tensor:
    """Log-probabilities (M,) of the batch's scored tokens, in float32."""
    packed = batch.packed.to(model.device)
    embeds, positions = _embed(model, family, packed, batch.inputs)
    hidden = _run(family.body(model), embeds, packed.positions[None], positions)
    return head_logps(model.get_output_embeddings(), hidden[0, packed.sources], packed.ids[packed.targets])


def head_logps(head: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """log p of each target (M,) from the hidden states (M, hidden) that predict it; logits exist for HEAD_TOKENS of them at a time."""

    def chunk(states: Tensor, wanted: Tensor) -> Tensor:
        return -F.cross_entropy(head(states).float(), wanted, reduction="none")

    pieces = zip(hidden.split(HEAD_TOKENS), targets.split(HEAD_TOKENS))
    if len(targets) <= HEAD_TOKENS or not torch.is_grad_enabled():
        return torch.cat([chunk(*piece) for piece in pieces])
    return torch.cat([checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces])


def _embed(
    model: Any, family: Family, packed: Packed, inputs: Sequence[Mapping[str, Any]]
) -> tuple[Tensor, Tensor | None]:
    """The packed row's embeddings (1, T, hidden) and rotary positions (D, 1, T), None where those are the packed ones."""
    words = model.get_input_embeddings()
    parts, rotary = [], []
    for root, arguments in zip(packed.roots, inputs, strict=True):
        embeds, positions = family.embed(model, arguments)
        if len(embeds) != root.prompt:
            raise ValueError(f"a prompt of {root.prompt} tokens has {len(embeds)} embeddings")
        parts += [embeds, words(packed.ids[root.start + root.prompt : root.stop]).to(embeds.dtype)]
        if positions is not None:
            rotary.append(continued(positions, root, packed.positions[root.start : root.stop]))
    return torch.cat(parts)[None], torch.cat(rotary, dim=1)[:, None] if rotary else None


def continued(prompt: Tensor, root: Root, positions: Tensor) -> Tensor:
    """Rotary positions (D, T) of a video's tree from those of its first prompt (D, P) and the tokens' places on their paths (T,).

    Whatever branches off is text after the video, like the end of the first prompt: its positions count up with its place on the path,
    in every dimension (M-RoPE, arXiv 2409.12191, section 2.1).
    """
    after = prompt[:, -1:] + positions[root.prompt :] - (root.prompt - 1)
    return torch.cat([prompt, after], dim=1)


def _run(body: Any, embeds: Tensor, places: Tensor, rotary: Tensor | None) -> Tensor:
    """The body's last hidden states (1, T, hidden)."""
    if body.config._attn_implementation == attention.NAME:
        mask = attention.marker(embeds.device)
    else:
        mask = attention.tree_mask(places, embeds.dtype)
    # The first row are the places in the tree, which the attention reads; models with rotary dimensions take theirs below it.
    positions = places if rotary is None else torch.cat([places[None], rotary])
    states: Tensor = body(
        inputs_embeds=embeds, position_ids=positions, attention_mask=mask, use_cache=False, return_dict=True
    ).last_hidden_state
    return states
