"""Is a checkpoint in place: in its folder or in the hub's cache, complete, with its vision tower, and of a kind that the wrapper takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.cached import offline
from tpo_plugin.evaluation.wrapper import OF_CHECKOUTS
from tpo_plugin.folders import adapter_base, cached_file, check_local
from tpo_plugin.integrations.llava_family import names
from tpo_plugin.integrations.llava_family.checkpoints import read_config
from tpo_plugin.integrations.lmms_eval import MODEL_ID, MODELS
from tpo_plugin.options import EvaluateRecipe

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
CHANGES = ("mm_spatial_pool_mode", "mm_newline_position")  # wrapper_args that stand for values of the config


def check_model(recipe: EvaluateRecipe, checkpoint: str) -> str:
    """Where a checkpoint is, complete. TPOError if it is neither here nor could be fetched, lacks files, or is none for the wrapper."""
    check_local(checkpoint)
    base = adapter_base(checkpoint)
    if base is not None and not any((Path(checkpoint) / name).is_file() for name in ADAPTERS):
        raise EvaluationError(f"{checkpoint} holds no adapter's weights, {' or '.join(ADAPTERS)}: copy it again")
    said = _where(base or checkpoint)
    _check_kind(recipe, checkpoint, _config(checkpoint))
    if tower := vision_tower(checkpoint):
        said += f"; its vision tower {tower}: {_where_tower(recipe, tower)}"
    return said if base is None else f"an adapter on {base}, {said}"


def has_to_be_fetched(checkpoint: str) -> bool:
    """Whether the hub is asked for the checkpoint, for an adapter's base or for a vision tower that is not in the cache."""
    if not Path(adapter_base(checkpoint) or checkpoint).is_dir():
        return True
    tower = vision_tower(checkpoint)
    if tower is None or Path(tower).is_dir():
        return False
    kept = cached_file(tower)
    return kept is None or _problem(kept.parent) is not None


def vision_tower(checkpoint: str) -> str | None:
    """What a checkpoint of LLaVA-NeXT or LongVA builds its vision tower from, before it loads its own weights; None for all others."""
    tower = (_config(checkpoint) or {}).get("mm_vision_tower")
    return tower if isinstance(tower, str) else None


def _config(checkpoint: str) -> dict[str, Any] | None:
    """What config.json says, of an adapter its own or its base's; None where it is not on this machine."""
    base = adapter_base(checkpoint)
    return read_config(checkpoint) or (read_config(base) if base else None)


def _check_kind(recipe: EvaluateRecipe, checkpoint: str, config: dict[str, Any] | None) -> None:
    """What our wrappers refuse, and say of it."""
    if config is None or recipe.wrapper not in MODELS:
        return
    if recipe.wrapper == MODEL_ID:
        from tpo_plugin.evaluation.wrappers.hf import check_family

        check_family(checkpoint, config.get("model_type"))
        return
    from tpo_plugin.integrations.llava_family.model import check_config

    changes = {name: value for name, value in recipe.wrapper_args.items() if name in CHANGES}
    check_config({**config, **changes}, checkpoint, OF_CHECKOUTS[recipe.wrapper][0])


def _where_tower(recipe: EvaluateRecipe, tower: str) -> str:
    package, _ = OF_CHECKOUTS.get(recipe.wrapper, ("llava", ""))
    kind = names.tower_class(tower, package)
    if kind is None:
        raise EvaluationError(
            f"config.json names the vision tower {tower}, which is not there and which the package {package} does not know: "
            "mend its `mm_vision_tower`"
        )
    return _where(tower) if kind in (names.CLIP, names.SIGLIP) else "not looked for"


def _where(name: str) -> str:
    """The complete folder of a model, or that it will be fetched. TPOError if it lacks something and cannot be."""
    check_local(name)
    folder = Path(name)
    if folder.is_dir():
        if problem := _problem(folder):
            raise EvaluationError(f"{problem}: copy or fetch it again")
        return f"complete in {folder}"
    kept = cached_file(name)
    problem = f"{name} is not in the hub cache" if kept is None else _problem(kept.parent)
    if kept is not None and problem is None:
        return f"complete in {kept.parent}"
    if offline():
        raise EvaluationError(f"{problem}, and the environment says offline: hf download {name}")
    return "on the hub; fetched by the first cell"


def _problem(folder: Path) -> str | None:
    """What a model's folder lacks: its config, or weights, by their index where there is one."""
    if read_config(str(folder)) is None:
        return f"{folder} holds no model: config.json is missing or broken"
    for index in sorted(folder.glob("*.index.json")):
        weights = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in weights if not (folder / name).is_file()]
        return f"{folder} lacks {missing[0]} ({len(missing)} files)" if missing else None
    if not any(file.is_file() for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern)):
        return f"{folder} holds no weights, neither *.safetensors nor *.bin"
    return None
