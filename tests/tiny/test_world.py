"""The tiny world's pictures hold what its scenes say, through real H.264 and back."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.tiny.vision import read_frame, read_scenes
from tpo_plugin.tiny.world import COLOURS, MOTIONS, SHAPES, Scene, draw_scenes, duration, frames_at, render, scene_at
from tpo_plugin.video import read_frames, spread, write_video


def test_drawn_scenes() -> None:
    seen = set()
    for seed in range(100):
        scenes = draw_scenes(random.Random(seed), 12, 2.5)
        assert {scene.colour for scene in scenes} == set(COLOURS), "a background occurs once"
        assert duration(scenes) == 30.0
        seen.update((scene.shape, scene.motion) for scene in scenes)
    assert len(seen) == len(SHAPES) * len(MOTIONS)
    assert draw_scenes(random.Random(5), 4) == draw_scenes(random.Random(5), 4)
    with pytest.raises(ValueError, match="13 scenes need 13 distinct colours"):
        draw_scenes(random.Random(0), 13)


def test_scene_at() -> None:
    scenes = [Scene("red", "cross", "left", 2.0), Scene("blue", "square", "up", 4.0)]
    assert [scene_at(scenes, time) for time in (0.0, 1.0, 2.0, 5.0)] == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.75)]
    assert scene_at(scenes, 6.0) == (1, 1.0), "the last picture stays"


@pytest.mark.parametrize("size", [32, 64, 96])
def test_every_colour_and_shape_is_read_back(size: int) -> None:
    cases = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    offsets = np.random.default_rng(0).uniform(-0.25, 0.25, (len(cases), 2))
    pictures = render([Scene(colour, shape, "left") for colour, shape in cases], offsets, size)
    read = [read_frame(picture) for picture in pictures]
    assert [(colour, shape) for colour, shape, _ in read] == cases
    assert np.abs(np.array([centre for _, _, centre in read]) - offsets).max() < 0.1
    with pytest.raises(ValueError, match="unknown shape 'blob'"):
        render([Scene("red", "blob", "left")], np.zeros((1, 2)), size)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_scenes_survive_the_video_file(tmp_path: Path, seed: int, noise: bool) -> None:
    scenes = draw_scenes(random.Random(seed), 12, 2.0)
    times = [index / 4 for index in range(96)]
    path = tmp_path / "world.mp4"
    write_video(path, frames_at(scenes, times, 96, np.random.default_rng(seed) if noise else None), 4)
    shown = read_frames(path, spread([(0.0, 24.0)], 48))
    assert read_scenes(shown) == [Scene(scene.colour, scene.shape, scene.motion) for scene in scenes]


def test_one_frame_tells_no_motion() -> None:
    scenes = [Scene("red", "cross", "left")]
    assert read_scenes(frames_at(scenes, [1.0], 64)) == [Scene("red", "cross", "")]
    assert read_scenes(frames_at(scenes, [1.0, 2.0], 64)) == [Scene("red", "cross", "left")]
