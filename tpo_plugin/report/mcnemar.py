"""McNemar's exact test of two models on the same questions, and Holm's adjustment of several such tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb


@dataclass(frozen=True)
class Discordance:
    """How many questions only the one model, and only the other, answers rightly; the others say nothing about a difference."""

    gained: int
    lost: int

    @property
    def p(self) -> float:
        """The two-sided exact probability of a split at least as uneven if each discordant question were a fair coin's toss."""
        tosses, fewer = self.gained + self.lost, min(self.gained, self.lost)
        if self.gained == self.lost:
            return 1.0
        # Integers up to the division: floats would overflow, and lose small probabilities.
        return 2 * sum(comb(tosses, heads) for heads in range(fewer + 1)) / 2**tosses


def discordance(first: Sequence[int], second: Sequence[int]) -> Discordance:
    """Count over right (1) and wrong (0) answers to the same questions: gained are those that only `second` has right."""
    if len(first) != len(second):
        raise ValueError(f"a paired test needs the same questions: {len(first)} and {len(second)} answers")
    changes = [after - before for before, after in zip(first, second)]
    return Discordance(changes.count(1), changes.count(-1))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Adjusted so that the chance of any false rejection among all of them stays below the level (S. Holm, 1979)."""
    order = sorted(range(len(probabilities)), key=lambda at: probabilities[at])
    adjusted = [0.0] * len(order)
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * probabilities[at]))
        adjusted[at] = largest
    return adjusted
