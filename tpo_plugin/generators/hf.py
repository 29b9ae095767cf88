"""A Hugging Face checkpoint in process."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import in_batches, load_model, load_processor, write
from tpo_plugin.llm import Reply
from tpo_plugin.options import GeneratorOptions


class HFGenerator:
    """Greedy (temperature 0) or seeded sampling in batches of prompts with the same number of frames."""

    def __init__(self, options: GeneratorOptions, seed: int) -> None:
        self.name = Path(options.model).name
        self.options = options
        self.seed = seed
        self.processor = load_processor(options.model)
        self.model = load_model(options.model, options.dtype, options.device, options.attn_implementation)
        self._lock = threading.Lock()

    def sharing(self, options: GeneratorOptions) -> HFGenerator:
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
            for batch in in_batches([prompt.frames.shape for prompt in prompts], self.options.batch_size):
                written = write(self.model, self.processor, [prompts[index] for index in batch], self._sampling())
                for index, (text, ended) in zip(batch, written):
                    if text.strip():
                        replies[index] = Reply(text.strip(), None if ended else "cut_off")
        return replies

    def _sampling(self) -> dict[str, object]:
        tokens = {"max_new_tokens": self.options.max_new_tokens}
        if self.options.temperature == 0:
            return {**tokens, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {**tokens, "do_sample": True, "temperature": self.options.temperature, "top_p": self.options.top_p}
