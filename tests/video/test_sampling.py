"""Sampled times: inside the spans, ascending, evenly spread, as many as asked."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tpo_plugin.options import FrameOptions
from tpo_plugin.video import sample_times, spread, time_instruction
from tpo_plugin.video.sampling import frame_count


def random_spans(rng: random.Random) -> list[tuple[float, float]]:
    edges = sorted(rng.uniform(0, 600) for _ in range(2 * rng.randint(1, 6)))
    return list(zip(edges[::2], edges[1::2]))


@pytest.mark.parametrize("seed", range(50))
def test_spread_over_random_spans(seed: int) -> None:
    rng = random.Random(seed)
    spans, count = random_spans(rng), rng.randint(1, 200)
    times = spread(spans, count)
    assert len(times) == count
    assert list(times) == sorted(times)
    assert all(any(start - 1e-4 <= time <= end + 1e-4 for start, end in spans) for time in times)
    # Laid end to end, the times stand at equal distances, half a distance from both ends.
    before = np.cumsum([0.0, *(end - start for start, end in spans)])
    place = [
        next(before[i] + time - start for i, (start, end) in enumerate(spans) if start - 1e-4 <= time <= end + 1e-4)
        for time in times
    ]
    assert place == pytest.approx([(index + 0.5) * before[-1] / count for index in range(count)], abs=2e-4)


def test_by_hand() -> None:
    # 4 s at 1 fps: the middles of four seconds; without the middle half: of 0-1 and 3-4.
    assert sample_times([(0.0, 4.0)], FrameOptions(fps=1)) == (0.5, 1.5, 2.5, 3.5)
    assert sample_times([(0.0, 1.0), (3.0, 4.0)], FrameOptions(fps=1)) == (0.5, 3.5)
    # 100 s at 1 fps are 100 frames, at most 4 of them: the middles of quarters.
    assert sample_times([(0.0, 100.0)], FrameOptions(fps=1, max=4)) == (12.5, 37.5, 62.5, 87.5)


@pytest.mark.parametrize(
    ("seconds", "fps", "count"), [(0.1, 1, 1), (10, 0.5, 5), (10, 1, 10), (10.5, 1, 11), (99, 1, 32)]
)
def test_frame_count(seconds: float, fps: float, count: int) -> None:
    assert frame_count([(0.0, seconds)], FrameOptions(fps=fps, max=32)) == count


@pytest.mark.parametrize("spans", [[], [(3.0, 3.0)]])
def test_no_time_to_sample_from(spans: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="no time"):
        spread(spans, 3)


def test_time_instruction_names_length_and_times() -> None:
    text = time_instruction(8.0, (2.0, 6.0))
    assert text.startswith("The video lasts for 8.00 seconds, and 2 frames")
    assert "2.00s,6.00s" in text
