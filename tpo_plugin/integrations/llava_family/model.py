"""LLaVA-NeXT's and LongVA's Qwen2 models: loading a checkpoint with upstream's own class.

Upstream's `load_pretrained_model` is not used: it chooses the class by the checkpoint's name, stops in a debugger for float32 and takes
every device but `auto` for CUDA (builder.py:26-46, 293 in LLaVA-NeXT).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import adapter_base, check_local
from tpo_plugin.integrations.checkout import Checkout, find_checkout, upstreams
from tpo_plugin.integrations.devices import pick_device
from tpo_plugin.integrations.llava_family.repairs import OTHER_WEIGHTS, repair_imports

MODEL_TYPE = "llava_qwen"


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode with its tokenizer and the upstream package (`llava` | `longva`) that it is made of."""

    package: str
    model: Any
    tokenizer: Any


def load(
    checkpoint: str,
    upstream: str | Checkout,
    dtype: str,
    device: str,
    attn_implementation: str,
    base: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Loaded:
    """The checkpoint with the classes of the checkout at `upstream`, its adapter merged if the folder holds one.

    `dtype` is `auto` (the checkpoint's) or a torch dtype's name, `base` what an adapter belongs on (default: what it names itself), `changes`
    replaces values of the checkpoint's config. Raises TPOError for what the user can mend.
    """
    checkout = upstream if isinstance(upstream, Checkout) else find_checkout(upstream)
    changes = changes or {}
    check_checkpoint(checkpoint, checkout.package, base, changes)
    cls = _import(checkout, "model.language_model.llava_qwen").LlavaQwenForCausalLM
    from transformers import AutoTokenizer

    base = base or adapter_base(checkpoint) or checkpoint
    configured = checkpoint if (Path(checkpoint) / "config.json").is_file() else base
    precision = dtype if dtype == "auto" else getattr(torch, dtype)
    try:
        plain = cls.config_class.get_config_dict(configured)[0]
        check_config({**plain, **changes}, configured, checkout.package)
        config = cls.config_class.from_pretrained(configured)
        for name, value in changes.items():
            setattr(config, name, value)
        tokenizer = AutoTokenizer.from_pretrained(base)
        model, found = cls.from_pretrained(
            base,
            config=config,
            torch_dtype=precision,
            attn_implementation=attn_implementation,
            output_loading_info=True,
        )
        tower = _with_weights(model, found["missing_keys"])
    except (OSError, ValueError) as error:
        raise TPOError(f"cannot load {base} with {checkout.title}'s model class: {error}") from None
    tower.to(dtype=model.get_input_embeddings().weight.dtype)
    if base != checkpoint:
        model = _with_adapter(model, Path(checkpoint))
    model.config.tokenizer_padding_side = "left"  # read where upstream pads a batch with its frames in place
    return Loaded(checkout.package, model.to(pick_device(device)).eval(), tokenizer)


def check_checkpoint(
    checkpoint: str, package: str, base: str | None = None, changes: Mapping[str, Any] | None = None
) -> None:
    """TPOError if this folder's config (its own or its adapter's base's), with `changes`, cannot run with `package`'s classes; a hub name passes."""
    check_local(checkpoint)
    base = base or adapter_base(checkpoint) or checkpoint
    check_local(base)
    for folder in (Path(checkpoint), Path(base)):
        if (folder / "config.json").is_file():
            plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            check_config({**plain, **(changes or {})}, str(folder), package)
            return


def check_config(config: Mapping[str, Any], checkpoint: str, package: str) -> None:
    """TPOError if a checkpoint with this config.json cannot answer about videos with `package`'s classes."""
    if config.get("model_type") != MODEL_TYPE:
        raise TPOError(
            f"{checkpoint} is a {config.get('model_type')} model; LLaVA-NeXT's and LongVA's classes take {MODEL_TYPE} checkpoints "
            "(LLaVA-Video, LLaVA-OneVision, LongVA). Use type `hf` (in lmms-eval: tpo_hf) for Hugging Face ports"
        )
    merge = config.get("mm_patch_merge_type", "flat")
    fits = upstreams()["longva" if merge == "unires" else "llava_next"]
    if fits["package"] != package:
        raise TPOError(
            f"{checkpoint} joins patches by `{merge}` (mm_patch_merge_type): its `upstream` must be a checkout of {fits['title']}"
        )
    if "mm_spatial_pool_mode" not in config:
        raise TPOError(
            f"{checkpoint}/config.json has no `mm_spatial_pool_mode`, which videos need: set the one that it was trained with "
            "(average, max or bilinear)"
        )
    if config.get("add_faster_video"):
        raise TPOError(
            f"{checkpoint}/config.json says `add_faster_video: true`, which {fits['title']} cannot run "
            "(all_faster_video_features in llava_arch.py is never set); take another checkpoint"
        )


def _import(checkout: Checkout, module: str) -> Any:
    """A module of the checkout's package; TPOError if something else holds that name, or it cannot be imported here."""
    for other in upstreams().values():
        if other["package"] != checkout.package and other["package"] in sys.modules:
            raise TPOError(
                f"this process has loaded {other['title']} already, and the two register the same model types: "
                "use one of them in a recipe"
            )
    repair_imports(checkout.package)
    sys.path.insert(0, str(checkout.root))
    try:
        found = importlib.import_module(f"{checkout.package}.{module}")
    except ImportError as error:
        raise TPOError(
            f"cannot import {checkout.title} from {checkout.root}: {error}. The cause may be printed above (`Failed to import`, "
            f"{checkout.package}/model/__init__.py hides it); `tpo doctor {checkout.path}` lists what is needed"
        ) from error
    finally:
        sys.path.remove(str(checkout.root))
    if not Path(str(found.__file__)).resolve().is_relative_to(checkout.root.resolve()):
        raise TPOError(f"{checkout.package} comes from {found.__file__}, not from {checkout.root}: start a new process")
    return found


def _with_weights(model: Any, missing: Sequence[str]) -> Any:
    """The model's vision tower, from its own place if the checkpoint holds nothing of it; ValueError if weights are `missing`.

    Upstream loads the tower while the model is being made, where newer transformers gives tensors no content: again, then.
    """
    tower, lacking = model.get_vision_tower(), set(missing)
    names = {name for name, _ in model.named_parameters() if ".vision_tower." in name}
    if names <= lacking:
        tower.is_loaded = False
        tower.load_model()
        lacking -= names
    if lacking:
        raise ValueError(f"the checkpoint lacks {len(lacking)} weights, the first is {min(lacking)}")
    return tower


def _with_adapter(model: Any, folder: Path) -> Any:
    """`model` with the weights that a DPO script saved in `folder`: those beside the adapter, then the adapter, merged."""
    if (folder / OTHER_WEIGHTS).is_file():
        weights = torch.load(folder / OTHER_WEIGHTS, map_location="cpu", weights_only=True)
        weights = {name.removeprefix("base_model.model."): tensor for name, tensor in weights.items()}
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise TPOError(
                f"{folder / OTHER_WEIGHTS} does not belong to this model: it has no {', '.join(unknown[:3])}"
            )
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
