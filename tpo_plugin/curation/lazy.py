"""Checkpoints that are loaded when the first prompt or picture comes: a run that finds its work done loads none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tpo_plugin.curation.journal import Journal
from tpo_plugin.generators import Generator, Prompt
from tpo_plugin.generators.base import in_process
from tpo_plugin.llm import Reply
from tpo_plugin.options import GeneratorOptions, ShotOptions
from tpo_plugin.records import stable_id

if TYPE_CHECKING:
    from tpo_plugin.generators.in_process import InProcessGenerator


class Checkpoints:
    """The loaded models of a run; generators that load the same share one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._loaded: dict[tuple[str, ...], InProcessGenerator] = {}
        self._lock = threading.Lock()

    def generator(self, options: GeneratorOptions) -> InProcessGenerator:
        """The generator of these options; loading blocks and may take minutes. From any thread."""
        loads = (
            options.type,
            options.model,
            options.upstream,
            options.dtype,
            options.device,
            options.attn_implementation,
        )
        with self._lock:
            if loads not in self._loaded:
                self._loaded[loads] = in_process(options)(options, self._seed)
            return self._loaded[loads].sharing(options)


class LazyGenerator:
    """A checkpoint in process, loaded at the first prompt while other work goes on."""

    def __init__(self, options: GeneratorOptions, checkpoints: Checkpoints) -> None:
        in_process(options).check(options)  # a missing package is told now, not after hours of captions
        self.name = Path(options.model).name
        self._options, self._checkpoints = options, checkpoints

    async def generate(self, prompts: Sequence[Prompt]) -> list[Reply]:
        if not prompts:
            return []
        generator = await asyncio.to_thread(self._checkpoints.generator, self._options)
        return await generator.generate(prompts)


class Remembering:
    """A generator whose whole replies to words alone are kept in the journal, so that each prompt is answered once over all runs.

    `identity` is what they depend on beside the prompt.
    """

    def __init__(self, generator: Generator, identity: str, journal: Journal) -> None:
        self.name = generator.name
        self._generator, self._identity, self._journal = generator, identity, journal

    async def generate(self, prompts: Sequence[Prompt]) -> list[Reply]:
        if any(len(prompt.frames) for prompt in prompts):
            return await self._generator.generate(prompts)
        units = [stable_id(self._identity, prompt.text, prompt.sample) for prompt in prompts]
        kept = [self._journal.get("reply", unit) for unit in units]
        fresh = iter(await self._generator.generate([one for one, text in zip(prompts, kept) if text is None]))
        replies = [next(fresh) if text is None else Reply(text) for text in kept]
        for unit, reply in zip(units, replies):
            if reply.problem is None and self._journal.get("reply", unit) is None:
                self._journal.put("reply", unit, reply.text)
        return replies


class LazyEncoder:
    """The vision encoder of shot lists, loaded at the first pictures; all videos share it."""

    def __init__(self, options: ShotOptions) -> None:
        self._options = options
        self._encode: Callable[[np.ndarray], np.ndarray] | None = None
        self._lock = threading.Lock()

    async def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """One feature vector (N, D) for each picture, uint8 (N, H, W, 3) RGB; TPOError if there is no such encoder."""
        return await asyncio.to_thread(self._now, pictures)

    def _now(self, pictures: np.ndarray) -> np.ndarray:
        with self._lock:
            if self._encode is None:
                from tpo_plugin.integrations.vision_encoder import load_encoder

                self._encode = load_encoder(self._options)
            return self._encode(pictures)
