"""Cutting a video into segments."""

from __future__ import annotations

import random

from tpo_plugin.errors import VideoError
from tpo_plugin.options import SegmentOptions
from tpo_plugin.records import Segment, Video, stable_id
from tpo_plugin.video import REASONS


def draw_segments(video: Video, options: SegmentOptions, seed: int) -> list[Segment]:
    """`per_video` random segments, seeded by the video; VideoError `too_short` where not even the shortest fits."""
    longest = min(options.max_seconds, options.max_share * video.seconds)
    if longest < options.min_seconds:
        raise VideoError(
            "too_short",
            f"{video.path}: {REASONS['too_short']} ({video.seconds:.2f} s; segments.min_seconds is {options.min_seconds:g}, "
            f"segments.max_share {options.max_share:g})",
        )
    rng = random.Random(stable_id("segments", video.id, seed))
    segments = []
    for index in range(options.per_video):
        length = rng.uniform(options.min_seconds, longest)
        start = round(rng.uniform(0, video.seconds - length), 3)
        segments.append(
            Segment(stable_id(video.id, "segment", seed, index), start, min(round(start + length, 3), video.seconds))
        )
    return segments
