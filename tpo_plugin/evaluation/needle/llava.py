"""Asking a model of LLaVA-NeXT's or LongVA's own class (`llava_video_tpo`, `longva_tpo`) about frames that its tower has seen before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tpo_plugin.evaluation.needle.asker import Written
from tpo_plugin.evaluation.needle.grid import Key
from tpo_plugin.evaluation.needle.haystack import Scenery
from tpo_plugin.evaluation.needle.memory import Rows, TowerMemory
from tpo_plugin.evaluation.needle.scoring import greedy
from tpo_plugin.evaluation.wrappers.llava import TemporalLlava
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.llava_family.writing import (
    chat_text,
    embed,
    generate_from,
    pixels,
    placeholder,
    token_ids,
)
from tpo_plugin.options import PromptOptions
from tpo_plugin.training.policies.tree import replaced


class LlavaAsker:
    """`wrapper`'s model with the pictures of `scenery`; see asker.Asker. Upstream's limit on a prompt's length is lifted."""

    def __init__(
        self,
        wrapper: TemporalLlava,
        scenery: Scenery,
        prompt: PromptOptions | None,
        tower_batch: int,
        facts: dict[str, Any],
    ) -> None:
        self.unit = 1
        self.frame_options, self.facts = wrapper.frames, facts
        self.loaded, self.scenery, self.prompt = wrapper.loaded, scenery, prompt
        self.conv_template = wrapper.conv_template
        tower = self.loaded.model.get_vision_tower()
        self.memory = TowerMemory(
            tower,
            Rows(self.loaded.model.device),
            self.unit,
            tower_batch,
            lambda keys: tower(pixels(self.loaded, self.scenery.pictures(keys))),
        )

    def answer_ids(self, answer: str) -> list[int]:
        """The answer's token ids."""
        ids: list[int] = self.loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def ask(self, keys: Sequence[Key], clip: Prompt, texts: Sequence[str], new_tokens: int) -> Written:
        """See asker.Asker."""
        inputs = self.inputs(keys, clip)
        written, _ = generate_from(self.loaded, inputs, self.conv_template, greedy(new_tokens))
        text = self.loaded.tokenizer.decode(written[0], skip_special_tokens=True)
        return Written(written[0].tolist(), text, int(inputs["inputs_embeds"].shape[1]))

    @torch.inference_mode()
    def inputs(self, keys: Sequence[Key], clip: Prompt) -> dict[str, torch.Tensor]:
        """The prompt's embeddings, made by upstream's own method."""
        model = self.loaded.model
        blank = torch.zeros((len(keys), 3, 1, 1), dtype=model.dtype, device=model.device)
        with self.memory.shown(keys), replaced(model.config, "tokenizer_model_max_length", None):
            return embed(self.loaded, [token_ids(self.loaded, self._text(clip.text))], [blank])

    def _text(self, text: str) -> str:
        if self.prompt is None:
            return chat_text(self.loaded, text, self.conv_template)
        return f"{self.prompt.before}{placeholder(self.loaded)}{text}{self.prompt.after}"
