"""Which frames stand for a shot: sharp ones near fixed places (TEMPLE: two, near 1/3 and 2/3)."""

from __future__ import annotations

import numpy as np


def sharpness(grey: np.ndarray) -> float:
    """Mean absolute Laplacian of a grey picture, uint8 (H, W): high where edges are not blurred; 0 under 3 pixels.

    The picture should have about the size that the model sees: blur that is lost there is no flaw. TEMPLE's released
    code measures the same at full size after a 3 x 3 Gaussian; here the reduction to `shots.side` pixels does what that
    is for.
    """
    if min(grey.shape) < 3:
        return 0.0
    values = grey.astype(np.int16)
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * values[1:-1, 1:-1]
    return float(np.abs(laplacian).mean())


def keyframes(times: np.ndarray, sharp: np.ndarray, start: float, end: float, count: int) -> tuple[float, ...]:
    """`count` of the `times` (ascending seconds) between `start` and `end`, one near each i / (count + 1) of the way.

    Around each of these anchors lies a window as long as the distance between them; the frame with the highest
    sharpness counts there, weighted by a half cosine wave that is 1 at the anchor and 0 at the window's ends (as in
    TEMPLE's released code). A window without frames, or whose frames are all of one even colour, gives the frame that
    is shown at its anchor; so a span always gives `count` times, and a very short one may give a time twice.
    """
    interval = (end - start) / (count + 1)
    return tuple(_sharpest(times, sharp, start + interval * number, interval) for number in range(1, count + 1))


def _sharpest(times: np.ndarray, sharp: np.ndarray, anchor: float, width: float) -> float:
    first, last = np.searchsorted(times, [anchor - width / 2, anchor + width / 2])
    score = sharp[first:last] * np.cos(np.pi * (times[first:last] - anchor) / width)
    if len(score) and score.max() > 0:
        return float(times[first + int(score.argmax())])
    return float(times[max(0, int(np.searchsorted(times, anchor + 1e-6, side="right")) - 1)])
