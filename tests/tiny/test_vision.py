"""Reading runs of frames: scenes are told apart by their background, directions by the way of the shape."""

from __future__ import annotations

import numpy as np
import pytest

from tpo_plugin.tiny.vision import read_scenes
from tpo_plugin.tiny.world import MOTIONS, Scene, frames_at


@pytest.mark.parametrize("motion", list(MOTIONS))
def test_directions(motion: str) -> None:
    scenes = [Scene("white", "circle", motion)]
    for times in ([0.1, 3.9], [1.0, 1.5, 2.0], [3.0, 3.9]):
        assert read_scenes(frames_at(scenes, times, 64))[0].motion == motion


def test_a_scene_that_comes_back_is_a_scene_of_its_own() -> None:
    scenes = [Scene("red", "triangle", "left"), Scene("blue", "square", "up"), Scene("red", "triangle", "left")]
    read = read_scenes(frames_at(scenes, [0.5, 3.5, 4.5, 7.5, 8.5, 11.5], 64))
    assert [(scene.colour, scene.shape, scene.motion) for scene in read] == [
        ("red", "triangle", "left"),
        ("blue", "square", "up"),
        ("red", "triangle", "left"),
    ]


def test_two_scenes_of_one_shape() -> None:
    scenes = [Scene("gray", "cross", "down"), Scene("black", "cross", "down")]
    assert [scene.colour for scene in read_scenes(frames_at(scenes, [1.0, 5.0], 64))] == ["gray", "black"]


def test_a_plain_picture_is_no_error() -> None:
    """Real videos have black frames, and the server is shown those too."""
    read = read_scenes([np.zeros((48, 64, 3), np.uint8)] * 3)
    assert [(scene.colour, scene.motion) for scene in read] == [("black", "")]


def test_no_frames() -> None:
    assert read_scenes([]) == []
