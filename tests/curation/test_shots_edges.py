"""Shots at the edge of what a video holds."""

from __future__ import annotations

import numpy as np
import pytest

from tpo_plugin.curation.shot_groups import choose_groups
from tpo_plugin.curation.shots import Scan, Shot, choose_shots
from tpo_plugin.errors import VideoError
from tpo_plugin.options import ShotOptions

LAX = ShotOptions(min_seconds=0, min_grey_range=0, min_groups=1, min_shots=2, max_recurrence_share=1.0)


def test_a_shot_that_is_shown_for_no_time_is_none() -> None:
    """The last frame is a shot of its own and lasts until the video's end, at the same time."""
    times, levels = np.arange(3) / 2, np.full(3, 200, np.uint8)
    shots = (Shot(0.0, 0.5), Shot(0.5, 1.0), Shot(1.0, 1.0))
    scan = Scan(shots, times, levels // 8, levels, np.ones(3), {"detector": "by hand"})
    kept = choose_shots(scan, LAX)
    assert kept == [*shots[:2]]
    made = choose_groups(scan, kept, np.eye(2), LAX)
    assert made.keyframes == ((0.0, 0.0), (0.5, 0.5))
    assert made.plain()["detector"] == {"detector": "by hand"}
    with pytest.raises(VideoError, match="2 of them"):
        choose_shots(scan, ShotOptions(min_seconds=0, min_grey_range=0, min_shots=3))
