"""Comprehensive pairs: the video with some of its equal parts dropped at even distances ('incomplete' in the paper's words)."""

from __future__ import annotations

import random

from tpo_plugin.options import PerturbationOptions
from tpo_plugin.records import Perturbation, Query, Video


def drop(video: Video, query: Query, options: PerturbationOptions, rng: random.Random) -> Perturbation:
    """Drop round(`drop_share` * `drop_parts`) of `drop_parts` parts, at least one dropped and one kept."""
    parts = options.drop_parts
    dropped = min(parts - 1, max(1, round(parts * options.drop_share)))
    offset = rng.random()
    gone = {int((index + offset) * parts / dropped) for index in range(dropped)}
    length = video.seconds / parts
    kept = [(index * length, (index + 1) * length) for index in range(parts) if index not in gone]
    merged: list[tuple[float, float]] = []
    for start, end in kept:
        if merged and abs(merged[-1][1] - start) < 1e-9:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return Perturbation("drop", tuple((round(start, 4), min(round(end, 4), video.seconds)) for start, end in merged))
