"""Decoding the frames at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpo_plugin.errors import VideoError
from tpo_plugin.video.probe import REASONS, open_video

SEEK_SECONDS = 8.0  # a gap longer than this is jumped over; shorter ones are decoded through
SLACK_SECONDS = 1.0  # declared lengths are often rounded up; more than this missing means a cut file


def read_frames(path: str | Path, times: Sequence[float], max_side: int | None = None) -> np.ndarray:
    """The frames shown at `times` (ascending seconds from the start of the video), as uint8 (len(times), H, W, 3) RGB.

    A frame is shown from its own time until the next one's, so variable frame rates need no special care. Sides longer than
    `max_side` pixels are reduced, the shape kept. Raises VideoError (also: truncated, corrupt).
    """
    import av

    if list(times) != sorted(times):
        raise ValueError("times must ascend")
    with open_video(Path(path)) as (container, stream):
        try:
            return np.stack([_rgb(frame, max_side) for frame in _frames_at(container, stream, times, str(path))])
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("corrupt", f"{path}: {REASONS['corrupt']} ({error})") from None


def _frames_at(container: Any, stream: Any, times: Sequence[float], path: str) -> Iterator[Any]:
    origin = float((stream.start_time or 0) * stream.time_base)
    frames = container.decode(stream)
    shown, following = None, next(frames, None)
    for time in times:
        wanted = time + origin
        position = following.time if following is not None else None
        if position is not None and wanted - position > SEEK_SECONDS:
            container.seek(int(wanted / stream.time_base), stream=stream, backward=True)
            frames = container.decode(stream)
            shown, following = None, next(frames, None)
        while following is not None and (shown is None or following.time <= wanted + 1e-6):
            shown, following = following, next(frames, None)
        if shown is None:
            raise VideoError("no_frames", f"{path}: {REASONS['no_frames']}")
        if following is None and wanted - shown.time > _length(shown, stream) + SLACK_SECONDS:
            raise VideoError(
                "truncated",
                f"{path}: {REASONS['truncated']} (last frame at {shown.time - origin:.2f} s, {time:.2f} s wanted)",
            )
        yield shown


def _length(frame: Any, stream: Any) -> float:
    """How long the last frame is shown: by its own word, else one frame of the average rate."""
    if getattr(frame, "duration", None):
        return float(frame.duration * frame.time_base)
    return 1.0 / float(stream.average_rate or 1)


def _rgb(frame: Any, max_side: int | None) -> np.ndarray:
    longest = max(frame.width, frame.height)
    if max_side and longest > max_side:
        scale = max_side / longest
        frame = frame.reformat(width=max(2, round(frame.width * scale)), height=max(2, round(frame.height * scale)))
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    return picture
