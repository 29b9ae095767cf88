"""Reading the tiny world's frames back into scenes, by measuring the picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from tpo_plugin.tiny.world import COLOURS, MOTIONS, SHAPES, Scene, render

STILL = 0.04  # a shape that moved less than this share of the side between two frames tells no direction
GRID = 24


def read_frame(frame: np.ndarray) -> tuple[str, str, tuple[float, float]]:
    """Background colour, shape and centre (x, y from the picture's centre, in units of the side) of one (H, W, 3) frame."""
    picture = frame.astype(np.float32)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    background = np.median(border, axis=0)
    names = list(COLOURS)
    colour = names[int(np.argmin([np.abs(background - COLOURS[name]).sum() for name in names]))]
    distance = np.abs(picture - background).sum(axis=2)
    mask = distance >= 0.5 * distance.max()  # all of it where there is no shape at all
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
    height, width = mask.shape
    centre = ((box[2] + box[3]) / 2 / width - 0.5, (box[0] + box[1]) / 2 / height - 0.5)
    seen = _normalised(mask, box)
    overlaps = [(seen & pattern).sum() / (seen | pattern).sum() for pattern in _patterns()]
    return colour, SHAPES[int(np.argmax(overlaps))], centre


def read_scenes(frames: Sequence[np.ndarray]) -> list[Scene]:
    """The scenes that the frames show, in order; `motion` is '' where the frames do not tell it."""
    readings = [read_frame(frame) for frame in frames]
    scenes: list[Scene] = []
    start = 0
    for index in range(1, len(readings) + 1):
        if index < len(readings) and readings[index][0] == readings[start][0]:
            continue
        run = readings[start:index]
        shapes = [shape for _, shape, _ in run]
        scenes.append(Scene(run[0][0], max(set(shapes), key=shapes.count), _motion(run[0][2], run[-1][2])))
        start = index
    return scenes


def _motion(first: tuple[float, float], last: tuple[float, float]) -> str:
    step = np.subtract(last, first)
    if np.abs(step).max() < STILL:
        return ""
    return max(MOTIONS, key=lambda name: float(np.dot(step, MOTIONS[name])))


def _normalised(mask: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The box's content as a (GRID, GRID) picture of yes and no."""
    top, bottom, left, right = box
    rows = (top + (np.arange(GRID) + 0.5) * (bottom - top) / GRID).astype(int)
    columns = (left + (np.arange(GRID) + 0.5) * (right - left) / GRID).astype(int)
    grid: np.ndarray = mask[np.ix_(rows, columns)]
    return grid


@cache
def _patterns() -> list[np.ndarray]:
    patterns = []
    for picture in render([Scene("black", shape, "up") for shape in SHAPES], np.zeros((len(SHAPES), 2)), 192):
        mask = picture[..., 0] > 128
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        patterns.append(_normalised(mask, (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)))
    return patterns
