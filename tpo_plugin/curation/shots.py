"""TEMPLE's first step (arXiv 2503.16929, its data section): videos cut into shots, and which of them are used.

The video is decoded once, one small frame at a time; kept are a few numbers a frame. The rules are the paper's: of
LLaVA-Video-178K's 47,112 videos of 1-3 minutes 10,915 are left after `choose_shots` and 2,195 after
`shot_groups.choose_groups`. A video that is not used has exactly one reason, that of the first rule which it breaks.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tpo_plugin.checks import at_least, checkpoint_named, positive
from tpo_plugin.curation.keyframes import sharpness
from tpo_plugin.curation.shot_detectors import BUILT_IN, build_detector
from tpo_plugin.errors import RecipeError, VideoError
from tpo_plugin.options import ShotOptions
from tpo_plugin.plugins import find
from tpo_plugin.records import Span
from tpo_plugin.video import probe, stream_frames

SHOT_REASONS = {
    "too_few_shots": "too few shots are left",
    "too_many_shots": "too many shots are left",
    "long_shot": "a shot is too long",
}


@dataclass(frozen=True)
class Shot:
    """A time span between two cuts, in seconds from the video's first frame on."""

    start: float
    end: float

    @property
    def span(self) -> Span:
        return (self.start, self.end)

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Scan:
    """One pass over a video: its shots, and of each of its T frames the time (seconds), the darkest and the brightest
    grey value (0-255) and the sharpness; `detector` is the detector's settings."""

    shots: tuple[Shot, ...]
    times: np.ndarray
    darkest: np.ndarray
    brightest: np.ndarray
    sharpness: np.ndarray
    detector: dict[str, Any]

    def frames_of(self, shot: Shot) -> slice:
        """The frames that are shown from the shot's start to its end."""
        first, end = np.searchsorted(self.times, [shot.start - 1e-6, shot.end - 1e-6])
        return slice(int(first), int(end))

    def has_frames(self, shot: Shot) -> bool:
        """Whether it has any; a last frame that is shown for no time gives a shot that has none."""
        frames = self.frames_of(shot)
        return frames.start < frames.stop

    def grey_range(self, shot: Shot) -> int:
        """How far the darkest and the brightest grey value in all of the shot lie apart."""
        frames = self.frames_of(shot)
        if not self.has_frames(shot):
            return 0
        return int(self.brightest[frames].max()) - int(self.darkest[frames].min())


def check_options(options: ShotOptions) -> None:
    """RecipeError names the first value that makes no sense."""
    checkpoint_named("shots.encoder", options.encoder)
    find(options.detector, BUILT_IN, "shot detector")
    for name in ("min_shots", "min_groups", "keyframes", "max_recurrence", "batch_size"):
        at_least(f"shots.{name}", getattr(options, name), 1)
    at_least("shots.side", options.side, 32)
    positive("shots.max_seconds", options.max_seconds)
    positive("shots.max_recurrence_share", options.max_recurrence_share)
    at_least("shots.min_seconds", options.min_seconds, 0)
    at_least("shots.min_grey_range", options.min_grey_range, 0)
    at_least("shots.hue_weight", options.hue_weight, 0)
    at_least("shots.threshold", options.threshold, 0)
    if options.detector == "transnetv2" and options.threshold is not None and options.threshold >= 1:
        raise RecipeError(
            f"`shots.threshold` of transnetv2 is a probability, under 1, it is {options.threshold:g}: leave it out or set it to null"
        )
    for low, high in (("min_shots", "max_shots"), ("min_groups", "max_groups"), ("min_seconds", "max_seconds")):
        least, most = getattr(options, low), getattr(options, high)
        if least > most:
            raise RecipeError(f"`shots.{low}` ({least:g}) is over `shots.{high}` ({most:g})")
    if not -1 <= options.similarity <= 1:
        raise RecipeError(f"`shots.similarity` is a cosine, between -1 and 1; it is {options.similarity}")


def scan_video(path: str | Path, options: ShotOptions) -> Scan:
    """Decode the whole video once and find its shots, none left out yet.

    Raises VideoError as `video.probe` and `video.stream_frames` do.

    A shot lasts from its first frame until the frame after its last one is shown, so variable frame rates need no
    special care.
    """
    seconds, detector = probe(path).seconds, build_detector(options)
    times, sharp = array("d"), array("f")
    darkest, brightest = array("B"), array("B")
    size = None
    for time, frame in stream_frames(path, options.side):
        size = size or frame.shape[1::-1]
        picture = frame if frame.shape[1::-1] == size else np.asarray(Image.fromarray(frame).resize(size))
        grey = np.asarray(Image.fromarray(picture).convert("L"))
        detector.push(time, picture)
        times.append(time)
        darkest.append(int(grey.min()))
        brightest.append(int(grey.max()))
        sharp.append(sharpness(grey))
    edges = [*times, max(seconds, times[-1])]
    shots = tuple(Shot(round(edges[first], 6), round(edges[end], 6)) for first, end in detector.finish())
    levels = np.asarray(darkest), np.asarray(brightest)
    return Scan(shots, np.asarray(times), *levels, np.asarray(sharp), detector.settings)


def choose_shots(scan: Scan, options: ShotOptions) -> list[Shot]:
    """The shots that are long enough and show something (a frame at least), where the video is one to use.

    VideoError (`SHOT_REASONS`) where their number or the length of one rules the video out.
    """
    long_enough = [shot for shot in scan.shots if shot.end - shot.start >= options.min_seconds - 1e-6]
    kept = [shot for shot in long_enough if scan.has_frames(shot) and scan.grey_range(shot) >= options.min_grey_range]
    count, found = len(kept), len(scan.shots)
    gone = f"{found} found, {found - len(long_enough)} too short, {len(long_enough) - count} of one colour"
    if count < options.min_shots:
        raise _unused("too_few_shots", f"{count} of them ({gone}); shots.min_shots is {options.min_shots}")
    if count > options.max_shots:
        raise _unused("too_many_shots", f"{count} of them ({gone}); shots.max_shots is {options.max_shots}")
    longest = max(kept, key=lambda shot: shot.end - shot.start)
    if longest.end - longest.start > options.max_seconds + 1e-6:
        length = longest.end - longest.start
        text = f"{length:.2f} s at {longest.start:.2f} s; shots.max_seconds is {options.max_seconds:g}"
        raise _unused("long_shot", text)
    return kept


def _unused(reason: str, text: str) -> VideoError:
    return VideoError(reason, f"{SHOT_REASONS[reason]}: {text}")
