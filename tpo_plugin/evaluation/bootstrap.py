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
    (interval,) = intervals([correct], groups, seed, resamples)
    return interval


def intervals(
    columns: Sequence[Sequence[float]],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> list[Interval]:
    """The mean of each column with its interval; all columns hold the same questions and see the same resamples of them."""
    values = np.asarray(columns, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError("an accuracy needs at least one question")
    sums, counts = _per_group(values, groups)
    rng = np.random.default_rng(seed)
    means = np.concatenate([_resample(sums, counts, rng, size) for size in _chunks(resamples)])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return [
        Interval(float(mean), float(bottom), float(top), values.shape[1])
        for mean, bottom, top in zip(values.mean(axis=1), low, high)
    ]


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
    """Sums of the values (G, K) and number of questions (G,) of each group, from values (K, N)."""
    questions = values.shape[1]
    if groups is None:
        return values.T, np.ones(questions)
    if len(groups) != questions:
        raise ValueError(f"{len(groups)} groups for {questions} questions")
    place: dict[Hashable, int] = {}
    which = np.array([place.setdefault(group, len(place)) for group in groups])
    sums = np.stack([np.bincount(which, weights=column) for column in values], axis=1)
    return sums, np.bincount(which).astype(np.float64)


def _resample(sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Means of `size` resamples of the groups, (size, K)."""
    total = len(counts)
    drawn = rng.integers(total, size=(size, total))
    times = np.bincount((drawn + total * np.arange(size)[:, None]).ravel(), minlength=size * total)
    weights = times.reshape(size, total).astype(np.float64)
    means: np.ndarray = (weights @ sums) / (weights @ counts)[:, None]
    return means


def _chunks(total: int) -> list[int]:
    return [min(CHUNK, total - start) for start in range(0, total, CHUNK)]
