"""Reverse: blocks of neighbouring shots from the last to the first."""

from __future__ import annotations

import random

from tpo_plugin.curation.perturbations.blocks import blocks
from tpo_plugin.curation.shot_groups import ShotList


def reverse(shots: ShotList, difficulty: int, rng: random.Random) -> tuple[int, ...] | None:
    """All places, their blocks (see `blocks`, also on what the paper says) in reverse; None if there is only one block."""
    true = blocks(len(shots), difficulty)
    return tuple(place for block in reversed(true) for place in block) if len(true) > 1 else None
