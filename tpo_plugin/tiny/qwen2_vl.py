"""The tiny Qwen2-VL: transformers' own model in 1.0 M parameters, which can also describe, with its own tokenizer and processor."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tpo_plugin.curation.templates import instructions, template
from tpo_plugin.tiny import vinoground
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.model import IMAGE_SIZE, PATCH_SIZE
from tpo_plugin.tiny.tokenizer import learn_tokenizer, question_texts
from tpo_plugin.tiny.world import draw_scenes

FRAMES = 2  # a group of tokens shows
BEFORE_VIDEO, VIDEO, AFTER_VIDEO, IMAGE = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>", "<|image_pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(vocab_size: int = 1200) -> PreTrainedTokenizerFast:
    """A byte-level BPE to which most words of this world's questions and captions are one token."""
    rng = random.Random(1)
    texts = question_texts()
    for _ in range(500):
        scenes = draw_scenes(rng, rng.randint(2, 4))
        texts += [*instructions(), template("caption"), template("caption_shot").format(before=2, count=2)]
        texts += [describe(scenes), vinoground.question(scenes[0], scenes[1]) + vinoground.CLOSING]
    return learn_tokenizer(texts, vocab_size, [BEFORE_VIDEO, AFTER_VIDEO, VIDEO, IMAGE])


def build_processor() -> Qwen2VLProcessor:
    """The processor of the tiny model: 32 px frames, whatever their size before, and 4 tokens for two frames."""
    size = {"shortest_edge": IMAGE_SIZE**2, "longest_edge": IMAGE_SIZE**2}  # both are numbers of pixels
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH_SIZE, size=size),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(patch_size=PATCH_SIZE, size=size, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: Qwen2VLProcessor) -> Qwen2VLForConditionalGeneration:
    """A freshly initialised model for `processor` (seed torch before)."""
    tokenizer = processor.tokenizer
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        # Half of a head's 16 frequencies tell time, a quarter each the row and column.
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 4, 4], "rope_theta": 10000.0},
        "initializer_range": 0.08,
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    vision = {
        "depth": 2, "embed_dim": 64, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 2, "patch_size": PATCH_SIZE,
        "temporal_patch_size": FRAMES, "spatial_merge_size": 2, "initializer_range": 0.08,
    }  # fmt: skip
    special = {
        "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": BEFORE_VIDEO, "vision_end_token_id": AFTER_VIDEO,
    }  # fmt: skip
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in special.items()},
    )
    model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def tower_parts(model: Any) -> list[nn.Module]:
    """What makes tokens of pictures."""
    return [model.model.visual]


def video_features(model: Any, pixels: Sequence[Tensor]) -> list[Tensor]:
    """The tokens of clips, each float32 (T, 3, H, W) with an even T: (2 T, hidden)."""
    patches = [_patches(clip) for clip in pixels]
    made = model.model.get_video_features(torch.cat(patches), _grids([len(clip) for clip in pixels]))
    return list(made.pooler_output)


def video_tokens(frames: int) -> int:
    """How many tokens a clip of so many frames takes in the prompt; a last frame without its second counts twice."""
    return 4 * -(-frames // FRAMES)


def positions(model: Any, batch: dict[str, Tensor], frames: Sequence[int]) -> Tensor:
    """Time, row and column of each token as the model counts them itself: (3, batch, length)."""
    kinds = 2 * (batch["input_ids"] == model.config.video_token_id).int()
    found, _ = model.model.get_rope_index(
        batch["input_ids"], kinds, video_grid_thw=_grids(frames), attention_mask=batch["attention_mask"]
    )
    return found


def _patches(clip: Tensor) -> Tensor:
    patches, *_ = Qwen2VLVideoProcessor().patchify(clip[None], PATCH_SIZE, 2, FRAMES)
    return patches[0]


def _grids(frames: Sequence[int]) -> Tensor:
    side = IMAGE_SIZE // PATCH_SIZE
    return torch.tensor([[count // FRAMES, side, side] for count in frames])
