"""Localized pairs: the video without the segment that the query is about ('irrelevant' in the TPO paper's words)."""

from __future__ import annotations

import random

from tpo_plugin.options import PerturbationOptions
from tpo_plugin.records import Perturbation, Query, Video


def cut_segment(video: Video, query: Query, options: PerturbationOptions, rng: random.Random) -> Perturbation:
    """Keep what lies before and after the query's segment."""
    if query.segment is None:
        raise ValueError(f"query {query.id} has no segment to cut out")
    start, end = query.segment.span
    sides = ((0.0, start), (end, video.seconds))
    return Perturbation("cut_segment", tuple((left, right) for left, right in sides if right > left))
