"""The operations of a step, derived by hand.

Per token and layer the language model multiplies with its weights W: queries and output h*q each, keys and values h*k each, the MLP 3*h*m
(h hidden, q and k the widths of all query and key heads, m intermediate). A product costs 2 per weight; the backward pass costs as much
twice, for inputs and for weights. Attention of one query to one key costs 4q, and twice that backward. So with P (query, key) pairs and T
tokens a layer costs 2WT + 4qP forward, and three times that with the backward pass.

A tree: a video stem of S tokens, and below it K prompts of s tokens, each with two responses, r tokens in all. T = S + K(s + r); a causal stem
has S(S+1)/2 pairs, each other token sees all of its path. The last layer computes queries' attention and MLP only for the R = K*r tokens
that predict a scored one. The head sees the same R: 2hVR forward; where it works in chunks (R above HEAD_TOKENS) its forward pass runs
twice.

The tower is frozen: forward only, once a video. F frames of n patches: 2*3*p*p*t for each patch's embedding, then per layer 8t^2 + 4tu for each
patch (t tower hidden, u its MLP) and 4tn for its attention to n patches. The projector has weights th + h^2, which learn: backward th + h^2 for
them and h^2 for what lies between; the tower needs nothing.

Upstream's scheme: each pair's two sequences of L tokens, the shorter one padded, each with its own pass of tower and projector, the head at all L;
through the policy forward and backward, through the reference forward. The physical floor: one forward and backward pass of the video's own
tokens, no query, no response, no head; in the last layer their keys and values alone, since nothing else of it is ever read.
"""

from __future__ import annotations

from tpo_plugin.bench.sizes import Size
from tpo_plugin.training.policies.tree import HEAD_TOKENS


def tree_step(size: Size, frames: int, pairs: int) -> float:
    """Operations of a step of the fast path on `pairs` pairs of one video."""
    return vision(size, frames, backward=True) + 3 * _tree(size, frames, pairs) + _head(size, pairs)


def tree_reference(size: Size, frames: int, pairs: int) -> float:
    """Operations of the reference pass over the same tree."""
    head = 2 * size.hidden * size.vocabulary * pairs * sum(size.answers)
    return vision(size, frames, backward=False) + _tree(size, frames, pairs) + head


def upstream_step(size: Size, frames: int, pairs: int) -> float:
    """Operations of upstream's scheme on `pairs` pairs."""
    length = size.prompt(frames) + max(size.answers)
    layer = 2 * (_attention_weights(size) + _mlp_weights(size)) * length + 4 * size.hidden * length * (length + 1) / 2
    body = size.layers * layer + 2 * size.hidden * size.vocabulary * length
    sequence = 4 * body + vision(size, frames, backward=True) + vision(size, frames, backward=False)
    return 2 * sequence * pairs


def floor(size: Size, frames: int) -> float:
    """Operations of a forward and a backward pass of the video, and nothing else."""
    tokens = size.video_tokens(frames)
    layer = 2 * (_attention_weights(size) + _mlp_weights(size)) * tokens + 4 * size.hidden * tokens * (tokens + 1) / 2
    last = 2 * 2 * size.hidden * _key_width(size) * tokens
    return vision(size, frames, backward=True) + 3 * ((size.layers - 1) * layer + last)


def _tree(size: Size, frames: int, pairs: int) -> float:
    """The language model's body, forward."""
    stem, scored = 1 + size.video_tokens(frames), pairs * sum(size.answers)
    if pairs == 1:  # nothing branches off before the responses
        stem += size.query
    queries = 0 if pairs == 1 else pairs * size.query
    tokens = stem + queries + scored
    path = size.prompt(frames) + max(size.answers) / 2
    seen = stem * (stem + 1) / 2 + queries * (stem + size.query) + scored * path
    full = 2 * (_attention_weights(size) + _mlp_weights(size)) * tokens + 4 * size.hidden * seen
    last = 2 * _attention_weights(size) * tokens + 2 * _mlp_weights(size) * scored + 4 * size.hidden * scored * path
    return (size.layers - 1) * full + last


def _head(size: Size, pairs: int) -> float:
    scored = pairs * sum(size.answers)
    return (3 + (scored > HEAD_TOKENS)) * 2 * size.hidden * size.vocabulary * scored


def vision(size: Size, frames: int, backward: bool) -> float:
    """Tower and projector once."""
    patches, width = size.side**2, size.tower_hidden
    embedding = 2 * 3 * size.patch**2 * width
    layer = 8 * width**2 + 4 * width * size.tower_intermediate + 4 * width * patches
    inner, outer = width * size.hidden, size.hidden**2
    projector = 2 * (inner + outer) + (2 * (inner + 2 * outer) if backward else 0)
    return frames * patches * (embedding + size.tower_layers * layer + projector)


def _key_width(size: Size) -> int:
    return size.hidden * size.heads[1] // size.heads[0]


def _attention_weights(size: Size) -> int:
    return 2 * size.hidden * (size.hidden + _key_width(size))


def _mlp_weights(size: Size) -> int:
    return 3 * size.hidden * size.intermediate
