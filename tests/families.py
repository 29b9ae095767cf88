"""Small random checkpoints of the Hugging Face families that this package was tried with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

QWEN_TOKENS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(family: str, folder: Path) -> Path:
    """Save a model of the family, untrained and always the same, with its processor in `folder`."""
    import torch

    torch.manual_seed(0)
    makers = {"llava_onevision": _onevision, "llava_next_video": _next_video}
    model, processor = makers[family]() if family in makers else _qwen(family)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _onevision() -> tuple[Any, Any]:
    from tpo_plugin.tiny.model import build_model, build_processor

    processor = build_processor()
    return build_model(processor), processor


def _next_video() -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlavaNextImageProcessor,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
        LlavaNextVideoProcessor,
        LlavaNextVideoVideoProcessor,
        Qwen2Config,
    )

    from tpo_plugin.tiny.model import CHAT_TEMPLATE, IMAGE, VIDEO, build_tokenizer

    tokenizer = build_tokenizer()
    place = {name: tokenizer.convert_tokens_to_ids(token) for name, token in (("image", IMAGE), ("video", VIDEO))}
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = LlavaNextVideoConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_index=place["image"],
        video_token_index=place["video"],
        image_grid_pinpoints=[[32, 32]],
        vision_feature_layer=-1,
    )
    size = {"shortest_edge": 32}
    crop = {"height": 32, "width": 32}
    processor = LlavaNextVideoProcessor(
        image_processor=LlavaNextImageProcessor(size=size, crop_size=crop, image_grid_pinpoints=[[32, 32]]),
        video_processor=LlavaNextVideoVideoProcessor(size=size, crop_size=crop),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        num_additional_image_tokens=1,
    )
    model = LlavaNextVideoForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def _qwen(family: str) -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
    )
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    from tpo_plugin.tiny.model import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_TOKENS.values())})
    ids = {key: tokenizer.convert_tokens_to_ids(token) for key, token in QWEN_TOKENS.items()}
    size = {"shortest_edge": 16 * 16, "longest_edge": 32 * 32 * 64}
    tools = {
        "image_processor": Qwen2VLImageProcessor(patch_size=8, size=size),
        "video_processor": Qwen2VLVideoProcessor(patch_size=8, size=size),
        "tokenizer": tokenizer,
        "chat_template": QWEN_TEMPLATE,
    }
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        "initializer_range": 0.2,
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 8}
    if family == "qwen2_vl":
        config = Qwen2VLConfig(text_config=text, vision_config={**vision, "embed_dim": 32, "mlp_ratio": 2}, **ids)
        return Qwen2VLForConditionalGeneration(config), Qwen2VLProcessor(**tools)
    vision |= {"out_hidden_size": 32, "intermediate_size": 64, "window_size": 32, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(**tools)
