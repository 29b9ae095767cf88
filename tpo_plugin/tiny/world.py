"""Scenes of the tiny world and the pictures they make.

A video is a sequence of scenes. In a scene one shape moves across a plain background in one direction. A background
colour occurs at most once in a video, so 'when the background is red' names one place in time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (30, 130, 50),
    "blue": (35, 65, 200),
    "yellow": (235, 210, 40),
    "orange": (240, 130, 20),
    "purple": (115, 35, 150),
    "pink": (245, 145, 190),
    "cyan": (60, 205, 220),
    "brown": (110, 65, 30),
    "gray": (128, 128, 128),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SHAPES = ("circle", "square", "triangle", "cross")
# Unit vectors in image coordinates: x to the right, y down.
MOTIONS: dict[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

SHAPE_RADIUS = 0.24  # of the picture's side
TRAIL = ((0.0, 1.0), (0.14, 0.4), (0.28, 0.2))  # how far behind the shape (of the side), and how strong
TRAVEL = 0.25  # distance from the centre at which a shape starts and ends, of the picture's side


@dataclass(frozen=True)
class Scene:
    """One scene: a `shape` moving in direction `motion` over a `colour` background for `seconds`."""

    colour: str
    shape: str
    motion: str
    seconds: float = 4.0


def draw_scenes(rng: random.Random, count: int, seconds: float = 4.0) -> list[Scene]:
    """`count` random scenes with distinct background colours."""
    if count > len(COLOURS):
        raise ValueError(f"{count} scenes need {count} distinct colours, the tiny world has {len(COLOURS)}")
    colours = rng.sample(list(COLOURS), count)
    return [Scene(colour, rng.choice(SHAPES), rng.choice(list(MOTIONS)), seconds) for colour in colours]


def duration(scenes: list[Scene]) -> float:
    """Seconds of the whole video."""
    return sum(scene.seconds for scene in scenes)


def scene_at(scenes: list[Scene], time: float) -> tuple[int, float]:
    """The scene's index at `time` (seconds) and how far it has run, in [0, 1)."""
    start = 0.0
    for index, scene in enumerate(scenes):
        if time < start + scene.seconds:
            return index, max(0.0, time - start) / scene.seconds
        start += scene.seconds
    return len(scenes) - 1, 1.0


def frames_at(scenes: list[Scene], times: list[float], size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The frames at `times` (seconds): uint8 (len(times), size, size, 3); `rng` adds small variation in colour and size."""
    placed = [scene_at(scenes, time) for time in times]
    shown = [scenes[index] for index, _ in placed]
    offsets = [np.multiply(MOTIONS[scene.motion], TRAVEL * (2 * phase - 1)) for scene, (_, phase) in zip(shown, placed)]
    return render(shown, np.array(offsets), size, rng)


def render(shown: list[Scene], offsets: np.ndarray, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Draw one frame of each scene, its shape at `offsets` (N, 2) from the centre in units of the side: uint8 (N, size, size, 3).

    A moving shape leaves a pale trail, as motion blur would: its direction shows in a single frame too.
    """
    count = len(shown)
    background = np.array([COLOURS[scene.colour] for scene in shown], dtype=np.float32)
    direction = np.array([MOTIONS[scene.motion] for scene in shown], dtype=np.float32)
    radius = np.full(count, SHAPE_RADIUS, dtype=np.float32)
    if rng is not None:
        background = background + rng.normal(0, 6, (count, 3)).astype(np.float32)
        radius = radius * rng.uniform(0.9, 1.1, count).astype(np.float32)
        offsets = offsets + rng.normal(0, 0.02, (count, 2))
    shapes = [scene.shape for scene in shown]
    coverage = np.zeros((count, size, size), dtype=np.float32)
    for lag, strength in TRAIL:
        coverage = np.maximum(coverage, strength * _coverage(shapes, offsets - lag * direction, radius, size))
    coverage = coverage[..., None]
    ink = np.where(background.mean(axis=1) > 150, 25.0, 235.0).astype(np.float32)[:, None, None, None]
    picture = background[:, None, None, :] * (1 - coverage) + ink * coverage
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _coverage(shapes: list[str], offsets: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel a shape covers: float32 (N, size, size) in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x = (axis[None, None, :] - offsets[:, 0, None, None].astype(np.float32)) / radius[:, None, None]
    y = (axis[None, :, None] - offsets[:, 1, None, None].astype(np.float32)) / radius[:, None, None]
    distance = np.empty((len(shapes), size, size), dtype=np.float32)
    for name in set(shapes):
        rows = np.array([shape == name for shape in shapes])
        distance[rows] = _signed_distance(name, *np.broadcast_arrays(x[rows], y[rows]))
    covered: np.ndarray = np.clip(0.5 - distance * radius[:, None, None] * size, 0, 1)
    return covered


def _signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the border of a unit `shape` at the origin, negative inside (exact or a close bound)."""
    if shape == "circle":
        return np.hypot(x, y) - 0.95
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.85
    if shape == "triangle":
        return np.maximum(y - 0.75, 0.866 * np.abs(x) - 0.5 * y - 0.5)
    if shape == "cross":
        wide, narrow = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
        return np.maximum(wide - 1.0, narrow - 0.28)
    raise ValueError(f"unknown shape {shape!r}; the tiny world has {', '.join(SHAPES)}")
