"""A Hugging Face checkpoint in process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import encode, load_model, load_processor, same_frames
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

    async def generate(self, prompts: Sequence[Prompt]) -> list[str]:
        return await asyncio.to_thread(self.generate_now, prompts)

    @torch.inference_mode()
    def generate_now(self, prompts: Sequence[Prompt]) -> list[str]:
        """As `generate`, without an event loop."""
        texts = [""] * len(prompts)
        with self._lock:
            torch.manual_seed(self.seed)
            for batch in same_frames(prompts, self.options.batch_size):
                inputs = encode(self.processor, [prompts[index] for index in batch]).to(
                    self.model.device, dtype=self.model.dtype
                )
                output = self.model.generate(**inputs, **self._sampling())
                written = output[:, inputs["input_ids"].shape[1] :]
                for index, text in zip(batch, self.processor.batch_decode(written, skip_special_tokens=True)):
                    texts[index] = text.strip()
        return texts

    def _sampling(self) -> dict[str, object]:
        tokens = {"max_new_tokens": self.options.max_new_tokens}
        if self.options.temperature == 0:
            return {**tokens, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {**tokens, "do_sample": True, "temperature": self.options.temperature, "top_p": self.options.top_p}
