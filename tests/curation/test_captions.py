"""Captions are made of what needs them and of nothing else."""

from __future__ import annotations

import pytest

from tpo_plugin.curation.captions import WHOLE, clips_to_caption, join_captions, wanted
from tpo_plugin.curation.queries import drafts
from tpo_plugin.options import FrameOptions, QueryOptions
from tpo_plugin.records import Segment, Video

VIDEO = Video("v", "v.mp4", 60.0, 25.0, 64, 64)
SEGMENTS = [Segment("s0", 0.0, 5.0), Segment("s1", 9.0, 12.0), Segment("s2", 20.0, 25.0)]
QA = {"source": "qa", "ratio": {"localized": 0, "comprehensive": 1}}


@pytest.mark.parametrize(
    ("per_video", "ratio", "captioned"),
    [
        (4, {"localized": 1, "comprehensive": 1}, {WHOLE, "s0", "s1"}),
        (6, {"localized": 1, "comprehensive": 0}, {"s0", "s1", "s2"}),
        (6, {"localized": 0, "comprehensive": 1}, {WHOLE}),
    ],
)
def test_only_what_queries_are_about(per_video: int, ratio: dict[str, float], captioned: set[str]) -> None:
    queries = drafts(VIDEO, SEGMENTS, (), QueryOptions(per_video=per_video, ratio=ratio), 0)
    calls = clips_to_caption(VIDEO, queries, FrameOptions(fps=1, max=32), 8)
    assert {name for name, _ in calls} == captioned
    lengths = {WHOLE: 32, "s0": 5, "s1": 3, "s2": 5}
    for name in captioned:
        clips = [times for owner, times in calls if owner == name]
        assert sum(map(len, clips)) == lengths[name], "each once"
        assert all(len(times) <= 8 for times in clips)
    assert set(join_captions(calls, ["text"] * len(calls))) == captioned


@pytest.mark.parametrize(
    ("queries", "use", "expected"),
    [
        ({}, [], True),
        (QA, [], False),
        (QA, ["identical", "length"], False),
        (QA, ["length", "judge"], True),
        (QA, ["package.module:function"], True),
    ],
)
def test_wanted(recipe_for, queries: dict, use: list[str], expected: bool) -> None:
    assert wanted(recipe_for(queries=queries, filters={"use": use})) == expected
