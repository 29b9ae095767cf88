"""A Hugging Face checkpoint in process."""

from __future__ import annotations

from collections.abc import Sequence

from tpo_plugin.folders import check_local
from tpo_plugin.generators.base import Prompt
from tpo_plugin.generators.in_process import InProcessGenerator, in_batches
from tpo_plugin.integrations.huggingface import load_model, load_processor, write
from tpo_plugin.options import GeneratorOptions


class HFGenerator(InProcessGenerator):
    """Batches hold prompts whose frames have one shape."""

    def __init__(self, options: GeneratorOptions, seed: int) -> None:
        super().__init__(options, seed)
        self.processor = load_processor(options.model)
        self.model = load_model(options.model, options.dtype, options.device, options.attn_implementation)

    @staticmethod
    def check(options: GeneratorOptions) -> None:
        check_local(options.model)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return in_batches([prompt.frames.shape for prompt in prompts], self.options.batch_size)

    def write(self, prompts: Sequence[Prompt]) -> list[tuple[str, bool]]:
        return write(self.model, self.processor, prompts, self.sampling())
