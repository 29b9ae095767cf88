"""The grid's cells, and which frame stands where in each."""

from __future__ import annotations

from dataclasses import dataclass

from tpo_plugin.checks import at_least, positive
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import NeedleGrid

# Which picture a frame is: a number for a frame of the haystack, a name for a needle.
Key = int | str


@dataclass(frozen=True, order=True)
class Cell:
    """`frames` frames of the haystack with a needle at `depth` (0 ... 1)."""

    frames: int
    depth: float

    def position(self, needle_frames: int = 1) -> int:
        """How many haystack frames come before the needle: int(depth * frames) as in V-NIAH, down to a multiple of `needle_frames`."""
        # Without the small number 0.29 * 100 would be 28.
        return int(self.depth * self.frames + 1e-9) // needle_frames * needle_frames

    def order(self, needle: str, needle_frames: int = 1) -> tuple[Key, ...]:
        """The frames from first to last: frames + needle_frames of them."""
        place = self.position(needle_frames)
        return (*range(place), *(needle,) * needle_frames, *range(place, self.frames))


def cells(grid: NeedleGrid) -> list[Cell]:
    """All cells, short ones first."""
    return sorted({Cell(frames, float(depth)) for frames in grid.frames for depth in grid.depths})


def check_grid(grid: NeedleGrid) -> None:
    """RecipeError for a grid that could not be shown."""
    if not grid.frames or not grid.depths:
        raise RecipeError("a needle grid needs at least one number in `frames` and one in `depths`")
    if not grid.needles or not grid.haystack:
        raise RecipeError("`needles` names the pictures, `haystack` one or more videos: neither may be empty")
    for frames in grid.frames:
        at_least("frames", frames, 1)
    for depth in grid.depths:
        if not 0 <= depth <= 1:
            raise RecipeError(f"`depths` are shares of the haystack from 0 to 1, not {depth}")
    if len(grid.bars) != 3 or not all(0 <= value <= 255 for value in grid.bars):
        raise RecipeError(f"`bars` is a colour, three numbers from 0 to 255, not {grid.bars}")
    positive("fps", grid.fps)
    at_least("max_side", grid.max_side, 16)
    at_least("max_pixels", grid.max_pixels, 256)
    at_least("needle_frames", grid.needle_frames, 1)
