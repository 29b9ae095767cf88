"""Opening a video file and taking its frames in the order of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpo_plugin.errors import VideoError

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov")
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
    "name_not_utf8": "the file name is not UTF-8",
}
SLACK_SECONDS = 1.0  # declared lengths are often rounded up; more than this missing means a cut file


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


def is_timeless(container: Any) -> bool:
    """Whether the container stores no presentation times (AVI): what FFmpeg makes up for them is wrong with B-frames."""
    return bool(container.format.name == "avi")


def timed_frames(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """The frames from the container's place on, each with its time in seconds on the stream's clock.

    In a timeless container the n-th frame of the file, in the order of display, has the time of its n-th packet. After a seek this
    fails: a decoder may leave out the frames that need one before the key frame.
    """
    timeless, packet_times = is_timeless(container), deque[int]()
    for packet in container.demux(stream):
        if packet.size:
            packet_times.append(packet.dts)
        for frame in packet.decode():
            stamp = packet_times.popleft() if timeless else frame.pts
            if stamp is None:
                raise ValueError("frames without times")
            yield float(stamp * stream.time_base), frame


def quarter_turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that a player makes with the decoded picture: phones record video lying on its side."""
    return round(frame.rotation / 90) % 4
