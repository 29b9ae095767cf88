"""Probing, decoding, sampling and writing videos: the only place that knows a decoder.

Raises `VideoError` with one of the reasons in `REASONS` for a video that cannot be used.
"""

from tpo_plugin.video.container import REASONS, SUFFIXES
from tpo_plugin.video.decode import read_frames, stream_frames
from tpo_plugin.video.probe import VideoInfo, probe
from tpo_plugin.video.sampling import sample_times, spread, time_instruction
from tpo_plugin.video.write import write_video

__all__ = [
    "REASONS",
    "SUFFIXES",
    "VideoInfo",
    "probe",
    "read_frames",
    "sample_times",
    "spread",
    "stream_frames",
    "time_instruction",
    "write_video",
]
