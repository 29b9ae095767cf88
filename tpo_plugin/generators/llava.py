"""LLaVA-Video and LongVA in process, with upstream's own model classes from a checkout of LLaVA-NeXT or LongVA."""

from __future__ import annotations

from collections.abc import Sequence

from tpo_plugin.generators.base import Prompt
from tpo_plugin.generators.in_process import InProcessGenerator
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.llava_family.model import check_checkpoint, load
from tpo_plugin.integrations.llava_family.repairs import check_transformers
from tpo_plugin.integrations.llava_family.writing import write
from tpo_plugin.options import GeneratorOptions


class LlavaGenerator(InProcessGenerator):
    """Batches may mix numbers and sizes of frames (but for no frames at all); like lengths go together, since the others are padded."""

    def __init__(self, options: GeneratorOptions, seed: int) -> None:
        super().__init__(options, seed)
        self.loaded = load(options.model, options.upstream, options.dtype, options.device, options.attn_implementation)

    @staticmethod
    def check(options: GeneratorOptions) -> None:
        check_transformers()
        check_checkpoint(options.model, find_checkout(options.upstream).package)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].frames))
        size = self.options.batch_size
        words = [index for index in order if not len(prompts[index].frames)]
        return [part[at : at + size] for part in (words, order[len(words) :]) for at in range(0, len(part), size)]

    def write(self, prompts: Sequence[Prompt]) -> list[tuple[str, bool]]:
        return write(self.loaded, prompts, self.options.conv_template, self.sampling())
