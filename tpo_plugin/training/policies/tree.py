"""The fast policy: one forward over the token trees of a batch (packing.py), scored at the response tokens alone.

The video is encoded once for all its prompts and responses, the body runs once over what they share. Its last layer's queries and MLP, and
the head, are computed only where they predict a scored token, the head's logits a chunk at a time: no (T, vocabulary) tensor exists. All of
it happens inside the model's own `forward`, so that DDP, DeepSpeed, autocast and adapters see one ordinary call a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tpo_plugin.errors import TPOError
from tpo_plugin.training import attention
from tpo_plugin.training.packing import Packed, Root, widened

HEAD_TOKENS = 256  # whose logits exist at a time


@dataclass(frozen=True)
class TreeBatch:
    """The trees of a batch, and for each video the model's arguments for its first prompt alone (one row), the video among them.

    A PLACEHOLDER (packing.py) in the packed ids stands for as many tokens as its video turns out to have.
    """

    packed: Packed
    inputs: tuple[Mapping[str, Any], ...]


class Family(Protocol):
    """What differs between model classes."""

    def embed(self, model: Any, inputs: Sequence[Mapping[str, Any]]) -> list[tuple[Tensor, Tensor | None]]:
        """Each prompt's embeddings (P, hidden) with its video in place, and its rotary positions (D, P); None: they count up."""

    def body(self, model: Any) -> Any:
        """The language model without its head."""


def install(model: Any, family: Family) -> None:
    """Let `model(tree=TreeBatch)` return the scored tokens' log-probabilities (M,) in float32; other calls stay as they are.

    `model` is the plain model, not one wrapped in adapters. Its attention becomes `attention.NAME` where transformers has an interface
    for it (from 4.48 on), which is SDPA for all but trees.
    """
    if getattr(family.body(model).config, "use_sliding_window", False):
        raise TPOError("token trees need full attention, and this model's slides over a window: take the plain path")
    original = type(model).forward  # not the bound one: a copy of the model would go on calling this one's
    if attention.register():
        family.body(model).config._attn_implementation = attention.NAME

    @wraps(original)
    def forward(self: Any, *args: Any, tree: TreeBatch | None = None, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) if tree is None else tree_logps(self, family, tree)

    model.forward = MethodType(forward, model)
    _spare_last_mlp(family.body(model).layers[-1].mlp)


def _spare_last_mlp(mlp: Any) -> None:
    """Let the last layer's MLP run only at the tokens whose states are read, where its attention just told them; elsewhere it adds
    nothing."""
    original = type(mlp).forward

    @wraps(original)
    def forward(self: Any, states: Tensor) -> Tensor:
        read = attention.just_read()
        if read is None:
            return original(self, states)
        output = original(self, states[:, read])
        return output.new_zeros(*states.shape[:2], output.shape[2]).index_copy(1, read, output)

    mlp.forward = MethodType(forward, mlp)


def tree_logps(model: Any, family: Family, batch: TreeBatch) -> Tensor:
    """Log-probabilities (M,) of the batch's scored tokens, in float32."""
    prompts = family.embed(model, batch.inputs)
    trees = widened(batch.packed, [len(embeds) for embeds, _ in prompts])
    packed = trees.to(model.device)
    embeds, positions = _embed(model, packed, prompts)
    hidden = _run(family.body(model), embeds, packed.positions[None], positions, trees)
    return head_logps(model.get_output_embeddings(), hidden[0, packed.sources], packed.ids[packed.targets])


def head_logps(head: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """log p of each target (M,) from the hidden states (M, hidden) that predict it; logits exist for HEAD_TOKENS of them at a time.

    The head is called as a module once, not once a chunk: under ZeRO-3 each call gathers weights from all processes, which would wait
    for each other where their batches differ in length.
    """
    logits = head.forward

    def chunk(states: Tensor, wanted: Tensor) -> Tensor:
        return -F.cross_entropy(logits(states).float(), wanted, reduction="none")

    def chunks(hidden: Tensor) -> Tensor:
        pieces = zip(hidden.split(HEAD_TOKENS), targets.split(HEAD_TOKENS))
        if len(targets) <= HEAD_TOKENS or not torch.is_grad_enabled():
            return torch.cat([chunk(*piece) for piece in pieces])
        return torch.cat([checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces])

    with replaced(head, "forward", chunks):
        logps: Tensor = head(hidden)
    return logps


@contextmanager
def replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    """An object's attribute with another value, until the end of the block."""
    own = vars(target).get(name)
    setattr(target, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(target, name)
        else:
            setattr(target, name, own)


def _embed(model: Any, packed: Packed, prompts: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """The packed row's embeddings (1, T, hidden) and rotary positions (D, 1, T), None where those are the packed ones."""
    rests = [packed.ids[root.start + root.prompt : root.stop] for root in packed.roots]
    words = model.get_input_embeddings()(torch.cat(rests)).split(
        [len(rest) for rest in rests]
    )  # one call: see head_logps
    parts, rotary = [], []
    for root, (embeds, positions), after in zip(packed.roots, prompts, words, strict=True):
        parts += [embeds, after.to(embeds.dtype)]
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


def _run(body: Any, embeds: Tensor, places: Tensor, rotary: Tensor | None, trees: Packed) -> Tensor:
    """The body's last hidden states (1, T, hidden), right where they predict a scored token. `trees`: the packed row, not moved."""
    if body.config._attn_implementation == attention.NAME:
        mask = attention.marker(embeds.device, trees)
    else:
        mask = attention.tree_mask(places, embeds.dtype)
    # The first row are the places in the tree, which the attention reads; models with rotary dimensions take theirs below it.
    positions = places if rotary is None else torch.cat([places[None], rotary])
    states: Tensor = body(
        inputs_embeds=embeds, position_ids=positions, attention_mask=mask, use_cache=False, return_dict=True
    ).last_hidden_state
    return states
