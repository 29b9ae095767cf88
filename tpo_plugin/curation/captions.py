"""Captions of the frames that queries are written from."""

from __future__ import annotations

import numpy as np

from tpo_plugin.curation.templates import template
from tpo_plugin.generators import Prompt
from tpo_plugin.options import FrameOptions
from tpo_plugin.records import Segment, Video
from tpo_plugin.video import sample_times

CaptionCall = tuple[str, tuple[float, ...]]  # whose captions it adds to (a segment's id, or WHOLE), times of its frames
WHOLE = "whole"  # the key of the whole video's captions beside the segments' ids


def clips_to_caption(video: Video, segments: list[Segment], frames: FrameOptions, per_call: int) -> list[CaptionCall]:
    """The calls that caption the whole video and each segment, `per_call` frames each."""
    spans = [(WHOLE, (0.0, video.seconds)), *((segment.id, segment.span) for segment in segments)]
    calls = []
    for owner, span in spans:
        times = sample_times([span], frames)
        calls += [(owner, times[start : start + per_call]) for start in range(0, len(times), per_call)]
    return calls


def caption_prompt(frames: np.ndarray, times: tuple[float, ...], fps: float) -> Prompt:
    """Ask for a description of these frames."""
    return Prompt(frames, times, len(times) / fps, template("caption"))


def join_captions(calls: list[CaptionCall], texts: list[str]) -> dict[str, str]:
    """The captions of each owner as lines with their times; '' for an owner with an empty caption among them."""
    lines: dict[str, list[str]] = {}
    failed = {owner for (owner, _), text in zip(calls, texts) if not text}
    for (owner, times), text in zip(calls, texts):
        lines.setdefault(owner, []).append(f"[{times[0]:.1f} s] {' '.join(text.split())}")
    return {owner: "" if owner in failed else "\n".join(rows) for owner, rows in lines.items()}
