"""Asking a Hugging Face model (`tpo_hf`) about frames that its vision tower has seen before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.needle.asker import Written
from tpo_plugin.evaluation.needle.grid import Key
from tpo_plugin.evaluation.needle.haystack import Scenery
from tpo_plugin.evaluation.needle.memory import TowerMemory
from tpo_plugin.evaluation.needle.scoring import greedy
from tpo_plugin.evaluation.wrappers.hf import TemporalHF
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import video_size
from tpo_plugin.options import PromptOptions
from tpo_plugin.training.policies.hf import PER_TOKEN, encode_prompts
from tpo_plugin.training.policies.parts import find_parts

PIXELS = "pixel_values_videos"
TOKEN_TYPES = set(PER_TOKEN) - {"input_ids", "attention_mask"}


class HuggingFaceAsker:
    """`wrapper`'s model with the pictures of `scenery`; see asker.Asker."""

    def __init__(
        self,
        wrapper: TemporalHF,
        scenery: Scenery,
        prompt: PromptOptions | None,
        tower_batch: int,
        facts: dict[str, Any],
    ) -> None:
        self.model, self.processor, self.scenery = wrapper.model, wrapper.processor, scenery
        self.frame_options, self.facts = wrapper.frames, facts
        self._inner: Any = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        if prompt is not None:
            self.processor.chat_template = _template(prompt, self.processor, self._inner.config.model_type)
        self.unit = int(getattr(self._inner.config.vision_config, "temporal_patch_size", 1))
        self._asked: dict[str, dict[str, Tensor]] = {}  # of the number of frames asked about last, by text
        self._frames = 0
        tower = self._inner.get_submodule(find_parts(self._inner)[0])
        form = Layers(self._inner) if self.unit == 1 else Merged(self._inner.device)
        self.memory = TowerMemory(tower, form, self.unit, max(1, tower_batch // self.unit), self._look)

    def answer_ids(self, answer: str) -> list[int]:
        """The answer's token ids."""
        ids: list[int] = self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def ask(self, keys: Sequence[Key], clip: Prompt, texts: Sequence[str], new_tokens: int) -> Written:
        """See asker.Asker."""
        inputs = self.inputs(keys, clip, texts)
        length = int(inputs["input_ids"].shape[1])
        with self.memory.shown(keys):
            written = self.model.generate(**inputs, **greedy(new_tokens))[0, length:]
        return Written(written.tolist(), self.processor.decode(written, skip_special_tokens=True), length)

    def _look(self, keys: list[Key]) -> None:
        pixels = self._pixels(keys).to(self.model.device, dtype=self.model.dtype)
        self._inner.get_video_features(**{name: pixels[name] for name in (PIXELS, "video_grid_thw") if name in pixels})

    def _pixels(self, keys: Sequence[Key]) -> Any:
        size = video_size(self.processor, self.scenery.max_pixels).get("videos_kwargs", {})
        return self.processor.video_processor(
            videos=[self.scenery.pictures(keys)], do_sample_frames=False, return_tensors="pt", **size
        )

    def inputs(self, keys: Sequence[Key], clip: Prompt, texts: Sequence[str]) -> dict[str, Tensor]:
        """The model's inputs with blank pixels, of which only the number of frames counts. One processor call for a number of frames."""
        if self._frames != len(keys) or clip.text not in self._asked:
            self._asked, self._frames = self._processed(keys, clip, list(dict.fromkeys(texts))), len(keys)
        return self._asked[clip.text]

    def _processed(self, keys: Sequence[Key], clip: Prompt, texts: list[str]) -> dict[str, dict[str, Tensor]]:
        shown = Prompt(self.scenery.pictures(keys), clip.times, clip.seconds, "", max_pixels=self.scenery.max_pixels)
        first, *others = encode_prompts(self.processor, shown, texts)
        blank = torch.zeros((), dtype=self.model.dtype, device=self.model.device)
        shape = first[PIXELS].shape
        first[PIXELS] = blank.expand(shape if self.unit > 1 else (*shape[:3], 1, 1))
        if self.unit > 1:
            self._check_size(keys, first["video_grid_thw"])
        place = int((first["input_ids"][0] == self.processor.video_token_id).int().argmax())
        types = {name: first[name][0, place] for name in set(first) & TOKEN_TYPES}  # of the video; text has type 0
        shared = {name: value for name, value in first.items() if name not in PER_TOKEN}
        found = {}
        for text, ids in zip(texts, [one["input_ids"] for one in (first, *others)]):
            own = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            own |= {name: (ids == self.processor.video_token_id) * kind for name, kind in types.items()}
            found[text] = {name: value.to(self.model.device) for name, value in {**shared, **own}.items()}
        return found

    def _check_size(self, keys: Sequence[Key], grid: Tensor) -> None:
        """EvaluationError for a processor that makes the frames of longer videos smaller: their features would not be the same."""
        few = self._pixels(keys[: self.unit])["video_grid_thw"]
        if few[0, 1:].tolist() != grid[0, 1:].tolist():
            raise EvaluationError(
                f"this processor makes frames smaller where there are many ({len(keys)} frames here), so a haystack cannot be encoded "
                "once: set `max_pixels`, or cap_pixels_per_frame to false in the checkpoint's video processor"
            )


def _template(prompt: PromptOptions, processor: Any, family: str) -> str:
    """A chat template that renders one question about a video as `before`, the video, the question, `after`."""
    video = processor.video_token
    if family.startswith("qwen2"):
        video = f"<|vision_start|>{video}<|vision_end|>"
    before, video, after = (json.dumps(text) for text in (prompt.before, video, prompt.after))
    part = f"{{% if part['type'] == 'video' %}}{{{{ {video} }}}}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    return f"{{{{ {before} }}}}{{% for part in messages[0]['content'] %}}{part}{{% endfor %}}{{{{ {after} }}}}"


class Layers:
    """Towers of LLaVA's ports, of which the model takes the hidden states of one layer or several: (frames, patches, hidden) each."""

    def __init__(self, model: Any) -> None:
        layers = model.config.vision_feature_layer
        self.layers = [layers] if isinstance(layers, int) else list(layers)
        self.device = model.device
        self._states = 0  # the number of hidden states that the tower returns

    def split(self, output: Any, units: int) -> list[tuple[Tensor, ...]]:
        self._states = len(output.hidden_states)
        return list(zip(*(output.hidden_states[layer].cpu().chunk(units) for layer in self.layers)))

    def join(self, parts: Sequence[tuple[Tensor, ...]]) -> BaseModelOutputWithPooling:
        states: list[Tensor | None] = [None] * self._states
        for layer, tensors in zip(self.layers, zip(*parts)):
            states[layer] = torch.cat(tensors).to(self.device)
        return BaseModelOutputWithPooling(hidden_states=tuple(states))  # type: ignore[arg-type]


class Merged:
    """The towers of Qwen2-VL and Qwen2.5-VL, which return the tokens of all pairs of frames one after the other: (tokens, hidden)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def split(self, output: Any, units: int) -> list[Tensor]:
        return list(output.pooler_output.cpu().chunk(units))

    def join(self, parts: Sequence[Tensor]) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(pooler_output=torch.cat(list(parts)).to(self.device))
