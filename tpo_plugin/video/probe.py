"""What a video file is: length, frame rate, size, and whether it is there from its first frame to its last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import VideoError
from tpo_plugin.video.container import REASONS, SLACK_SECONDS, is_timeless, open_video, quarter_turns, timed_frames


@dataclass(frozen=True)
class VideoInfo:
    """Length in seconds, average frames a second, displayed size in pixels."""

    seconds: float
    fps: float
    width: int
    height: int


def probe(path: str | Path) -> VideoInfo:
    """Read the headers, decode the first frame and look for the last packet.

    Raises VideoError (reasons missing_file, empty_file, unreadable, no_video_stream, no_frames, truncated).
    """
    import av

    with open_video(Path(path)) as (container, stream):
        try:
            start, first = next(timed_frames(container, stream), (0.0, None))
            if first is None:
                raise VideoError("no_frames", f"{path}: {REASONS['no_frames']}")
            rate = float(stream.average_rate or stream.guessed_rate or 1)
            own, any_stream = _ends(container, stream, start)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("no_frames", f"{path}: {REASONS['no_frames']} ({error})") from None
        # Where only the container declares a length, it is that of its longest stream.
        declared, reached = _declared_seconds(container, stream), (own if stream.duration else any_stream) - start
        if declared - reached > SLACK_SECONDS:
            raise VideoError("truncated", f"{path}: {REASONS['truncated']} ({reached:.2f} s of {declared:.2f} s)")
        size = (first.width, first.height)
        return VideoInfo(
            round(max(own - start, 1 / rate), 6), rate, *(size[::-1] if quarter_turns(first) % 2 else size)
        )


def _declared_seconds(container: Any, stream: Any) -> float:
    """The length in the headers, 0 if there is none (a live recording)."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else 0.0


def _ends(container: Any, stream: Any, start: float) -> tuple[float, float]:
    """When the stream's last frame ends and when the last frame of any stream ends, in seconds on their clocks.

    Only packets are read: those after the last key frame or, where the file leads nowhere from there, all of them.
    """
    import av

    for place in (start + _declared_seconds(container, stream), start):
        try:
            container.seek(int(place / stream.time_base), stream=stream, backward=True)
        except av.FFmpegError:
            continue
        ends = {stream.index: start}
        for packet in container.demux():
            if packet.size:
                ends[packet.stream.index] = max(ends.get(packet.stream.index, start), _end(packet, container))
        if ends[stream.index] > start:
            break
    return ends[stream.index], max(ends.values())


def _end(packet: Any, container: Any) -> float:
    stamp = packet.dts if packet.pts is None or is_timeless(container) else packet.pts
    return float(((stamp or 0) + (packet.duration or 0)) * packet.time_base)
