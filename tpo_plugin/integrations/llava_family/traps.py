"""Where upstream's tests of names, and a checkpoint's config.json, make a run fail or load something else. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from tpo_plugin.integrations.llava_family import names
from tpo_plugin.integrations.llava_family.checkpoints import expected_class, is_port, read_config

CONFIGS = {  # the class that the path must select for the config; MIXTRAL's is found by its model_type
    names.LLAMA: "LlavaConfig",
    names.MISTRAL: "LlavaMistralConfig",
    names.MIXTRAL: "AutoConfig",
    names.QWEN: "LlavaQwenConfig",
}
POOLING_FLAGS = ("mm_resampler_type", "mm_spatial_pool_mode", "mm_spatial_pool_stride", "mm_spatial_pool_out_channels")
POOL_MODES = {"llava": ("average", "max", "bilinear"), "longva": ("average", "max")}
TOKENS_PER_FRAME = {"llava": 210, "longva": 144}  # SigLIP 384 px: 14 rows of 14 + newline; CLIP 336 px: 12 x 12
FEW_FRAMES = 64
SIGLIP_SHAPE = {"hidden_size": 1152, "image_size": 384, "patch_size": 14}


@dataclass(frozen=True)
class Trap:
    """What goes wrong, the cure, and the upstream line. `repair`: the name of the repair that makes up for it with --tpo."""

    what: str
    cure: str
    source: str
    fatal: bool = True
    repair: str | None = None


def traps(model: str | None, tower: str | None, package: str, pooling: bool = False) -> list[Trap]:
    """What is wrong with a checkpoint and a vision tower, as they would be written in the script's flags, for `llava` or `longva`.

    `pooling`: whether the flags put it into the config, which takes all four of POOLING_FLAGS (train_dpo.py:1354).
    What their config.json files say is looked up on the disk and in the hub's cache; for others the names alone are judged.
    """
    if model is None:
        return list(_tower_traps(tower, package)) if tower else []
    config = read_config(model)
    found = [*_class_traps(model, config, package), *_loading_traps(model, config, package)]
    if config is not None:
        found += [*_config_traps(config, package, pooling), *_length_traps(config, package)]
    built = (config or {}).get("mm_vision_tower")
    if built and tower and built != tower:
        found.append(
            Trap(
                f"--vision_tower {tower} is not used: the checkpoint's config.json names {built}, and that is built",
                "give the same tower in both, or change mm_vision_tower in config.json",
                "llava_arch.py:38-41, 64-82",
                fatal=False,
            )
        )
    if built or tower:
        found += _tower_traps(built or str(tower), package)
    return [*found, *_tokenizer_traps(model, config)]


def _class_traps(model: str, config: dict[str, Any] | None, package: str) -> Iterator[Trap]:
    """What `get_model` makes of the path."""
    source = "train_dpo.py:1382-1476"
    if not Path(model).is_dir() and model.count("/") != 1:
        yield Trap(f"there is no checkpoint folder at {model}", "mend the path", source)
        return
    if config is not None and is_port(config):
        kind = ", ".join(config["architectures"])
        cure = "train it with `tpo train RECIPE` (no checkout), or take the checkpoint that upstream published"
        yield Trap(f"{model} is a Hugging Face model ({kind}), which the script cannot load", cure, source)
        return
    choice = names.training_choice(model, package)
    wanted = expected_class(config) if config is not None else None
    if choice.name is None:
        yield Trap(
            f"the script stops: no word in {model} tells it a model class", _rename(model, wanted, package), source
        )
    elif choice.name not in names.IMPORTED[package]:
        moe = " and 'moe' in it" if choice.name == names.QWEN_MOE else ""
        what = f"the script takes {model} for {choice.name}, because of '{choice.word}'{moe}, and does not import that: NameError"
        yield Trap(what, _rename(model, wanted, package), f"{package}/model/__init__.py")
    elif wanted is not None and choice.name != wanted:
        what = (
            f"the script takes {model} for {choice.name}, because of '{choice.word}' in "
            f"'{names.part_with(model, choice.word)}'; its config.json says {wanted}: weights are dropped or made up, "
            "without an error"
        )
        yield Trap(what, _rename(model, wanted, package), source)
    elif names.training_config(model) not in (CONFIGS[choice.name], "AutoConfig"):
        what = (
            f"with overrides such as --rope_scaling_factor the script gives {choice.name} a {names.training_config(model)}, "
            f"because of 'qwen' in {model}"
        )
        yield Trap(what, _rename(model, choice.name, package), "train_dpo.py:1324-1365", fatal=False)


def _loading_traps(model: str, config: dict[str, Any] | None, package: str) -> Iterator[Trap]:
    """What `load_pretrained_model` makes of the folder's name; training does not call it."""
    wanted = expected_class(config) if config is not None else None
    choice = names.evaluation_choice(model, package)
    if wanted is None or is_port(config or {}) or choice.name == wanted:
        return
    name = names.model_name(model)
    how = (
        "as a bare language model, without image processor"
        if choice.name == names.LANGUAGE_ONLY
        else f"as {choice.name}, and its config.json says {wanted}"
    )
    yield Trap(
        f"upstream's loader (evaluation) loads a folder called {name} {how}",
        _rename(model, wanted, package),
        "model/builder.py",
        fatal=False,
    )


def _rename(model: str, wanted: str | None, package: str) -> str:
    """How to call the checkpoint so that the right class is chosen."""
    name = names.good_name(wanted or names.QWEN, package)
    if name is None:
        return f"{wanted} is none of the classes that {package} imports: use another checkpoint"
    path = Path(model)
    right = [names.training_class(path.name, package), names.evaluation_class(path.name, package)]
    if path.is_dir() and right == [wanted, wanted]:
        return f"the text of the flag decides: run from {path.resolve().parent} and give {path.name} alone"
    local = quote(str(path.resolve())) if path.is_dir() else f"FOLDER_OF_{path.name}"
    return f"give it another name, without moving it: ln -s {local} {name}; then pass {name} (from the link's folder)"


def _config_traps(config: dict[str, Any], package: str, pooling: bool) -> Iterator[Trap]:
    """What llava_arch.py reads from the config when it meets a video."""
    merge = config.get("mm_patch_merge_type", "flat")
    other = {"llava": "LongVA", "longva": "LLaVA-NeXT"}[package]
    if merge.startswith({"llava": "unires", "longva": "spatial"}[package]):
        what = f"config.json joins patches by {merge} (mm_patch_merge_type), which only {other} knows"
        yield Trap(what, f"train it with a checkout of {other}", "llava_arch.py, prepare_inputs_labels_for_multimodal")
    if not pooling:
        yield from _pooling_traps(config, package)
    if package == "longva":
        return
    cure = 'write "add_faster_video": false into config.json'
    if "add_faster_video" not in config:
        yield Trap(
            "config.json lacks add_faster_video (AttributeError)", cure, "llava_arch.py:97-98", repair="config_defaults"
        )
    if config.get("add_faster_video") and config.get("mm_newline_position") == "grid":
        yield Trap("add_faster_video true is a NameError at the first video", cure, "llava_arch.py:315-316")


def _pooling_traps(config: dict[str, Any], package: str) -> Iterator[Trap]:
    """How frames are pooled: LLaVA-NeXT by 2, LongVA by mm_spatial_pool_stride."""
    mode, modes, stride = config.get("mm_spatial_pool_mode"), POOL_MODES[package], config.get("mm_spatial_pool_stride")
    where = "llava_arch.py:177-187" if package == "llava" else "llava_arch.py:169-174"
    if mode not in modes:
        said = (
            f"has mm_spatial_pool_mode {mode!r} (ValueError" if mode else "lacks mm_spatial_pool_mode (AttributeError"
        )
        cure = (
            f'write "mm_spatial_pool_mode" into config.json, as the checkpoint was trained: one of {", ".join(modes)}'
        )
        yield Trap(f"config.json {said} at the first video)", cure, where)
    if package == "longva" and not stride:
        cure = 'write "mm_spatial_pool_stride": 2 into config.json'
        yield Trap("config.json lacks mm_spatial_pool_stride (an error at the first video)", cure, where)
    if package == "llava" and stride not in (None, 2):
        what = f"mm_spatial_pool_stride {stride} is not used for videos: they are pooled by 2"
        cure = "none is needed, if 2 is what the checkpoint was trained with"
        yield Trap(what, cure, "llava_arch.py:171, 288", fatal=False)


def _length_traps(config: dict[str, Any], package: str) -> Iterator[Trap]:
    """Sequences are cut at `tokenizer_model_max_length`; the script sets it from --model_max_length, a loader does not."""
    length = config.get("tokenizer_model_max_length")
    if isinstance(length, int) and length < FEW_FRAMES * TOKENS_PER_FRAME[package]:
        frames = length // TOKENS_PER_FRAME[package]
        what = f"upstream's loader (evaluation, curation) cuts prompts at {length} tokens: about {frames} frames, then the question goes"
        cure = "raise tokenizer_model_max_length in config.json, or use fewer frames"
        yield Trap(what, cure, "llava_arch.py:496-500" if package == "llava" else "llava_arch.py:352", fatal=False)


def _tower_traps(tower: str, package: str) -> Iterator[Trap]:
    """What `build_vision_tower` makes of the tower that will be built."""
    source = "multimodal_encoder/builder.py"
    chosen, config = names.tower_class(tower, package), read_config(tower)
    kind = str((config or {}).get("model_type", ""))
    if package == "longva" and ("siglip" in kind or (chosen is None and "siglip" in tower)):
        yield Trap(f"LongVA knows CLIP towers alone, {tower} is SigLIP", "use LongVA's own tower", source)
    elif chosen is None:
        cure = (
            "mend the path, or the checkpoint's mm_vision_tower"
            if "/" in tower
            else "give an existing folder or a hub name"
        )
        yield Trap(f"the script stops: unknown vision tower {tower}", cure, source)
    elif chosen == names.CLIP and "siglip" in kind:
        what = f"a tower on the disk is taken for CLIP, and {tower} is SigLIP: loading it is a size mismatch"
        yield Trap(what, _siglip_cure(tower), f"{source}:17")
    elif chosen == names.SIGLIP and config is not None:
        vision = config.get("vision_config", config)
        wrong = {key: vision[key] for key, value in SIGLIP_SHAPE.items() if vision.get(key, value) != value}
        if wrong:
            said = ", ".join(f"{key} {value}" for key, value in wrong.items())
            fixed = ", ".join(f"{key} {value}" for key, value in SIGLIP_SHAPE.items())
            what = f"{tower} has {said}; the script's SigLIP is fixed at {fixed}"
            yield Trap(what, "use google/siglip-so400m-patch14-384", "multimodal_encoder/siglip_encoder.py:73-101")


def _siglip_cure(tower: str) -> str:
    path = Path(tower)
    if not path.is_absolute() and tower.count("/") == 1:
        return f"the folder {path.resolve()} hides the hub's {tower}: run from another folder"
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    hub = quote(str(Path(home, "hub", "models--google--siglip-so400m-patch14-384")))
    return (
        "pass google/siglip-so400m-patch14-384, and where there is no network lay the folder out as the hub's cache: "
        f"mkdir -p {hub}/refs {hub}/snapshots; printf local > {hub}/refs/main; ln -s {quote(str(path.resolve()))} {hub}/snapshots/local; "
        "export HF_HUB_OFFLINE=1"
    )


def _tokenizer_traps(model: str, config: dict[str, Any] | None) -> Iterator[Trap]:
    """`preprocess_qwen` unpacks exactly two additional special tokens."""
    if config is None or expected_class(config) != names.QWEN:
        return
    tokenizer = read_config(model, "tokenizer_config.json") or {}
    special = tokenizer.get("additional_special_tokens")
    if special is not None and len(special) != 2:
        what = f"the tokenizer has {len(special)} additional special tokens, the script's chat template needs 2 (ValueError)"
        cure = 'keep "<|im_start|>" and "<|im_end|>" alone in additional_special_tokens of tokenizer_config.json'
        yield Trap(what, cure, "train_dpo.py:570", repair="special_tokens")
