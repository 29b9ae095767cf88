"""The tiny video LMM: a transformers LlavaOnevision of 0.9 M parameters with its own tokenizer and processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision import LlavaOnevisionImageProcessor, LlavaOnevisionVideoProcessor

from tpo_plugin.tiny.tokenizer import learn_tokenizer, question_texts

IMAGE_SIZE = 32
PATCH_SIZE = 8
IMAGE, VIDEO = "<image>", "<video>"
BEFORE_VIDEO, AFTER_VIDEO = "", "\n"  # in a prompt
FRAMES = 1  # a group of tokens shows
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>\n{% elif part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(vocab_size: int = 560) -> PreTrainedTokenizerFast:
    """A byte-level BPE learned from this world's own questions and answers: no text is unknown to it."""
    return learn_tokenizer(question_texts(), vocab_size, [IMAGE, VIDEO])


def build_processor() -> LlavaOnevisionProcessor:
    """The processor of the tiny model: 32 px frames, 4 tokens a frame after pooling, one newline token a video."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[IMAGE_SIZE, IMAGE_SIZE]]),
        tokenizer=build_tokenizer(),
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: LlavaOnevisionProcessor) -> LlavaOnevisionForConditionalGeneration:
    """A freshly initialised model for `processor` (seed torch before)."""
    tokenizer = processor.tokenizer
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, vision_use_head=False,
        ).to_dict(),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=320, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True,
            initializer_range=0.08,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        ).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[IMAGE_SIZE, IMAGE_SIZE]],
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def tower_parts(model: Any) -> list[nn.Module]:
    """What makes tokens of pictures."""
    return [model.model.vision_tower, model.model.multi_modal_projector]


def video_features(model: Any, pixels: Sequence[Tensor]) -> list[Tensor]:
    """The tokens of clips, each float32 (T, 3, H, W): (4 T + 1, hidden), the newline last."""
    made = model.model.get_video_features(pixel_values_videos=torch.cat(list(pixels))[None]).pooler_output[0]
    newline = made[-1:]
    return [torch.cat([part, newline]) for part in made[:-1].split([4 * len(clip) for clip in pixels])]


def video_tokens(frames: int) -> int:
    """How many tokens a clip of so many frames takes in the prompt."""
    return 4 * frames + 1


def positions(model: Any, batch: dict[str, Tensor], frames: Sequence[int]) -> None:
    """None: the language model counts its positions itself."""
