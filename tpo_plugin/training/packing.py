"""A batch as token trees: what several sequences share is there once.

A video's tokens and what its prompts begin with alike are the stem; each prompt's rest branches off it, each response off its prompt. The
trees of a batch lie one after the other in one row of T tokens, depth first, without padding. Positions count along the path from the
root, so they restart at each branch point; they alone tell the tree (see `chains`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PLACEHOLDER = (
    -200
)  # stands for a video's tokens in ids that were made before their number was known; upstream's IMAGE_TOKEN_INDEX


@dataclass(frozen=True)
class Branches:
    """A prompt (P,) and the responses (R,) to it, token ids. `scored` (P,) bool: prompt tokens that count as each response's too."""

    prompt: Tensor
    responses: tuple[Tensor, ...]
    scored: Tensor | None = None


@dataclass(frozen=True)
class Chain:
    """Tokens start..stop of a packed row, each the next one's parent; `spans` are the slices of their ancestors, from the root."""

    start: int
    stop: int
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Root:
    """Where a video's tree lies: tokens start..stop, its first prompt of `prompt` tokens first, `shared` of which all prompts share."""

    start: int
    stop: int
    prompt: int
    shared: int


@dataclass(frozen=True)
class Packed:
    """T packed tokens with N responses, M of the tokens scored.

    `ids`, `positions` (T,); `targets` (M,) indices of the scored tokens; `sources` (M,) indices of the tokens before them on their
    path, whose hidden states predict them; `members` (N, M) bool: which scored tokens belong to which response, responses in the
    order in which they were given; `roots`: each video's place.
    """

    ids: Tensor
    positions: Tensor
    targets: Tensor
    sources: Tensor
    members: Tensor
    roots: tuple[Root, ...]

    def to(self, device: torch.device | str) -> Packed:
        """The same on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "targets", "sources", "members")}
        return replace(self, **moved)

    @property
    def lengths(self) -> list[int]:
        """Scored tokens of each response."""
        counts: list[int] = self.members.sum(dim=1).tolist()
        return counts


def pack(videos: Sequence[Sequence[Branches]]) -> Packed:
    """The trees of a batch: for each video its prompts. ValueError for a response without tokens or a prompt without any.

    Prompts of one video must have its tokens in what they begin with; how much that is is found by comparison.
    """
    packer = _Packer()
    for prompts in videos:
        shared = common_prefix([prompt.prompt for prompt in prompts])
        first, start = prompts[0], packer.total
        stem = packer.add(first.prompt[:shared], None)
        for prompt in prompts:
            if not prompt.responses or not all(len(response) for response in prompt.responses):
                raise ValueError("a response has no tokens")
            node = packer.add(prompt.prompt[shared:], stem)
            scored = (
                []
                if prompt.scored is None
                else [node.path[place] for place in prompt.scored.nonzero().flatten().tolist()]
            )
            for response in prompt.responses:
                leaf = packer.add(response, node)
                packer.responses.append([*scored, *leaf.path[len(node.path) :]])
        packer.roots.append(Root(start, packer.total, len(first.prompt), shared))
    return packer.packed()


def widened(packed: Packed, lengths: Sequence[int]) -> Packed:
    """The same trees with first prompts of these lengths: a PLACEHOLDER becomes as many tokens as that takes.

    ValueError where a tree's length is another than its ids' and it has not just one placeholder, among what its prompts share.
    """
    counts, shifts = torch.ones_like(packed.ids), torch.zeros_like(packed.ids)
    for root, length in zip(packed.roots, lengths, strict=True):
        places = (packed.ids[root.start : root.stop] == PLACEHOLDER).nonzero().flatten().tolist()
        if not places and length == root.prompt:
            continue
        if len(places) != 1 or places[0] >= root.shared:
            raise ValueError(
                f"a prompt of {root.prompt} tokens, {len(places)} of them placeholders, has {length} embeddings"
            )
        tree = slice(root.start, root.stop)
        shifts[tree] = (packed.positions[tree] > places[0]) * (length - root.prompt)
        counts[root.start + places[0]] += length - root.prompt
    ends = counts.cumsum(0)
    within = torch.arange(int(ends[-1]), device=ends.device) - (ends - counts).repeat_interleave(counts)
    moved, first = ends - 1, (ends - counts).tolist()
    roots = []
    for root, length in zip(packed.roots, lengths):
        extra = length - root.prompt
        start = first[root.start]
        roots.append(Root(start, start + root.stop - root.start + extra, length, root.shared + extra))
    return replace(
        packed,
        ids=packed.ids.repeat_interleave(counts),
        positions=(packed.positions + shifts).repeat_interleave(counts) + within,
        targets=moved[packed.targets],
        sources=moved[packed.sources],
        roots=tuple(roots),
    )


def common_prefix(sequences: Sequence[Tensor]) -> int:
    """How many tokens all the sequences begin with alike, all but the last one at most."""
    shortest = min(map(len, sequences))
    rows = torch.stack([sequence[:shortest] for sequence in sequences])
    differing = (rows != rows[0]).any(dim=0).nonzero()
    return min(int(differing[0]) if len(differing) else shortest, shortest if len(sequences) == 1 else shortest - 1)


@dataclass(frozen=True)
class _Node:
    """A place in a tree: the packed indices of the tokens from the root to it."""

    path: list[int]


class _Packer:
    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.positions: list[Tensor] = []
        self.responses: list[list[int]] = []
        self.before: dict[int, int] = {}
        self.roots: list[Root] = []
        self.total = 0

    def add(self, ids: Tensor, parent: _Node | None) -> _Node:
        """Append tokens below `parent` (None: a new tree)."""
        path = parent.path if parent else []
        if not path and not len(ids):
            raise ValueError("a prompt has no tokens")
        new = list(range(self.total, self.total + len(ids)))
        if new and path:
            self.before[new[0]] = path[-1]
        self.ids.append(ids)
        self.positions.append(torch.arange(len(path), len(path) + len(ids)))
        self.total += len(ids)
        return _Node(path + new)

    def packed(self) -> Packed:
        targets = sorted({index for response in self.responses for index in response})
        column = {index: place for place, index in enumerate(targets)}
        members = torch.zeros(len(self.responses), len(targets), dtype=torch.bool)
        for row, response in enumerate(self.responses):
            members[row, [column[index] for index in response]] = True
        return Packed(
            ids=torch.cat(self.ids),
            positions=torch.cat(self.positions),
            targets=torch.tensor(targets),
            sources=torch.tensor([self.before.get(index, index - 1) for index in targets]),
            members=members,
            roots=tuple(self.roots),
        )


def chains(positions: Sequence[int]) -> list[Chain]:
    """The chains of a packed row from its positions: a new one starts wherever a position is not its predecessor's plus one.

    A chain that starts at position p hangs below the first p tokens of the path that led to the token before it. No response is empty,
    so what follows one always restarts at a smaller position than the response would have gone on with.
    """
    found: list[Chain] = []
    path: list[tuple[int, int]] = []  # slices from the root to the last token
    start = 0
    for index in range(1, len(positions) + 1):
        if index < len(positions) and positions[index] == positions[index - 1] + 1:
            continue
        spans = _first(path, positions[start])
        found.append(Chain(start, index, tuple(spans)))
        path, start = [*spans, (start, index)], index
    return found


def _first(path: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """The slices that hold the first `count` tokens of a path."""
    kept = []
    for start, stop in path:
        if count <= 0:
            break
        kept.append((start, min(stop, start + count)))
        count -= stop - start
    return kept
