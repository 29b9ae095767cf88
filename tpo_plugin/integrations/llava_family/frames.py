"""Which frames of a video a training row shows, read with the script's own decoder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.video import REASONS

FOLDER_FRAMES, FOLDER_FPS = 10, 2.0  # upstream's numbers for a video kept as a folder of frames (LLaVA-Hound's data)


@dataclass(frozen=True)
class Sampling:
    """`fps` frames a second, at most `most` of them (0: all), or `most` of every video with `always`. TPOError for a wrong value."""

    fps: float
    most: int
    always: bool = False

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise TPOError(f"--video_fps must be above 0, it is {self.fps}")
        if self.always and self.most <= 0:
            raise TPOError("--tpo_force_sample needs the number of frames: set --frames_upbound")


@dataclass(frozen=True)
class Clip:
    """Sampled frames, uint8 (frames, H, W, 3) RGB or a list of PIL pictures, their times and the video's length in seconds."""

    frames: Any
    seconds: float
    times: Sequence[float]


def frame_indices(total: int, fps: float, sampling: Sampling) -> list[int]:
    """The frames to show of `total` frames at `fps` frames a second.

    Every round(fps / sampling.fps)-th; if these are more than `most`, or with `always`, `most` from first to last at equal distances
    (train_dpo.py:1115-1120, llava/utils.py:29-37). The step is at least 1, where upstream's 0 for less than half the wanted rate raises.
    """
    indices = list(range(0, total, max(1, round(fps / sampling.fps))))
    if 0 < sampling.most < len(indices) or sampling.always:
        indices = _equally(total, sampling.most)
    return indices


def read_clip(path: str, reader: Callable[[str], Any], sampling: Sampling) -> Clip:
    """The frames of a video file, opened by `reader` (decord's interface), or of a folder of frames, in the order of their names.

    Raises VideoError for one that cannot be read. Times are index / frame rate of the file; upstream's SFT divides the
    indices of its every-n-th frames by n instead (llava/utils.py:31), which is right only for one frame a second.
    """
    if os.path.isdir(path):
        return _read_folder(path, sampling)
    try:
        video = reader(path)
        total, fps = len(video), float(video.get_avg_fps())
        if not fps > 0:
            raise VideoError("corrupt", f"{path}: {REASONS['corrupt']} (its frame rate is {fps})")
        indices = frame_indices(total, fps, sampling)
        frames = video.get_batch(indices).asnumpy()
    except decoder_errors() as error:
        raise VideoError("corrupt", f"{path}: the decoder fails ({type(error).__name__}: {error})") from None
    return Clip(frames, total / fps, [index / fps for index in indices])


def decoder_errors() -> tuple[type[Exception], ...]:
    """What decord raises for files that it cannot read. Its own errors have no common base but Exception."""
    errors: tuple[type[Exception], ...] = (OSError, RuntimeError, AssertionError, IndexError, StopIteration)
    if importlib.util.find_spec("decord") is not None:
        from decord import DECORDError, DECORDLimitReachedError

        errors += (DECORDError, DECORDLimitReachedError)
    return errors


def _read_folder(path: str, sampling: Sampling) -> Clip:
    from PIL import Image

    files = sorted(file for name in os.listdir(path) if os.path.isfile(file := os.path.join(path, name)))
    indices = _equally(len(files), sampling.most if sampling.always else FOLDER_FRAMES)
    try:
        frames = [Image.open(files[index]).convert("RGB") for index in indices]
    except (OSError, SyntaxError, IndexError) as error:  # SyntaxError: a broken PNG
        raise VideoError("corrupt", f"{path}: a frame cannot be read ({error})") from None
    return Clip(frames, len(files) / FOLDER_FPS, [index / FOLDER_FPS for index in indices])


def _equally(total: int, count: int) -> list[int]:
    indices: list[int] = np.linspace(0, total - 1, count, dtype=int).tolist()
    return indices
