"""Segments and perturbations: inside the video, in order, apart, of the asked size, the same for the same seed."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from tpo_plugin.curation.perturbations import find_strategy
from tpo_plugin.curation.perturbations.cut_segment import cut_segment
from tpo_plugin.curation.perturbations.drop import drop
from tpo_plugin.curation.responses import prompt_for, views
from tpo_plugin.curation.segments import draw_segments
from tpo_plugin.errors import RecipeError, VideoError
from tpo_plugin.options import FrameOptions, PerturbationOptions, SegmentOptions
from tpo_plugin.records import Perturbation, Query, Segment, Video

OPTIONS = PerturbationOptions()
WHOLE = Query("q", "comprehensive", "object", "What?")


def video(seconds: float, name: str = "v") -> Video:
    return Video(name, f"{name}.mp4", seconds, 25.0, 64, 64)


def check_spans(perturbation: Perturbation, seconds: float) -> float:
    """The kept seconds, after checking that the spans lie in the video, in order and apart."""
    kept = perturbation.kept
    assert all(0 <= start < end <= seconds for start, end in kept)
    assert all(one[1] < other[0] for one, other in pairwise(kept)), "spans that touch are one span"
    return sum(end - start for start, end in kept)


@pytest.mark.parametrize("parts", [2, 3, 8, 32])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9, 0.99])
def test_drop(parts: int, share: float) -> None:
    options = PerturbationOptions(drop_parts=parts, drop_share=share)
    dropped = min(parts - 1, max(1, round(parts * share)))
    different = set()
    for seed in range(60):
        seconds = random.Random(seed).uniform(1, 4000)
        made = drop(video(seconds), WHOLE, options, random.Random(seed))
        assert check_spans(made, seconds) == pytest.approx(seconds * (parts - dropped) / parts, rel=1e-3)
        # At even distances: the gaps between dropped parts differ by one part at most.
        length = seconds / parts
        middles = [(index + 0.5) * length for index in range(parts)]
        gone = [i for i, middle in enumerate(middles) if not any(start <= middle <= end for start, end in made.kept)]
        gaps = {other - one for one, other in pairwise(gone)}
        assert not gaps or max(gaps) - min(gaps) <= 1
        different.add(tuple(gone))
    assert len(different) > 1, "which parts go depends on the seed"


@pytest.mark.parametrize(("start", "end", "kept"), [
    (2.0, 5.0, ((0.0, 2.0), (5.0, 10.0))),
    (0.0, 5.0, ((5.0, 10.0),)),
    (7.0, 10.0, ((0.0, 7.0),)),
])  # fmt: skip
def test_cut_segment(start: float, end: float, kept: tuple[tuple[float, float], ...]) -> None:
    query = Query("q", "localized", "object", "What?", "", Segment("s", start, end))
    made = cut_segment(video(10.0), query, OPTIONS, random.Random(0))
    assert made.kept == kept
    assert check_spans(made, 10.0) == pytest.approx(10 - (end - start))
    with pytest.raises(ValueError, match="no segment"):
        cut_segment(video(10.0), WHOLE, OPTIONS, random.Random(0))


def test_segments() -> None:
    options = SegmentOptions(per_video=3, min_seconds=2, max_seconds=9, max_share=0.5)
    starts = set()
    for index in range(200):
        seconds = random.Random(index).uniform(4, 400)
        segments = draw_segments(video(seconds, f"v{index}"), options, 0)
        assert len(segments) == len({segment.id for segment in segments}) == 3
        for segment in segments:
            assert 0 <= segment.start < segment.end <= seconds
            assert 2 - 2e-3 <= segment.end - segment.start <= min(9, seconds / 2) + 2e-3
            starts.add(round(segment.start / seconds, 1))
        assert segments == draw_segments(video(seconds, f"v{index}"), options, 0)
        assert segments != draw_segments(video(seconds, f"v{index}"), options, 1)
    assert len(starts) > 8, "segments lie everywhere"


def test_video_too_short_for_a_segment() -> None:
    with pytest.raises(VideoError, match=r"3\.90 s; segments\.min_seconds is 2") as caught:
        draw_segments(video(3.9), SegmentOptions(min_seconds=2, max_share=0.5), 0)
    assert caught.value.reason == "too_short"


def test_views_of_both_kinds() -> None:
    frames = FrameOptions(fps=1, max=32)
    local = Query("q", "localized", "object", "What?", "", Segment("s", 4.0, 8.0))
    chosen, rejected, made = views(video(12.0), local, frames, OPTIONS, 0)
    assert chosen.times == (4.5, 5.5, 6.5, 7.5)
    assert rejected.times == (0.5, 1.5, 2.5, 3.5, 8.5, 9.5, 10.5, 11.5)
    chosen, rejected, made = views(video(12.0), WHOLE, frames, OPTIONS, 0)
    assert chosen.times == tuple(index + 0.5 for index in range(12))
    assert len(rejected.times) == 6
    assert rejected.spans == made.kept
    assert views(video(12.0), WHOLE, frames, OPTIONS, 0)[2] == made


def test_the_model_is_told_of_the_shown_part_as_of_one_video() -> None:
    frames = FrameOptions(fps=0.5, time_instruction=True)
    local = Query("q", "localized", "object", "What?", "", Segment("s", 4.0, 8.0))
    _, rejected, _ = views(video(12.0), local, frames, OPTIONS, 0)
    prompt = prompt_for(local, rejected, np.zeros((4, 8, 8, 3), np.uint8), frames)
    assert (prompt.seconds, prompt.times) == (8.0, (1.0, 3.0, 5.0, 7.0))
    assert prompt.text.startswith("The video lasts for 8.00 seconds, and 4 frames")
    assert prompt.text.endswith("What?")
    assert prompt_for(local, rejected, prompt.frames, FrameOptions()).text == "What?"


def test_names() -> None:
    assert find_strategy("drop") is drop
    assert find_strategy("tpo_plugin.curation.perturbations.drop:drop") is drop
    for name, says in (
        ("drpo", "built in: cut_segment, drop"),
        ("no.such:thing", "No module"),
        ("math:nothing", "nothing"),
    ):
        with pytest.raises(RecipeError, match=says):
            find_strategy(name)
