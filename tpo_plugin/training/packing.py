"""A batch as token trees: what several sequences begin with alike is there once.

A sequence is a prompt with one of its responses. Those of one video share its tokens, equal prompts, and equal responses to them (TEMPLE: one
chosen, twelve rejected); they part where their tokens first differ. The trees of a batch lie one after the other in one row of T tokens, depth
first, without padding. Positions count along the path from the root, so they restart at each branch point; they alone tell the tree (see
`chains`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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

    Prompts of one video must have its tokens in what they begin with; how much sequences share is found by comparison.
    """
    packer = _Packer()
    for prompts in videos:
        packer.add(prompts)
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


@dataclass
class _Run:
    """Tokens in a row, and the runs that branch off after the last of them; `start` is its first one's place in the packed row."""

    ids: Tensor
    branches: list[_Run] = field(default_factory=list)
    start: int = 0

    def add(self, ids: Tensor) -> None:
        """Add a sequence that begins with this run's first token; the run is split where they part."""
        length = min(len(self.ids), len(ids))
        differing = (self.ids[:length] != ids[:length]).nonzero()
        shared = int(differing[0]) if len(differing) else length
        if shared < len(self.ids):
            self.ids, self.branches = self.ids[:shared], [_Run(self.ids[shared:], self.branches)]
        rest = ids[shared:]
        if not len(rest):
            return
        following = next((branch for branch in self.branches if branch.ids[0] == rest[0]), None)
        if following:
            following.add(rest)
        else:
            self.branches.append(_Run(rest))

    def path(self, ids: Tensor) -> list[Tensor]:
        """The packed indices of a sequence that was added, in pieces."""
        taken = min(len(self.ids), len(ids))
        rest = ids[taken:]
        pieces = [torch.arange(self.start, self.start + taken)]
        if len(rest):
            pieces += next(branch for branch in self.branches if branch.ids[0] == rest[0]).path(rest)
        return pieces


class _Packer:
    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.positions: list[Tensor] = []
        self.responses: list[Tensor] = []  # the indices of each response's scored tokens
        self.before: dict[int, int] = {}  # a scored token's index -> that of the token before it on its path
        self.roots: list[Root] = []
        self.total = 0

    def add(self, prompts: Sequence[Branches]) -> None:
        """A video's tree. The first prompt, with its first response, comes first in it."""
        if not all(len(prompt.prompt) for prompt in prompts):
            raise ValueError("a prompt has no tokens")
        if not all(prompt.responses and all(map(len, prompt.responses)) for prompt in prompts):
            raise ValueError("a response has no tokens")
        sequences = [torch.cat([prompt.prompt, response]) for prompt in prompts for response in prompt.responses]
        if any(one[0] != sequences[0][0] for one in sequences):
            raise ValueError("the prompts of one video do not begin alike")
        tree, start = _Run(sequences[0]), self.total
        for sequence in sequences[1:]:
            tree.add(sequence)
        self._lay(tree, 0)
        places = [_scored(prompt, response) for prompt in prompts for response in prompt.responses]
        for sequence, scored in zip(sequences, places):
            path = torch.cat(tree.path(sequence))
            self.responses.append(path[scored])
            self.before.update(zip(path[scored].tolist(), path[scored - 1].tolist()))
        shared = common_prefix([prompt.prompt for prompt in prompts])
        self.roots.append(Root(start, self.total, len(prompts[0].prompt), shared))

    def _lay(self, run: _Run, position: int) -> None:
        run.start = self.total
        self.ids.append(run.ids)
        self.positions.append(torch.arange(position, position + len(run.ids)))
        self.total += len(run.ids)
        for branch in run.branches:
            self._lay(branch, position + len(run.ids))

    def packed(self) -> Packed:
        targets = torch.cat(self.responses).unique()
        members = torch.stack([torch.isin(targets, response) for response in self.responses])
        return Packed(
            ids=torch.cat(self.ids),
            positions=torch.cat(self.positions),
            targets=targets,
            sources=torch.tensor([self.before[index] for index in targets.tolist()]),
            members=members,
            roots=tuple(self.roots),
        )


def _scored(prompt: Branches, response: Tensor) -> Tensor:
    """The places in prompt and response of the tokens that count as the response's."""
    own = torch.arange(len(prompt.prompt), len(prompt.prompt) + len(response))
    return own if prompt.scored is None else torch.cat([prompt.scored.nonzero().flatten(), own])


def chains(positions: Sequence[int]) -> list[Chain]:
    """The chains of a packed row from its positions: a new one starts wherever a position is not its predecessor's plus one.

    A chain that starts at position p hangs below the first p tokens of the path that led to the token before it. It branches off that path,
    so it restarts at a smaller position than the path would have gone on with.
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
