"""Bootstrap intervals of accuracies and of differences between two models on the same questions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

CHUNK = 500  # resamples drawn at once: bounds the memory


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % percentile interval, over `n` questions. Shares, not percent."""

    value: float
    low: float
    high: float
    n: int


def accuracy(
    correct: Sequence[float], groups: Sequence[Hashable] | None = None, seed: int = 0, resamples: int = 10_000
) -> Interval:
    """Share of right answers; `correct` holds 0 or 1 a question.

    With `groups` (the questions' videos) whole groups are resampled: questions about one video stand and fall together.
    """
    values = np.asarray(correct, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("an accuracy needs at least one question")
    sums, counts = _per_group(values, groups)
    rng = np.random.default_rng(seed)
    means = np.concatenate([_resample(sums, counts, rng, size) for size in _chunks(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def difference(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Interval:
    """Accuracy of `second` minus that of `first`, question by question in the same order, resampled in pairs."""
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs the same questions: {len(first)} and {len(second)} answers")
    return accuracy(np.subtract(second, first, dtype=np.float64).tolist(), groups, seed, resamples)


def _per_group(values: np.ndarray, groups: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of questions of each group, both (G,)."""
    if groups is None:
        return values, np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(f"{len(groups)} groups for {len(values)} questions")
    place: dict[Hashable, int] = {}
    which = np.array([place.setdefault(group, len(place)) for group in groups])
    return np.bincount(which, weights=values), np.bincount(which).astype(np.float64)


def _resample(sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Means of `size` resamples of the groups, (size,)."""
    drawn = rng.integers(len(sums), size=(size, len(sums)))
    means: np.ndarray = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _chunks(total: int) -> list[int]:
    return [min(CHUNK, total - start) for start in range(0, total, CHUNK)]
