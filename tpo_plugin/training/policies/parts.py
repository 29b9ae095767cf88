"""The parts of a Hugging Face video LMM, and which of them learn.

Parts are found by the model's structure, so a new family either fits one of the known forms or is refused.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from torch import nn

from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.options import LoraOptions

logger = logging.getLogger(__name__)

PARTS = ("projector", "language_model", "vision_tower")
# (tower, projector) by module path: LlavaOnevision and other LLaVA ports; Qwen2-VL and Qwen2.5-VL.
FORMS = (("model.vision_tower", "model.multi_modal_projector"), ("model.visual", "model.visual.merger"))


def find_parts(model: nn.Module) -> tuple[str, str]:
    """The module paths of the vision tower and of the projector (which may lie inside it); TPOError if they are not found."""
    names = {name for name, _ in model.named_modules()}
    for tower, projector in FORMS:
        if {tower, projector, "model.language_model"} <= names:
            return tower, projector
    raise TPOError(
        f"cannot tell tower, projector and language model of {type(model).__name__} apart; supported are LlavaOnevision, "
        "Qwen2-VL and Qwen2.5-VL checkpoints"
    )


def part_of(parameter: str, tower: str, projector: str) -> str:
    """The part that a parameter belongs to. What is neither tower nor projector (embeddings, head, newline token) is the
    language model's, as under LLaVA-NeXT's `mm_tunable_parts`."""
    if parameter.startswith(projector + "."):
        return "projector"
    return "vision_tower" if parameter.startswith(tower + ".") else "language_model"


def check_trainable(trainable: tuple[str, ...], lora: LoraOptions | None) -> None:
    """RecipeError for a choice of parts that cannot be trained."""
    unknown = [part for part in trainable if part not in PARTS]
    if unknown or not trainable:
        raise RecipeError(f"`trainable` names {list(trainable)}; choose from {', '.join(PARTS)}")
    if lora and "language_model" not in trainable:
        raise RecipeError("`lora` adapts the language model: add `language_model` to `trainable`, or leave `lora` out")


def set_trainable(model: nn.Module, trainable: tuple[str, ...]) -> None:
    """Let the parameters of the `trainable` parts learn and freeze the others."""
    tower, projector = find_parts(model)
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = part_of(name, tower, projector)
        parameter.requires_grad_(part in trainable)
        counts[part] += parameter.numel()
    for part, count in counts.items():
        logger.info("%s: %.2f M parameters, %s", part, count / 1e6, "trained" if part in trainable else "frozen")


def parts_in_full(trainable: tuple[str, ...], lora: LoraOptions | None) -> list[str]:
    """Those of the `trainable` parts whose own weights learn, and no adapters."""
    adapted = (
        set() if lora is None else {"language_model", *(["vision_tower"] if lora.vision_tower == "adapters" else [])}
    )
    return [part for part in trainable if part not in adapted]


def lora_config(model: nn.Module, options: LoraOptions, trainable: tuple[str, ...]) -> Any:
    """Adapters on the language model's layers (other parts have a `q_proj` too), and if asked for on the tower's; what else learns is trained
    in full.

    RecipeError if a target module does not exist in the language model, and for a tower that learns in full around a frozen projector
    (Qwen-VL).
    """
    from peft import LoraConfig

    tower, projector = find_parts(model)
    in_full = parts_in_full(trainable, options)
    full = [path for part, path in (("vision_tower", tower), ("projector", projector)) if part in in_full]
    if projector.startswith(tower + ".") and tower in full:
        if projector not in full:
            raise RecipeError(
                f"the projector of {type(model).__name__} is a part of its tower, and the tower is trained as a whole: add `projector` to "
                "`trainable`, set `lora.vision_tower: adapters`, or leave `lora` out"
            )
        full = [tower]
    inside = {name.rpartition(".")[2] for name, _ in model.get_submodule("model.language_model").named_modules()}
    missing = [name for name in options.target_modules if name not in inside]
    if missing:
        raise RecipeError(
            f"`lora.target_modules`: no {', '.join(missing)} in the language model of {type(model).__name__}"
        )
    targets = [rf"model\.language_model\..*\.({'|'.join(map(re.escape, options.target_modules))})"]
    if "vision_tower" in trainable and "vision_tower" not in in_full:
        targets += _linear_layers(model, tower, projector)
    return LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules="|".join(targets),
        modules_to_save=full or None,
        task_type="CAUSAL_LM",
    )


def _linear_layers(model: nn.Module, tower: str, projector: str) -> list[str]:
    """Expressions for the names of the tower's linear layers; a block's number stands for all."""
    names = [
        name
        for name, module in model.named_modules()
        # No subclass: a MultiheadAttention reads its `out_proj`'s weight past any adapter.
        if type(module) is nn.Linear and name.startswith(tower + ".") and not name.startswith(projector + ".")
    ]
    parts = (r"\.".join(r"\d+" if part.isdigit() else re.escape(part) for part in name.split(".")) for name in names)
    return list(dict.fromkeys(parts))
