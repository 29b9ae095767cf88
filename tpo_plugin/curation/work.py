"""What the stages work with, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tpo_plugin.curation.given import Given
from tpo_plugin.curation.lazy import LazyEncoder
from tpo_plugin.curation.sources import Source
from tpo_plugin.generators import Generator
from tpo_plugin.llm import REJECTED, ChatClient
from tpo_plugin.options import CurateRecipe, FrameOptions
from tpo_plugin.records import Query, Video
from tpo_plugin.video.isolated import IsolatedDecoder

# Reasons that may be the machine's or the server's fault, not the video's: the next run tries again.
PASSING = ("decoder_timeout", "decoder_crash", REJECTED)


class Frames:
    """The frames of one video, decoded in one pass for all its stages and kept. `planned` are the times they will ask for."""

    def __init__(self, decoder: IsolatedDecoder, path: Path, planned: set[float], options: FrameOptions) -> None:
        self._decoder, self._path, self._planned, self._options = decoder, path, planned, options
        self._pictures: dict[float, np.ndarray] = {}

    async def at(self, times: Sequence[float]) -> np.ndarray:
        """uint8 (len(times), H, W, 3); times that were not planned (a third-party perturbation's) cost a second pass."""
        missing = sorted((self._planned | set(times)) - self._pictures.keys())
        if missing:
            options = self._options
            pictures = await self._decoder.read_frames(self._path, missing, options.max_side, options.max_pixels)
            self._pictures.update(zip(missing, pictures))
        return np.stack([self._pictures[time] for time in times])


@dataclass
class Tools:
    """What the stages work with; a generator that the recipe does not need is None.

    `given`: queries from an earlier curation, by video id.
    """

    recipe: CurateRecipe
    root: Path
    decoder: IsolatedDecoder
    llm: ChatClient
    encoder: LazyEncoder
    captioner: Generator | None
    responder: Generator | None
    given: Mapping[str, Given] = field(default_factory=dict)


@dataclass
class Work:
    """One video on its way through the stages; each adds what those after it need. `cut` is plain JSON, which the method reads."""

    source: Source
    video: Video
    cut: Any = None
    frames: Frames = field(init=False)
    captions: dict[str, str] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A stage's result for one video as plain JSON, how many records it `left` over, and the reason of each it dropped."""

    value: Any
    left: int = 1
    dropped: tuple[str, ...] = ()
