"""Some of a data set's pairs: of these difficulties, so many, their kinds in a given ratio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tpo_plugin.dataset.pairs import Row
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.records import stable_id

R = TypeVar("R")


def check_ratio(name: str, ratio: Mapping[str, float] | None) -> None:
    """RecipeError for shares that make no sense; `name` is the option's."""
    if ratio is not None and (not ratio or min(ratio.values()) < 0 or sum(ratio.values()) <= 0):
        raise RecipeError(f"`{name}` needs shares of 0 or more that do not sum to 0, it is {dict(ratio)}")


def difficulty_of(row: Row) -> float | None:
    """The difficulty r of the perturbation behind a row's rejected response (a large r is easy), None where it has none."""
    perturbation = row.tpo.get("perturbation")
    value = perturbation.get("difficulty") if isinstance(perturbation, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def at_levels(rows: Sequence[Row], levels: Sequence[float]) -> list[Row]:
    """The rows of these difficulties, in their order. TPOError if a level has none."""
    found = Counter(map(difficulty_of, rows))
    empty = [f"{level:g}" for level in levels if not found[float(level)]]
    if empty:
        there = ", ".join(f"{level:g} ({found[level]} pairs)" for level in sorted(filter(None, found), reverse=True))
        raise TPOError(
            f"no pair has difficulty {' or '.join(empty)}; the data has {there or 'no difficulties at all: they come from `method: temple`'}. "
            "Name levels that it has, or curate them (`perturbations.levels`)"
        )
    return [row for row in rows if difficulty_of(row) in levels]


def select(
    rows: Sequence[R],
    identify: Callable[[R], str],
    kind_of: Callable[[R], str],
    most: int | None,
    ratio: Mapping[str, float] | None,
    seed: int,
) -> list[R]:
    """`most` of the rows (None: as many as the ratio allows), drawn by `seed`, in the order in which they were given.

    Draws are nested: the rows of a smaller `most` are among those of a larger one. `ratio` has a share for each kind of row; the others
    are left out. TPOError where there are too few rows.
    """
    if most is None and ratio is None:
        return list(rows)
    drawn = sorted(range(len(rows)), key=lambda place: (stable_id("select", seed, identify(rows[place])), place))
    if ratio is None:
        if most is not None and most > len(rows):
            raise TPOError(
                f"{most} pairs are asked for and there are {len(rows)}: lower the number, or curate more videos"
            )
        taken = drawn[:most]
    else:
        by_kind = {kind: [place for place in drawn if kind_of(rows[place]) == kind] for kind in ratio}
        counts = _counts(ratio, {kind: len(found) for kind, found in by_kind.items()}, most)
        taken = [place for kind, count in counts.items() for place in by_kind[kind][:count]]
    return [rows[place] for place in sorted(taken)]


def _counts(ratio: Mapping[str, float], there: Mapping[str, int], most: int | None) -> dict[str, int]:
    """How many of each kind: one after the other goes to the kind that is furthest behind its share, so a larger `most` only adds."""
    total = sum(ratio.values())
    counts: Counter[str] = Counter()
    while most is None or counts.total() < most:
        place = counts.total() + 1
        kind = max(ratio, key=lambda one: ratio[one] / total * place - counts[one])
        if counts[kind] == there[kind]:
            if most is None and counts:
                break
            raise TPOError(_too_few(ratio, there, most))
        counts[kind] += 1
    return counts


def _too_few(ratio: Mapping[str, float], there: Mapping[str, int], most: int | None) -> str:
    asked = "pairs" if most is None else f"{most} pairs"
    shares = " : ".join(f"{kind} {share:g}" for kind, share in ratio.items())
    found = ", ".join(f"{count} {kind}" for kind, count in there.items())
    return f"{asked} in the ratio {shares} are asked for and there are {found}: lower `max_pairs`, change `ratio`, or curate more videos"
