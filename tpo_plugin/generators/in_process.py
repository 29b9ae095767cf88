"""What generators in this process share: one model, batches in turn, seeded sampling."""

from __future__ import annotations

import asyncio
import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from tpo_plugin.generators.base import Prompt
from tpo_plugin.llm import Reply
from tpo_plugin.options import GeneratorOptions

Self = TypeVar("Self", bound="InProcessGenerator")


class InProcessGenerator(ABC):
    """Greedy (temperature 0) or seeded sampling in batches. A subclass loads the model and writes for one batch."""

    def __init__(self, options: GeneratorOptions, seed: int) -> None:
        self.name = Path(options.model).name
        self.options = options
        self.seed = seed
        self._lock = threading.Lock()

    @staticmethod
    @abstractmethod
    def check(options: GeneratorOptions) -> None:
        """TPOError for what can be known to be wrong before anything is loaded."""

    @abstractmethod
    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The indices of `prompts`, each once, in batches that the model can take."""

    @abstractmethod
    def write(self, prompts: Sequence[Prompt]) -> list[tuple[str, bool]]:
        """The text after each prompt of a batch, and whether it came to its end (or ran out of tokens)."""

    def sharing(self: Self, options: GeneratorOptions) -> Self:
        """A generator with other options on this one's loaded model; the two take turns."""
        other = copy.copy(self)
        other.options = options
        return other

    async def generate(self, prompts: Sequence[Prompt]) -> list[Reply]:
        return await asyncio.to_thread(self.generate_now, prompts)

    def generate_now(self, prompts: Sequence[Prompt]) -> list[Reply]:
        """As `generate`, without an event loop."""
        replies = [Reply("", "empty_reply")] * len(prompts)
        with self._lock:
            torch.manual_seed(self.seed)
            for batch in self.batches(prompts):
                for index, (text, ended) in zip(batch, self.write([prompts[index] for index in batch])):
                    if text.strip():
                        replies[index] = Reply(text.strip(), None if ended else "cut_off")
        return replies

    def sampling(self) -> dict[str, object]:
        """The options as arguments of transformers' `generate`."""
        tokens = {"max_new_tokens": self.options.max_new_tokens}
        if self.options.temperature == 0:
            return {**tokens, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        # `top_k` 0: no limit. Qwen2-VL's checkpoints come with 1, which would leave nothing to draw from.
        chosen = {"temperature": self.options.temperature, "top_p": self.options.top_p, "top_k": 0}
        return {**tokens, "do_sample": True, **chosen}


def in_batches(shapes: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Indices of `shapes` in batches of equal ones, each at most `batch_size` long, in a fixed order."""
    groups: dict[Hashable, list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    return [
        group[start : start + batch_size] for group in groups.values() for start in range(0, len(group), batch_size)
    ]
