"""Which classes upstream's string tests make of a model path and of a tower path. Imports neither torch nor transformers.

LLaVA-NeXT and LongVA choose the model class from the *path as it is written* in the flag, lower-cased, when training, and from the
last part of it when loading; what config.json says does not count. `traps` tells where that goes wrong. Line numbers: LLaVA-NeXT
df17966, LongVA f4c8781.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

LLAMA, MISTRAL, MIXTRAL = "LlavaLlamaForCausalLM", "LlavaMistralForCausalLM", "LlavaMixtralForCausalLM"
QWEN, QWEN_MOE, GEMMA = "LlavaQwenForCausalLM", "LlavaQwenMoeForCausalLM", "LlavaGemmaForCausalLM"
LANGUAGE_ONLY = "AutoModelForCausalLM"  # loaded without image processor and without what a tower needs
CLIP, SIGLIP = "CLIPVisionTower", "SigLipVisionTower"

# What llava/model/__init__.py:3-10 and longva/model/__init__.py:3-8 import; naming another class is a NameError.
IMPORTED = {"llava": (LLAMA, QWEN, MISTRAL, MIXTRAL), "longva": (LLAMA, QWEN, MISTRAL)}
# Folder names that both the training script and the loader read as the class.
GOOD_NAMES = {LLAMA: "{}-vicuna", MISTRAL: "{}-mistral", MIXTRAL: "{}-mixtral", QWEN: "{}-qwen"}


@dataclass(frozen=True)
class Choice:
    """The class that a name selects (None: the test ends in an error) and the word in the name that decides."""

    name: str | None
    word: str = ""


def training_choice(path: str, package: str) -> Choice:
    """The class that `get_model` loads for `--model_name_or_path path`.

    Source: train_dpo.py:1382-1476 in both; `package` is `llava` or `longva` (only the latter knows the word `longva`, line 1432).
    """
    text = path.lower()
    qwen = ("qwen", "quyen", "longva") if package == "longva" else ("qwen", "quyen")
    rules = (
        (("mixtral",), MIXTRAL),
        (("mistral", "zephyr"), MISTRAL),
        (("wizardlm-2", "vicuna", "llama", "yi"), LLAMA),  # nous-hermes counts only with `wizard-2`
        (("nous-hermes",) if "wizard-2" in text else (), LLAMA),
        (qwen, QWEN_MOE if "moe" in text else QWEN),
        (("gemma",), GEMMA),
    )
    return _first(text, rules, Choice(None))


def evaluation_choice(path: str, package: str) -> Choice:
    """The class that `load_pretrained_model` loads without `model_base` for the name that it makes of `path`.

    Source: builder.py of both: LLaVA-NeXT 52 and 160-252, LongVA 48 and 156-232 (it knows no Qwen MoE).
    """
    text = model_name(path).lower()
    families = ("llava", "longva") if package == "longva" else ("llava",)
    if not any(word in text for word in families):
        return Choice(LANGUAGE_ONLY)
    rules = (
        (("mixtral",), MIXTRAL),
        (("mistral", "zephyr"), MISTRAL),
        (("wizardlm-2",) if "vicuna" in text else (), LLAMA),
        (("llama", "yi", "nous-hermes", "llava-v1.6-34b", "llava-v1.5"), LLAMA),
        (("qwen", "quyen"), QWEN_MOE if "moe" in text and package == "llava" else QWEN),
        (("gemma",), GEMMA),
    )
    return _first(text, rules, Choice(LLAMA))


def training_config(path: str) -> str:
    """The config class that `get_model` fills with overrides (`--rope_scaling_*`, all four `--mm_spatial_pool_*`, `--mm_resampler_type`).

    Its order is not that of the model classes: qwen comes first (train_dpo.py:1324-1338 in both).
    """
    rules = (
        (("qwen",), "LlavaQwenConfig"),
        (("mistral", "zephyr"), "LlavaMistralConfig"),
        (("wizardlm-2", "vicuna", "llama", "yi"), "LlavaConfig"),
    )
    text = path.lower()
    default = "LlavaConfig" if "nous-hermes" in text and "wizard-2" in text else "AutoConfig"
    return str(_first(text, rules, Choice(default)).name)


def training_class(path: str, package: str) -> str | None:
    """As `training_choice`: the class's name alone, None where the script raises `Unknown model class`."""
    return training_choice(path, package).name


def evaluation_class(path: str, package: str) -> str:
    """As `evaluation_choice`: the class's name alone."""
    return str(evaluation_choice(path, package).name)


def tower_class(tower: str, package: str) -> str | None:
    """The class that `build_vision_tower` builds; None where it raises `Unknown vision tower`. Here upper and lower case differ.

    Whatever exists on this disk, seen from the current folder, is CLIP: also a folder that is called like a hub name.
    Source: multimodal_encoder/builder.py: LLaVA-NeXT 13-41, LongVA 9-23 (CLIP alone). With `s2` in the config CLIP means its S2 kind.
    """
    if os.path.exists(tower) or tower.startswith(("openai", "laion")) or "ShareGPT4V" in tower:
        return CLIP
    if package == "longva":
        return None
    if "siglip" in tower:
        return SIGLIP
    if tower.startswith("hf:"):
        return "HFVisionTower"
    if tower == "imagebind_huge":
        return "ImageBindWrapper"
    if tower.startswith("open_clip_hub"):
        return "OpenCLIPVisionTower"
    return "MLCDVisionTower" if "mlcd-vit-bigG-patch14" in tower else None


def model_name(path: str) -> str:
    """What the loader takes for the model's name: the last folder, of a `checkpoint-N` also the one above.

    Source: get_model_name_from_path in mm_utils.py of both.
    """
    parts = path.strip("/").split("/")
    return "_".join(parts[-2:]) if parts[-1].startswith("checkpoint-") else parts[-1]


def good_name(wanted: str, package: str) -> str | None:
    """A folder name that selects the class `wanted` in training and loading; None if upstream imports no such class."""
    return GOOD_NAMES[wanted].format(package) if wanted in IMPORTED[package] else None


def part_with(path: str, word: str) -> str:
    """The folder name of `path` that holds `word` (the path itself if the word spans several)."""
    return next((part for part in path.split("/") if word in part.lower()), path)


def _first(text: str, rules: Sequence[tuple[Sequence[str], str]], default: Choice) -> Choice:
    """The class of the first rule with a word that is in `text`."""
    return next((Choice(name, word) for words, name in rules for word in words if word in text), default)
