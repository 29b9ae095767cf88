"""Pairs of one video come together, so that one token tree scores them all; everything else stays shuffled."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence

from torch.utils.data import Sampler


class GroupedSampler(Sampler[int]):
    """The rows of an epoch in units of `pairs_per_video` rows, which lie in one video's pairs wherever it has enough of them.

    `videos` names the video of each row. Each epoch has all rows once. A video's rows are shuffled and cut into groups of at most
    `pairs_per_video`; groups that came out shorter are put together to full units, as whole as that goes; the units are shuffled. So a
    batch whose size is a multiple of `pairs_per_video` holds whole units, and a video's units lie anywhere in the epoch. What is left in
    the end, less than a unit, comes last.

    `levels` has a number for each row: rows then come in ascending order of it in each epoch, and all of the above holds within a level. What
    is left of a level begins the first unit of the next one.

    The order depends on `seed` and the epoch alone (`set_epoch`, which accelerate and transformers call), so it is the same on every
    rank and when a run is resumed within an epoch.
    """

    def __init__(
        self, videos: Sequence[Hashable], pairs_per_video: int, seed: int, levels: Sequence[float] | None = None
    ) -> None:
        if pairs_per_video < 1:
            raise ValueError(f"pairs_per_video must be at least 1, it is {pairs_per_video}")
        if levels is not None and len(levels) != len(videos):
            raise ValueError(f"{len(videos)} rows have {len(levels)} levels")
        self.levels: list[dict[Hashable, list[int]]] = []  # each with its videos' rows
        for level in sorted(set(levels or [0.0])):
            rows: dict[Hashable, list[int]] = {}
            for row, video in enumerate(videos):
                if levels is None or levels[row] == level:
                    rows.setdefault(video, []).append(row)
            self.levels.append(rows)
        self.total, self.size, self.seed, self.epoch = len(videos), pairs_per_video, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is that of this epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self.seed} {self.epoch}")
        left: list[int] = []  # less than a unit
        for rows in self.levels:
            units, rest = self._units(rows, draw)
            if left:
                loose = left + rest
                if len(loose) < self.size and units:
                    loose += units.pop()
                units, rest = [loose[: self.size], *units], loose[self.size :]
            if units and len(units[0]) < self.size:
                rest = units.pop(0)
            yield from (row for unit in units for row in unit)
            left = rest
        yield from left

    def _units(self, videos: dict[Hashable, list[int]], draw: random.Random) -> tuple[list[list[int]], list[int]]:
        """Full units of these videos' rows, and the rows that are left."""
        units: list[list[int]] = []
        short: list[list[int]] = []
        for rows in videos.values():
            shuffled = draw.sample(rows, len(rows))
            for start in range(0, len(rows), self.size):
                group = shuffled[start : start + self.size]
                (units if len(group) == self.size else short).append(group)
        draw.shuffle(short)
        joined, rest = self._joined(short)
        units += joined
        draw.shuffle(units)
        return units, rest

    def _joined(self, short: list[list[int]]) -> tuple[list[list[int]], list[int]]:
        """Full units from groups shorter than one, the longest first; what fills none is cut. And the rows that are left."""
        open_: dict[int, list[list[int]]] = {}  # units that are not full, by the rows that they have room for
        full = []
        for group in sorted(short, key=len, reverse=True):
            room = next((free for free in range(len(group), self.size) if open_.get(free)), None)
            unit = open_[room].pop() + group if room else group
            if len(unit) == self.size:
                full.append(unit)
            else:
                open_.setdefault(self.size - len(unit), []).append(unit)
        loose = [row for units in open_.values() for unit in units for row in unit]
        whole = len(loose) - len(loose) % self.size
        return full + [loose[start : start + self.size] for start in range(0, whole, self.size)], loose[whole:]
