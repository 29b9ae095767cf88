"""What the script of a LLaVA-NeXT or LongVA checkout needs to run on a model of a given size: checkpoint, tower, video, pairs.

The language model is that of the size. A local tower is a CLIP to the scripts, so SigLIP's shape becomes a CLIP of the same width and depth,
with the pixels that make the same number of patches (384 px leave the last ones of patches of 14 unused).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tpo_plugin.bench.sizes import Size
from tpo_plugin.video.write import write_video

CHECKPOINT, TOWER, VIDEO, PAIRS = "bench-llava-qwen", "tower", "video.mp4", "pairs.json"
WORDS = "a red circle then two blue squares move left over green stars while one ring turns right "
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# How the two families lay out a video's tokens (config.json of LLaVA-Video-7B-Qwen2 and LongVA-7B).
FAMILY: dict[str, dict[str, Any]] = {
    "llava_next": {
        "mm_patch_merge_type": "spatial_unpad",
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
    },
    "longva": {"mm_patch_merge_type": "unires", "mm_resampler_type": "spatial_pool", "mm_spatial_pool_mode": "average"},
}


def make_world(folder: Path, size: Size, family: str, frames: int, number: int, seed: int) -> None:
    """Write all of it into `folder`: `number` pairs about one video of `frames` seconds."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(folder / CHECKPOINT)
    _checkpoint(folder, size, family, tokenizer)
    generator = np.random.default_rng(seed)
    write_video(folder / VIDEO, generator.integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8), 1)
    rows = []
    for index in range(number):
        query, chosen, rejected = (_text(tokenizer, length, generator) for length in (size.query, *size.answers))
        row = {"id": str(index), "video": VIDEO, "prompt": query, "chosen": chosen, "rejected": rejected}
        rows.append({**row, "answer": chosen, "tpo": {"kind": "localized"}})
    (folder / PAIRS).write_text(json.dumps(rows), encoding="utf-8")


def flags(folder: Path, size: Size, family: str, frames: int, number: int, path: str, checkpointing: bool) -> list[str]:
    """The script's flags for a run on that world, on a path of ours (`upstream` runs with the plain one's)."""
    together = number if path == "fast" else 1
    values = {
        "model_name_or_path": folder / CHECKPOINT,
        "version": "qwen_1_5",
        "data_path": folder / PAIRS,
        "video_folder": folder,
        "image_folder": folder,
        "vision_tower": folder / TOWER,
        "mm_tunable_parts": "mm_mlp_adapter,mm_language_model",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "mm_patch_merge_type": FAMILY[family]["mm_patch_merge_type"],
        "attn_implementation": "sdpa",
        "video_fps": 1,
        "frames_upbound": frames,
        "output_dir": output_folder(folder, path),
        "model_max_length": size.prompt(frames) * 2 + 4096,
        "per_device_train_batch_size": together,
        "gradient_checkpointing": checkpointing,
        "use_cpu": True,
        "report_to": "none",
        "beta": 0.3,
        "dpo_alpha": 1.0,
        "gamma": 0.5,
        "seed": 0,
        "tpo": True,
        "tpo_path": "fast" if path == "fast" else "plain",
    }
    if together > 1:
        values["tpo_pairs_per_video"] = together
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def output_folder(folder: Path, path: str) -> Path:
    """Where the script writes when it runs `path` in the world in `folder`."""
    return folder / f"output-{path}"


def _text(tokenizer: Any, length: int, generator: np.random.Generator) -> str:
    """Words that are some `length` tokens."""
    words = generator.permutation(WORDS.split() * length)
    ends = np.cumsum([len(tokenizer(f" {word}").input_ids) for word in words])
    return " ".join(words[: max(1, int((ends <= length).sum()))])


def _tokenizer(folder: Path) -> Any:
    """A byte-level BPE in Qwen2's layout; the model's vocabulary may be larger."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import Qwen2TokenizerFast  # type: ignore[attr-defined]  # of transformers 4

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([WORDS] * 20, vocab_size=400, min_frequency=1, show_progress=False)
    folder.mkdir(parents=True)
    trained.save_model(str(folder))
    tokenizer = Qwen2TokenizerFast(
        vocab_file=str(folder / "vocab.json"),
        merges_file=str(folder / "merges.txt"),
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        additional_special_tokens=list(SPECIAL[1:]),
        model_max_length=1 << 20,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _checkpoint(folder: Path, size: Size, family: str, tokenizer: Any) -> None:
    """Weights of language model, projector, newline and tower under one name space, the tower also in a folder of its own."""
    from safetensors.torch import save_file
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, Qwen2Config, Qwen2ForCausalLM

    pixels = size.side * size.patch
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=size.tower_hidden, intermediate_size=size.tower_intermediate,
            num_hidden_layers=size.tower_layers, num_attention_heads=size.tower_heads,
            image_size=pixels, patch_size=size.patch,
        )
    )  # fmt: skip
    tower.save_pretrained(folder / TOWER)
    CLIPImageProcessor(size={"shortest_edge": pixels}, crop_size={"height": pixels, "width": pixels}).save_pretrained(
        folder / TOWER
    )
    # transformers 4.46 - 4.52 masks by `sliding_window` (4096 by default) under SDPA, also where `use_sliding_window` is false.
    config = Qwen2Config(
        vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.intermediate,
        num_hidden_layers=size.layers, num_attention_heads=size.heads[0], num_key_value_heads=size.heads[1],
        max_position_embeddings=262144, sliding_window=262144, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    weights = dict(Qwen2ForCausalLM(config).state_dict())
    weights |= {f"model.vision_tower.vision_tower.{name}": value for name, value in tower.state_dict().items()}
    for layer, width in (("0", size.tower_hidden), ("2", size.hidden)):
        weights[f"model.mm_projector.{layer}.weight"] = torch.randn(size.hidden, width) * 0.02
        weights[f"model.mm_projector.{layer}.bias"] = torch.zeros(size.hidden)
    if "unpad" in FAMILY[family]["mm_patch_merge_type"]:
        weights["model.image_newline"] = torch.randn(size.hidden) * 0.02
    save_file(
        {name: value.contiguous() for name, value in weights.items()},
        folder / CHECKPOINT / "model.safetensors",
        {"format": "pt"},
    )
    values = config.to_dict() | {
        "model_type": "llava_qwen",
        "architectures": ["LlavaQwenForCausalLM"],
        "torch_dtype": "float32",
        "mm_vision_tower": str(folder / TOWER),
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": size.tower_hidden,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_spatial_pool_stride": 2,
        "mm_spatial_pool_out_channels": size.tower_hidden,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "square",
        "use_mm_proj": True,
        "add_faster_video": False,
        **FAMILY[family],
    }
    (folder / CHECKPOINT / "config.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
