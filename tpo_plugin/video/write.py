"""Writing H.264 files."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> None:
    """Write uint8 (H, W, 3) RGB frames (even H and W) as H.264 in the container that the file name asks for."""
    import av

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    pictures = iter(frames)
    first = next(pictures)
    with av.open(f"file:{target.resolve()}", "w") as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1000),
            width=first.shape[1],
            height=first.shape[0],
            pix_fmt="yuv420p",
            options={"crf": str(crf), "preset": "ultrafast"},
        )
        for picture in chain([first], pictures):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
