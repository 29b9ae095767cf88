"""Tiny LlavaQwen and LongVA checkpoints that the upstream scripts accept, random weights from a seed.

Written with transformers and tokenizers alone, as the real checkpoints are laid out: the language model's weights and those of projector,
newline and vision tower under one name space, the tower also in a folder of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HIDDEN, TOWER_HIDDEN = 64, 32
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = "You are a helpful assistant. user system assistant What shape is shown in the video? A red circle, then a blue square. "

# What differs between the two families' checkpoints (config.json of LLaVA-Video-7B-Qwen2 and LongVA-7B).
FAMILY: dict[str, dict[str, Any]] = {
    "llava_next": {
        "mm_patch_merge_type": "spatial_unpad",
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
        "add_faster_video": False,
    },
    "longva": {
        "mm_patch_merge_type": "unires",
        "mm_resampler_type": "spatial_pool",
        "mm_spatial_pool_mode": "average",
        "mm_spatial_pool_out_channels": TOWER_HIDDEN,
    },
}
NAMES = {"llava_next": "tiny-llava-qwen", "longva": "tiny-longva-qwen"}


def make_tokenizer(folder: Path) -> Any:
    """A byte-level BPE of about 400 tokens in Qwen2's layout (vocab.json, merges.txt)."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import Qwen2TokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([TEXT] * 20, vocab_size=400 - len(SPECIAL), min_frequency=1, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(folder))
    tokenizer = Qwen2TokenizerFast(
        vocab_file=str(folder / "vocab.json"),
        merges_file=str(folder / "merges.txt"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=4096,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_tower(folder: Path) -> Any:
    """A CLIP vision tower of 3 layers for pictures of 56 px in patches of 14 (16 patches)."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=TOWER_HIDDEN,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
    )
    tower = CLIPVisionModel(config)
    tower.save_pretrained(folder)
    size = {"height": 56, "width": 56}
    CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=size).save_pretrained(folder)
    return tower


def make_checkpoint(family: str, folder: Path, seed: int = 0) -> Path:
    """The checkpoint `folder`/NAMES[family], its tower in `folder`/tower; returns the checkpoint's path."""
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    checkpoint, tower_folder = folder / NAMES[family], folder / "tower"
    tokenizer = make_tokenizer(checkpoint)
    tower = make_tower(tower_folder)
    config = Qwen2Config(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=0.1,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    weights = dict(Qwen2ForCausalLM(config).state_dict())
    for name, tensor in tower.state_dict().items():
        weights[f"model.vision_tower.vision_tower.{name}"] = tensor
    for layer, size in (("0", TOWER_HIDDEN), ("2", HIDDEN)):
        weights[f"model.mm_projector.{layer}.weight"] = torch.randn(HIDDEN, size) * 0.1
        weights[f"model.mm_projector.{layer}.bias"] = torch.zeros(HIDDEN)
    if "unpad" in FAMILY[family]["mm_patch_merge_type"]:
        weights["model.image_newline"] = torch.randn(HIDDEN) * 0.1
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()},
        checkpoint / "model.safetensors",
        {"format": "pt"},
    )
    values = config.to_dict() | {
        "model_type": "llava_qwen",
        "architectures": ["LlavaQwenForCausalLM"],
        "torch_dtype": "float32",
        "mm_vision_tower": str(tower_folder),
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": TOWER_HIDDEN,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_spatial_pool_stride": 2,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "square",
        "use_mm_proj": True,
        **FAMILY[family],
    }
    (checkpoint / "config.json").write_text(json.dumps(values, indent=2))
    return checkpoint
