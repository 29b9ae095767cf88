"""A video LMM behind an OpenAI-compatible server (vLLM, SGLang, ...): frames go as image parts, the question last, and no frames as text alone.

The prompts of one video are sent together and begin with the same frames where they can, so that prefix caches hit.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tpo_plugin.concurrency import together
from tpo_plugin.generators.base import Prompt
from tpo_plugin.llm import ChatClient, Reply
from tpo_plugin.options import GeneratorOptions


class ServerGenerator:
    """Frames as JPEG data URIs; the replies are the server's, with its problems. Sampling (temperature over 0) is seeded."""

    def __init__(self, options: GeneratorOptions, client: ChatClient, seed: int) -> None:
        self.name = options.server.model
        self.client = client
        self.parameters: dict[str, Any] = {
            "max_tokens": options.max_new_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
        }
        self.seed = seed if options.temperature > 0 else None

    async def generate(self, prompts: Sequence[Prompt]) -> list[Reply]:
        return await together(self._one(prompt) for prompt in prompts)

    async def _one(self, prompt: Prompt) -> Reply:
        images = await asyncio.to_thread(_image_parts, prompt.frames)
        content: Any = [*images, {"type": "text", "text": prompt.text}] if images else prompt.text
        seed = {} if self.seed is None else {"seed": self.seed + prompt.sample}
        return await self.client.complete([{"role": "user", "content": content}], **self.parameters, **seed)


def _image_parts(frames: np.ndarray) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": data_uri(frame)}} for frame in frames]


def data_uri(frame: np.ndarray, quality: int = 90) -> str:
    """A uint8 (H, W, 3) RGB picture as a JPEG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
