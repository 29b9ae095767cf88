"""What a video file is: length, frame rate, size, and whether a picture can be decoded from it at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tpo_plugin.errors import VideoError

REASONS = {
    "missing_file": "no such file",
    "empty_file": "the file has zero bytes",
    "unreadable": "not a video that FFmpeg can read",
    "no_video_stream": "it has no video stream (audio only?)",
    "no_frames": "no frame can be decoded",
    "truncated": "it ends before its declared length",
    "corrupt": "decoding fails in the middle",
    "decoder_timeout": "the decoder did not finish in time",
    "decoder_crash": "the decoder process died",
    "too_short": "shorter than the shortest segment of the recipe",
}


@dataclass(frozen=True)
class VideoInfo:
    """Length in seconds, average frames a second, displayed size in pixels."""

    seconds: float
    fps: float
    width: int
    height: int


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """The PyAV container and its first video stream; VideoError for anything that is not a video."""
    import av

    name = Path(path)
    if not name.is_file():
        raise VideoError("missing_file", f"{path}: {REASONS['missing_file']}")
    if name.stat().st_size == 0:
        raise VideoError("empty_file", f"{path}: {REASONS['empty_file']}")
    try:
        # A `file:` address keeps FFmpeg from reading protocols or options into odd file names.
        container = av.open(f"file:{name.resolve()}")
    except (av.FFmpegError, ValueError) as error:
        raise VideoError("unreadable", f"{path}: {REASONS['unreadable']} ({error})") from None
    with container:
        if not container.streams.video:
            raise VideoError("no_video_stream", f"{path}: {REASONS['no_video_stream']}")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def probe(path: str | Path) -> VideoInfo:
    """Read the headers and decode the first frame.

    Raises VideoError (reasons missing_file, empty_file, unreadable, no_video_stream, no_frames).
    """
    import av

    with open_video(Path(path)) as (container, stream):
        try:
            first = next(container.decode(stream), None)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("no_frames", f"{path}: {REASONS['no_frames']} ({error})") from None
        if first is None:
            raise VideoError("no_frames", f"{path}: {REASONS['no_frames']}")
        rate = float(stream.average_rate or stream.guessed_rate or Fraction(1))
        seconds = _declared_seconds(container, stream) or _counted_seconds(container, stream, rate)
        return VideoInfo(seconds, rate, first.width, first.height)


def _declared_seconds(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _counted_seconds(container: Any, stream: Any, rate: float) -> float:
    """Length of a file without one in its headers (a live recording): the last packet's time."""
    container.seek(0)
    last = max((packet.pts for packet in container.demux(stream) if packet.pts is not None), default=0)
    return float((last - (stream.start_time or 0)) * stream.time_base) + 1 / rate
