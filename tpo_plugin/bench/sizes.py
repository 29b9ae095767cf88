"""The models that are measured (random weights) and the data (noise): only shapes matter for what a pair costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # it needs transformers 5, the sizes themselves do not
    from tpo_plugin.training.policies.hf import EncodedPair

NOISE = 0.02  # how far the policy's weights are from the reference's: standard deviation


@dataclass(frozen=True)
class Size:
    """A Qwen2 language model behind a SigLIP tower. `query` text tokens follow the video, `answers` are chosen's and rejected's.

    `heads` are query and key heads. The tower sees `pixels` x `pixels`, in patches of `patch`.
    """

    hidden: int
    layers: int
    heads: tuple[int, int]
    intermediate: int
    vocabulary: int
    tower_hidden: int
    tower_layers: int
    tower_heads: int
    tower_intermediate: int
    pixels: int
    patch: int
    query: int = 50
    answers: tuple[int, int] = (110, 90)

    @property
    def side(self) -> int:
        """Patches along a frame's side."""
        return self.pixels // self.patch

    def video_tokens(self, frames: int) -> int:
        """What transformers makes of a video: 2x2 pooled patches of each frame, and one newline."""
        return frames * ((self.side + 1) // 2) ** 2 + 1

    def prompt(self, frames: int) -> int:
        """Tokens before a response: one begins the turn, then the video, then the query."""
        return 1 + self.video_tokens(frames) + self.query


SEVEN_B = Size(3584, 28, (28, 4), 18944, 152064, 1152, 26, 16, 4304, 384, 14)
SIZES = {
    "tiny": Size(64, 2, (4, 2), 128, 512, 32, 2, 4, 64, 56, 14, query=10, answers=(11, 9)),
    "small": Size(256, 4, (4, 2), 1024, 16384, 384, 5, 6, 1536, 384, 14),
    "7b": SEVEN_B,  # LLaVA-Video-7B: Qwen2-7B and SigLIP so400m without its last layer; counted on the meta device
    "7b-random": SEVEN_B,  # the same with weights
}
VIDEO, IMAGE, FIRST_WORD = 2, 3, 4  # token ids


def sized(name: str, answer_tokens: int | None = None) -> Size:
    """The size of this name; with `answer_tokens` both answers are that long."""
    size = SIZES[name]
    return size if answer_tokens is None else replace(size, answers=(answer_tokens, answer_tokens))


def build(size: Size, device: torch.device | str, dtype: torch.dtype, seed: int = 0) -> Any:
    """A LlavaOnevision of this size with its tower frozen, in training mode."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=size.tower_hidden, intermediate_size=size.tower_intermediate,
            num_hidden_layers=size.tower_layers, num_attention_heads=size.tower_heads,
            image_size=size.pixels, patch_size=size.patch, vision_use_head=False,
        ).to_dict(),
        text_config=Qwen2Config(
            vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.intermediate,
            num_hidden_layers=size.layers, num_attention_heads=size.heads[0], num_key_value_heads=size.heads[1],
            max_position_embeddings=262144, tie_word_embeddings=False,
        ).to_dict(),
        image_token_index=IMAGE, video_token_index=VIDEO, vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_grid_pinpoints=[[size.pixels, size.pixels]], tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaOnevisionForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    model.model.vision_tower.requires_grad_(False)
    return model.train()


def move(model: Any, seed: int = 1) -> None:
    """Take the trained weights away from where they are, so that policy and reference differ. The same for the same seed and device."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    generator = torch.Generator(device=trained[0].device).manual_seed(seed)
    with torch.no_grad():
        for weight in trained:
            noise = torch.randn(weight.shape, generator=generator, device=weight.device, dtype=weight.dtype)
            weight += NOISE * noise


def pairs(
    size: Size,
    frames: int,
    count: int,
    device: torch.device | str,
    dtype: torch.dtype,
    seed: int = 0,
    rejected_per_chosen: int = 1,
) -> list[EncodedPair]:
    """Pairs about one video of noise: `count` different queries with a chosen response each, and for each `rejected_per_chosen` rejected ones.

    The video's pixels are there once. Token ids stay on the CPU.
    """
    from tpo_plugin.training.policies.hf import EncodedPair

    generator = torch.Generator().manual_seed(seed)

    def words(length: int) -> torch.Tensor:
        return torch.randint(FIRST_WORD, size.vocabulary, (length,), generator=generator)

    shape = (1, frames, 3, size.pixels, size.pixels)
    meta = torch.device(device).type == "meta"
    pixels = torch.empty(shape, device="meta") if meta else torch.randn(shape, generator=generator).to(device)
    begin, video = words(1), torch.full((size.video_tokens(frames),), VIDEO)
    made = []
    for _ in range(count):
        ids = torch.cat([begin, video, words(size.query)])[None]
        prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values_videos": pixels.to(dtype)}
        chosen = words(size.answers[0])
        made += [EncodedPair(prompt, (chosen, words(size.answers[1]))) for _ in range(rejected_per_chosen)]
    return made
