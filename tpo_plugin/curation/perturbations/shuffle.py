"""Shuffle: blocks of neighbouring shots in a random order."""

from __future__ import annotations

import random

from tpo_plugin.curation.perturbations.blocks import blocks
from tpo_plugin.curation.shot_groups import ShotList


def shuffle(shots: ShotList, difficulty: int, rng: random.Random) -> tuple[int, ...] | None:
    """All places, their blocks (see `blocks`, also on what the paper says) in a random order that is not the true one.

    With two blocks that is the reverse order. None where there is only one block.
    """
    true = blocks(len(shots), difficulty)
    if len(true) < 2:
        return None
    order = list(true)
    while order == true:
        rng.shuffle(order)
    return tuple(place for block in order for place in block)
