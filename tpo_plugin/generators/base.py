"""What a generator is given and what it must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tpo_plugin.options import GeneratorOptions

if TYPE_CHECKING:
    from tpo_plugin.llm import ChatClient


@dataclass(frozen=True)
class Prompt:
    """A clip and what to say about it.

    `frames` is uint8 (T, H, W, 3) RGB, `times` its T times in seconds, `seconds` the length of the video that they stand for.
    """

    frames: np.ndarray
    times: tuple[float, ...]
    seconds: float
    text: str


class Generator(Protocol):
    """Writes one text for each prompt, in their order; '' where it said nothing.

    The same list of prompts gives the same texts (temperature 0), whatever was asked before.
    """

    name: str

    async def generate(self, prompts: Sequence[Prompt]) -> list[str]: ...


def build_generator(options: GeneratorOptions, seed: int, client: ChatClient | None = None) -> Generator:
    """The generator that a recipe names; `client` is the server's (type `server` only)."""
    if options.type == "server":
        from tpo_plugin.generators.server import ServerGenerator

        assert client is not None
        return ServerGenerator(options, client)
    from tpo_plugin.generators.hf import HFGenerator

    return HFGenerator(options, seed)
