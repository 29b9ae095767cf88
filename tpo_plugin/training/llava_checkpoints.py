"""LoRA checkpoints of LLaVA-NeXT's and LongVA's DPO trainer, in the layout of upstream's final save."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from tpo_plugin.integrations.llava_family.repairs import OTHER_WEIGHTS


class LoraCheckpoints:
    """With LoRA, a checkpoint is the adapter, the other trained weights and the config, and nothing but these is trained."""

    args: Any
    model: Any

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs["args"].lora_enable:
            _train_adapters_only(model)
        super().__init__(model, *args, **kwargs)  # type: ignore[call-arg]

    def _save_checkpoint(self, model: Any, trial: Any, metrics: Any = None) -> None:
        if self.args.lora_enable or not _saves_projector_alone(self.args):
            Trainer._save_checkpoint(self, model, trial)  # type: ignore[arg-type]
        else:
            super()._save_checkpoint(model, trial, metrics)  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        if self.args.lora_enable:
            folder = Path(output_dir or self.args.output_dir)
            own = dict(beside_adapters(self.model))
            held = own if state_dict is None else {name: state_dict[name] for name in own}
            torch.save({name: value.detach().cpu() for name, value in held.items()}, folder / OTHER_WEIGHTS)
            self.model.config.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.args.lora_enable:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        # transformers asks for the active adapters, which peft 0.4 takes for a method of the model's own (trainer.py:2713 of 4.45).
        from peft import set_peft_model_state_dict

        folder = Path(resume_from_checkpoint)
        set_peft_model_state_dict(self.model, _read_adapter(folder))
        saved = torch.load(folder / OTHER_WEIGHTS, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, weight in beside_adapters(self.model):
                weight.copy_(saved[name])


def _train_adapters_only(model: Any) -> None:
    """Freeze the language model itself: LongVA's script unfreezes it beside its adapters (train_dpo.py:1684)."""
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.requires_grad_(True)
        elif part(name) == "language_model":
            weight.requires_grad_(False)


def _saves_projector_alone(args: Any) -> bool:
    """Whether upstream writes nothing but the projector into a checkpoint (only it, or the resampler, is trained)."""
    parts = getattr(args, "mm_tunable_parts", None) or ""
    return bool(getattr(args, "tune_mm_mlp_adapter", False)) or parts in ("mm_mlp_adapter", "mm_vision_resampler")


def beside_adapters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The trained parameters that belong to no adapter, by name."""
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name)


def _read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's weights in a checkpoint, in either of peft's formats."""
    if (folder / "adapter_model.safetensors").is_file():
        from safetensors.torch import load_file

        return load_file(folder / "adapter_model.safetensors")
    weights: dict[str, torch.Tensor] = torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)
    return weights


def part(name: str) -> str:
    """The part of the model that a parameter belongs to, as the script's trainable parts name it."""
    return next(
        (part for part in ("mm_projector", "vision_resampler", "vision_tower") if part in name), "language_model"
    )
