"""Decoding the frames at given times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpo_plugin.errors import VideoError
from tpo_plugin.video.container import REASONS, SLACK_SECONDS, is_timeless, open_video, quarter_turns, timed_frames

SEEK_SECONDS = 8.0  # a gap longer than this is jumped over; shorter ones are decoded through


def read_frames(
    path: str | Path, times: Sequence[float], max_side: int | None = None, max_pixels: int | None = None
) -> np.ndarray:
    """The frames shown at `times` (ascending seconds from the first frame on), as uint8 (len(times), H, W, 3) RGB.

    A frame is shown from its own time until the next one's, so variable frame rates need no special care. Pictures stand upright
    as in a player; sides longer than `max_side` pixels and areas over `max_pixels` are reduced, the shape kept. Raises VideoError (also:
    truncated, corrupt).
    """
    import av

    if list(times) != sorted(times):
        raise ValueError("times must ascend")
    with open_video(Path(path)) as (container, stream):
        try:
            shown = _frames_at(container, stream, times, str(path))
            return np.stack([_rgb(frame, max_side, max_pixels) for frame in shown])
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("corrupt", f"{path}: {REASONS['corrupt']} ({error})") from None


def stream_frames(path: str | Path, max_side: int) -> Iterator[tuple[float, np.ndarray]]:
    """Every frame in the order of time, one at a time: seconds from the first frame on, and the picture as `read_frames` gives it.

    Raises VideoError (no_frames, corrupt) where it happens; a missing end is `probe`'s to find.
    """
    import av

    with open_video(Path(path)) as (container, stream):
        origin = None
        try:
            for time, frame in timed_frames(container, stream):
                origin = time if origin is None else origin
                yield time - origin, _rgb(frame, max_side)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("corrupt", f"{path}: {REASONS['corrupt']} ({error})") from None
        if origin is None:
            raise VideoError("no_frames", f"{path}: {REASONS['no_frames']}")


def _frames_at(container: Any, stream: Any, times: Sequence[float], path: str) -> Iterator[Any]:
    reader = _Reader(container, stream)
    for time in times:
        if reader.following is None and reader.shown is None:
            raise VideoError("no_frames", f"{path}: {REASONS['no_frames']}")
        shown_at, frame = reader.at(reader.origin + time)
        if reader.following is None and reader.origin + time - shown_at > _length(frame, stream) + SLACK_SECONDS:
            raise VideoError(
                "truncated",
                f"{path}: {REASONS['truncated']} (last frame at {shown_at - reader.origin:.2f} s, {time:.2f} s wanted)",
            )
        yield frame


class _Reader:
    """A place in a video: the frame `shown` there and the one `following` it, each with its time on the stream's clock."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._frames = timed_frames(container, stream)
        self._may_seek = not is_timeless(container)
        self.shown: tuple[float, Any] | None = None
        self.following = next(self._frames, None)
        self.origin = self.following[0] if self.following else 0.0

    def at(self, wanted: float) -> tuple[float, Any]:
        """The frame shown at `wanted`, which must not lie before the last call's."""
        if self._may_seek and self.following and wanted - self.following[0] > SEEK_SECONDS:
            self._seek(wanted)
        while self.following and (self.shown is None or self.following[0] <= wanted + 1e-6):
            self.shown, self.following = self.following, next(self._frames, None)
        assert self.shown is not None
        return self.shown

    def _seek(self, wanted: float) -> None:
        """Go to the key frame before `wanted`. Where the file's index is no help (too few key frames, wrong places): no more seeks."""
        assert self.following is not None
        before = self.following[0]
        self._jump(wanted)
        if self.following is None or self.following[0] > wanted:
            self._jump(self.origin)
        self._may_seek = self.following is not None and self.following[0] > before

    def _jump(self, place: float) -> None:
        self._container.seek(int(place / self._stream.time_base), stream=self._stream, backward=True)
        self._frames = timed_frames(self._container, self._stream)
        self.shown, self.following = None, next(self._frames, None)


def _length(frame: Any, stream: Any) -> float:
    """How long the last frame is shown: by its own word, else one frame of the average rate."""
    if getattr(frame, "duration", None):
        return float(frame.duration * frame.time_base)
    return 1.0 / float(stream.average_rate or 1)


def reduced_size(width: int, height: int, max_side: int | None, max_pixels: int | None) -> tuple[int, int]:
    """Width and height after reduction to `max_side` pixels a side and to `max_pixels` in all, from 2 pixels a side on."""
    if max_side and max(width, height) > max_side:
        scale = max_side / max(width, height)
        width, height = max(2, round(width * scale)), max(2, round(height * scale))
    if max_pixels and width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height)) + 1e-12  # 1080 * (225 / 1080) may be 224.99...
        width, height = max(2, int(width * scale)), max(2, int(height * scale))
    return width, height


def _rgb(frame: Any, max_side: int | None, max_pixels: int | None = None) -> np.ndarray:
    size = reduced_size(frame.width, frame.height, max_side, max_pixels)
    if size != (frame.width, frame.height):
        frame = frame.reformat(width=size[0], height=size[1])
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, quarter_turns(frame)))
