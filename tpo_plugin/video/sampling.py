"""Which moments of a video a model sees. Curation, training and evaluation all sample here, so they see the same frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpo_plugin.options import FrameOptions

Spans = Sequence[tuple[float, float]]


def sample_times(spans: Spans, options: FrameOptions) -> tuple[float, ...]:
    """Times (seconds) of the frames to show of these spans, as if they were one video without the gaps.

    `options.fps` frames for each second, at least 1 and at most `options.max`, in the middle of equal parts.
    """
    return spread(spans, frame_count(spans, options))


def frame_count(spans: Spans, options: FrameOptions) -> int:
    """How many frames `sample_times` gives."""
    seconds = sum(end - start for start, end in spans)
    return max(1, min(options.max, int(seconds * options.fps + 0.5)))


def spread(spans: Spans, count: int) -> tuple[float, ...]:
    """`count` times in the middle of `count` equal parts of the spans laid end to end."""
    lengths = np.array([end - start for start, end in spans])
    ends = np.cumsum(lengths)
    if not len(lengths) or ends[-1] <= 0:
        raise ValueError(f"no time to sample frames from in {list(spans)}")
    wanted = (np.arange(count) + 0.5) * ends[-1] / count
    which = np.minimum(np.searchsorted(ends, wanted, side="right"), len(lengths) - 1)
    starts = np.array([start for start, _ in spans])
    times = starts[which] + wanted - (ends - lengths)[which]
    return tuple(round(float(time), 4) for time in times)


def time_instruction(seconds: float, times: Sequence[float]) -> str:
    """The sentence that tells the model the video's length and its frames' times (the wording of LLaVA-Video's SFT)."""
    moments = ",".join(f"{time:.2f}s" for time in times)
    return (
        f"The video lasts for {seconds:.2f} seconds, and {len(times)} frames are uniformly sampled from it. "
        f"These frames are located at {moments}.Please answer the following questions related to this video.\n"
    )
