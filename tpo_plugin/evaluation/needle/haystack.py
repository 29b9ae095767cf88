"""The frames in which a needle is hidden, and the needle in their size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.needle.grid import Key
from tpo_plugin.evaluation.needle.needles import Needle
from tpo_plugin.options import NeedleGrid
from tpo_plugin.video import SUFFIXES, probe, read_frames


@dataclass(frozen=True, eq=False)
class Scenery:
    """All pictures that a grid shows, in one size: `haystack` is uint8 (N, H, W, 3) RGB, `needles` holds (H, W, 3) by id.

    `sources` says of each video how many frames it gave, in their order; `max_pixels` is the limit that all were reduced to, if any.
    """

    haystack: np.ndarray
    needles: dict[str, np.ndarray]
    sources: list[tuple[str, int]]
    max_pixels: int | None = None

    def pictures(self, keys: Sequence[Key]) -> np.ndarray:
        """The frames of these keys, uint8 (len(keys), H, W, 3)."""
        return np.stack([self.haystack[key] if isinstance(key, int) else self.needles[key] for key in keys])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.haystack.shape[2]), int(self.haystack.shape[1])

    @cached_property
    def _digests(self) -> list[str]:
        size = (*self.size, self.max_pixels) if self.max_pixels else self.size
        digest, found = hashlib.blake2b(repr(size).encode(), digest_size=8), []
        for frame in self.haystack:
            digest.update(frame.tobytes())
            found.append(digest.hexdigest())
        return found

    def digest(self, frames: int) -> str:
        """16 hex digits of the first `frames` frames of the haystack."""
        return self._digests[frames - 1]

    def needle_digest(self, needle: str) -> str:
        """16 hex digits of a needle as it is shown."""
        return hashlib.blake2b(self.needles[needle].tobytes(), digest_size=8).hexdigest()


def read_scenery(grid: NeedleGrid, needles: Sequence[Needle], root: Path = Path()) -> Scenery:
    """Decode as much of the haystack as the largest number of frames takes and bring all needles to its size.

    Paths are relative to `root`. EvaluationError where the videos are too short, VideoError for one that cannot be read.
    """
    frames, sources = _join(grid, videos(grid.haystack, root))
    size = (frames.shape[2], frames.shape[1])
    shown = {needle.id: fitted(needle.picture, size, grid.fit, grid.bars) for needle in needles}
    return Scenery(frames, shown, sources, grid.max_pixels)


def videos(haystack: str | list[str], root: Path = Path()) -> list[Path]:
    """The videos of a haystack: files as they are named, those of a folder in the order of their names."""
    found: list[Path] = []
    for name in [haystack] if isinstance(haystack, str) else haystack:
        path = root / name
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise EvaluationError(f"`haystack`: {path} holds no video ({', '.join(SUFFIXES)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise EvaluationError(f"`haystack`: no video or folder {path}")
    return found


def _join(grid: NeedleGrid, files: Sequence[Path]) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """`max(grid.frames)` frames, `grid.fps` a second from each video's first on, all in the first video's size."""
    wanted, have, side = max(grid.frames), 0, grid.max_side
    if grid.fit == "square" and grid.max_pixels:  # the bars count too
        side = min(side, math.isqrt(grid.max_pixels))
    sources: list[tuple[str, int]] = []
    frames: np.ndarray | None = None
    for file in files:
        times = [index / grid.fps for index in range(max(1, int(probe(file).seconds * grid.fps + 1e-6)))]
        part = read_frames(file, times[: wanted - have], side, grid.max_pixels)
        if frames is None:
            height, width = part.shape[1:3]
            size = (max(height, width),) * 2 if grid.fit == "square" else (width, height)
            frames = np.empty((wanted, size[1], size[0], 3), np.uint8)
        for picture in part:
            frames[have] = fitted(picture, size, grid.fit, grid.bars)
            have += 1
        sources.append((str(file), len(part)))
        if have == wanted:
            return frames, sources
    raise EvaluationError(
        f"the haystack has {have} frames at {grid.fps:g} a second, {wanted} are wanted: name more or longer videos in "
        "`haystack`, raise `fps`, or take smaller numbers in `frames`"
    )


def fitted(picture: np.ndarray, size: tuple[int, int], fit: str, bars: Sequence[int]) -> np.ndarray:
    """The picture (H, W, 3) in `size` (width, height): stretched (`resize`), or whole between bars of this colour."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    image = Image.fromarray(picture)
    if fit == "resize":
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, min(size[0], round(width * scale))), max(1, min(size[1], round(height * scale))))
    whole = Image.new("RGB", size, tuple(bars))
    place = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    whole.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
    return np.asarray(whole)


def described(grid: NeedleGrid, scenery: Scenery, needles: Sequence[Needle]) -> dict[str, Any]:
    """What of haystack and needles can change a number."""
    return {
        "fps": grid.fps,
        "fit": grid.fit,
        "bars": list(grid.bars),
        "max_side": grid.max_side,
        **({} if grid.max_pixels is None else {"max_pixels": grid.max_pixels}),
        "haystack": {
            "videos": [{"name": Path(path).name, "frames": count} for path, count in scenery.sources],
            "size": list(scenery.size),
            "digest": scenery.digest(len(scenery.haystack)),
        },
        "needles": [
            {
                "id": needle.id,
                "name": needle.name,
                "question": needle.question,
                "answer": needle.answer,
                "shown": scenery.needle_digest(needle.id),
            }
            for needle in needles
        ],
    }
