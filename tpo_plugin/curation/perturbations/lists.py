"""Perturbations of a list of shots, with a difficulty (TEMPLE, arXiv 2503.16929): which places are left, in which order.

A strategy is a function `(shots, difficulty, rng) -> order`: the indices of the kept places in the order in which they
come now, or None where it can change nothing. Captions and frames of the places are both arranged by that order. The
difficulty r is 16, 8, 4 or 2 in the paper: a large one changes much, so that the pair is easy, a small one little.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from tpo_plugin.curation.perturbations.drop_shots import drop_group, drop_shots, drop_similar
from tpo_plugin.curation.perturbations.reverse import reverse
from tpo_plugin.curation.perturbations.shuffle import shuffle
from tpo_plugin.curation.shot_groups import ShotList
from tpo_plugin.errors import TPOError
from tpo_plugin.plugins import find


class ListStrategy(Protocol):
    """Makes one rejected list; all chance comes from `rng`."""

    def __call__(self, shots: ShotList, difficulty: int, rng: random.Random) -> Sequence[int] | None: ...


BUILT_IN: dict[str, ListStrategy] = {
    "drop": drop_shots,
    "drop_similar": drop_similar,
    "drop_group": drop_group,
    "shuffle": shuffle,
    "reverse": reverse,
}


def find_list_strategy(name: str) -> ListStrategy:
    """The built-in strategy `name`, or the one at a dotted `package.module:function`."""
    strategy: ListStrategy = find(name, BUILT_IN, "list perturbation")
    return strategy


def perturb(name: str, shots: ShotList, difficulty: int, rng: random.Random) -> tuple[int, ...] | None:
    """The strategy's order for this list, None where nothing would change.

    TPOError if a third party's strategy gives what is no order: nothing at all, a place twice, one that is not there.
    """
    if difficulty < 1:
        raise ValueError(f"difficulty must be 1 or more, it is {difficulty}")
    found = find_list_strategy(name)(shots, difficulty, rng)
    if found is None:
        return None
    order = tuple(found)
    if not order or len(set(order)) < len(order) or not set(order) <= set(range(len(shots))):
        raise TPOError(
            f"the list perturbation `{name}` gave {order} for {len(shots)} places: it must name each kept place once"
        )
    return None if order == tuple(range(len(shots))) else order
