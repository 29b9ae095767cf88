"""Values of a recipe that have the right type and still make no sense: what the commands check alike."""

from __future__ import annotations

from tpo_plugin.errors import RecipeError
from tpo_plugin.options import FrameOptions


def at_least(path: str, value: float | None, least: float) -> None:
    """RecipeError unless the recipe's value at `path` is `least` or more (or is not given)."""
    if value is not None and not value >= least:
        raise RecipeError(f"`{path}` must be {least} or more, it is {value}")


def positive(path: str, value: float) -> None:
    """RecipeError unless the recipe's value at `path` is over 0."""
    if not value > 0:
        raise RecipeError(f"`{path}` must be over 0, it is {value}")


def checkpoint_named(path: str, value: str) -> None:
    """RecipeError if the recipe names no checkpoint at `path`."""
    if not value.strip():
        raise RecipeError(f"`{path}` is empty: name a checkpoint, by its folder or its name on the hub")


def check_frames(frames: FrameOptions) -> None:
    """RecipeError for frames that could not be sampled as the recipe says."""
    positive("frames.fps", frames.fps)
    at_least("frames.max", frames.max, 1)
    at_least("frames.max_side", frames.max_side, 16)
    at_least("frames.max_pixels", frames.max_pixels, 256)
