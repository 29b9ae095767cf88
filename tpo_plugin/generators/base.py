"""What a generator is given and what it must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tpo_plugin.llm import ChatClient, Reply
from tpo_plugin.options import FrameOptions, GeneratorOptions
from tpo_plugin.video import time_instruction

if TYPE_CHECKING:
    from tpo_plugin.generators.in_process import InProcessGenerator


@dataclass(frozen=True)
class Prompt:
    """A clip and what to say about it.

    `frames` is uint8 (T, H, W, 3) RGB, `times` its T times in seconds, `seconds` the length of the video that they stand for.
    `sample` tells prompts apart that ask the same for different random replies. `max_pixels` is the limit that the frames were reduced
    to, if any: a processor that resizes by itself keeps to it. A prompt that shows nothing (see `text_prompt`) has no frames (T = 0).
    """

    frames: np.ndarray
    times: tuple[float, ...]
    seconds: float
    text: str
    sample: int = 0
    max_pixels: int | None = None


def text_prompt(text: str) -> Prompt:
    """A prompt of words alone."""
    return Prompt(np.empty((0, 1, 1, 3), np.uint8), (), 0.0, text)


def with_times(text: str, seconds: float, times: Sequence[float], frames: FrameOptions) -> str:
    """`text` as the model is asked it: after the time instruction (length and frame times in seconds) if `frames` wants one."""
    return time_instruction(seconds, times) + text if frames.time_instruction else text


class Generator(Protocol):
    """Writes one reply for each prompt, in their order. A reply's `problem` says why its text is missing or not complete.

    The same list of prompts gives the same replies (temperature 0), whatever was asked before.
    """

    name: str

    async def generate(self, prompts: Sequence[Prompt]) -> list[Reply]: ...


def build_generator(options: GeneratorOptions, seed: int, client: ChatClient | None = None) -> Generator:
    """The generator that a recipe names; `client` is the server's (type `server` only)."""
    if options.type == "server":
        from tpo_plugin.generators.server import ServerGenerator

        assert client is not None
        return ServerGenerator(options, client, seed)
    return in_process(options)(options, seed)


def in_process(options: GeneratorOptions) -> type[InProcessGenerator]:
    """The class behind `type: hf` or `type: llava`; imports torch and transformers."""
    if options.type == "llava":
        from tpo_plugin.generators.llava import LlavaGenerator

        return LlavaGenerator
    from tpo_plugin.generators.hf import HFGenerator

    return HFGenerator
