"""Exact attention over token trees, from causal kernels: a token sees its path from the root and nothing else.

A chain of tokens (see packing.py) without ancestors is plain causal attention, a chain below others is its queries against its ancestors'
keys and its own. No (T, T) tensor is built: the largest mask has a branch's length times its path's. In the last layer only those queries
are computed whose outputs are read: no other layer follows that would need the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from tpo_plugin.training.packing import Chain, Packed, chains

NAME = "tpo_tree"


@dataclass(frozen=True)
class Tree:
    """A packed row as its attention needs it.

    `read` (S,) are the tokens whose last hidden states are read, in ascending order, `places` the same for each chain, counted from
    its start.
    """

    chains: Sequence[Chain]
    read: Tensor
    places: Sequence[Tensor]


_trees: Any = WeakIdKeyDictionary()  # attention_mask -> Tree
_chains: Any = WeakIdKeyDictionary()  # position tensor -> chains: read once, not once a layer
_read: ContextVar[Tensor | None] = ContextVar("read", default=None)


def marker(device: torch.device, packed: Packed | None = None) -> Tensor:
    """The `attention_mask` (1, 1, 1, 1) of a tree: 4-D, so that transformers hands it through and builds none of its own.

    With `packed` (on the CPU) the tree is known by it; without, or where a copy of it arrives, the tree is read from the positions.
    """
    mask = torch.zeros(1, 1, 1, 1, device=device)
    if packed is not None:
        found, read = chains(packed.positions.tolist()), packed.sources.unique()
        places = [read[(read >= chain.start) & (read < chain.stop)] - chain.start for chain in found]
        _trees[mask] = Tree(found, read.to(device), [place.to(device) for place in places])
    return mask


def tree_of(mask: Tensor | None) -> Tree | None:
    """The tree that `marker` made this mask for."""
    found: Tree | None = None if mask is None else _trees.get(mask)
    return found


def just_read() -> Tensor | None:
    """The tokens at which alone the last layer's attention, if that is what ran last, gave an output. Told once.

    That is how the MLP behind it knows: also when a checkpointed layer runs again in the backward pass, in whichever thread.
    """
    read = _read.get()
    _read.set(None)
    return read


def chains_of(positions: Tensor) -> list[Chain]:
    """The chains of a packed row by its position tensor (1, T) or (T,)."""
    if positions not in _chains:
        _chains[positions] = chains(positions.flatten().tolist())
    found: list[Chain] = _chains[positions]
    return found


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, H, T, D), key and value (1, H', T, D) -> (1, T, H, D).

    With another mask than `marker` it is transformers' own SDPA attention, so the model still works as it did.
    """
    _read.set(None)
    if attention_mask is None or attention_mask.shape != (1, 1, 1, 1):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        kwargs["position_ids"] = position_ids
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    tree = tree_of(attention_mask)
    found: Sequence[Chain]
    if tree is not None and module.layer_idx + 1 == module.config.num_hidden_layers:
        _read.set(tree.read)
        return _attend_where_read(query, key, value, tree, scaling, dropout).transpose(1, 2), None
    if tree is not None:
        found = tree.chains
    elif position_ids is not None:
        found = chains_of(position_ids)
    else:
        raise ValueError("this model hands its attention no position_ids; a tree cannot be told without them")
    rows = [_attend(query, key, value, chain, scaling, dropout) for chain in found]
    return torch.cat(rows, dim=2).transpose(1, 2), None


def _attend_where_read(
    query: Tensor, key: Tensor, value: Tensor, tree: Tree, scaling: float | None, dropout: float
) -> Tensor:
    """The output (1, H, T, D) at the tokens that are read, zero elsewhere."""
    rows = [
        _attend(query, key, value, chain, scaling, dropout, places)
        for chain, places in zip(tree.chains, tree.places)
        if len(places)
    ]
    output = torch.cat(rows, dim=2)
    return output.new_zeros(*query.shape[:3], output.shape[3]).index_copy(2, tree.read, output)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    chain: Chain,
    scaling: float | None,
    dropout: float,
    places: Tensor | None = None,
) -> Tensor:
    """A chain's output (1, H, R, D), or that at some `places` in it."""
    slices = [slice(*span) for span in (*chain.spans, (chain.start, chain.stop))]
    own = query[:, :, chain.start : chain.stop]
    keys, values = (_joined(tensor, slices) for tensor in (key, value))
    if places is None and flash_attention_fits(query):
        from flash_attn import flash_attn_func  # aligned to the end where there are fewer queries than keys

        arguments = (tensor.transpose(1, 2) for tensor in (own, keys, values))
        output: Tensor = flash_attn_func(*arguments, dropout_p=dropout, softmax_scale=scaling, causal=True)
        return output.transpose(1, 2)
    mask = None
    length, total = own.shape[2], keys.shape[2]
    if places is not None:
        own = own[:, :, places]
        mask = torch.arange(total, device=own.device) <= (total - length + places)[:, None]
    elif chain.spans:
        mask = torch.ones(length, total, dtype=torch.bool, device=own.device).tril(total - length)
    return F.scaled_dot_product_attention(
        own,
        keys,
        values,
        mask,
        dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=own.shape[1] != keys.shape[1],
    )


def _joined(tensor: Tensor, slices: list[slice]) -> Tensor:
    parts = [tensor[:, :, part] for part in slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


@cache
def _has_flash_attention() -> bool:
    import importlib.util

    return importlib.util.find_spec("flash_attn") is not None


def flash_attention_fits(query: Tensor) -> bool:
    """Whether FlashAttention-2 is installed and takes this tensor."""
    return query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and _has_flash_attention()


def tree_mask(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive mask (1, 1, T, T) of a packed row, for transformers before 4.48, which has no attention interface."""
    length = positions.numel()
    mask = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=positions.device)
    for chain in chains_of(positions):
        for start, stop in chain.spans:
            mask[chain.start : chain.stop, start:stop] = 0
        own = mask[chain.start : chain.stop, chain.start : chain.stop]
        own.masked_fill_(torch.ones_like(own, dtype=torch.bool).tril(), 0)
    return mask[None, None]


def register() -> bool:
    """Make transformers know `NAME` as an attention implementation; False where it has no interface for it (before 4.48)."""
    try:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError:
        return False
    _register(ALL_ATTENTION_FUNCTIONS, tree_attention)
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    except ImportError:  # before 4.53 the model makes its masks itself
        return True
    _register(ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask)
    return True


def _register(table: Any, function: Any) -> None:
    """An entry in one of transformers' tables, which was a plain dict at first."""
    if hasattr(table, "register"):
        table.register(NAME, function)
    else:
        table[NAME] = function
