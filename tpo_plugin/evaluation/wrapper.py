"""Which of lmms-eval's models a recipe runs, with what arguments: ours, or another such as `llava_vid` and `longva`."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import EvaluationError, RecipeError
from tpo_plugin.folders import adapter_base
from tpo_plugin.integrations.checkout import Checkout, code_digest, find_checkout
from tpo_plugin.integrations.lmms_eval import MODEL_ID, MODELS
from tpo_plugin.options import EvaluateRecipe, FrameOptions, NeedleRecipe

OURS_ONLY = {
    "frames": FrameOptions(),
    "dtype": "auto",
    "device": "auto",
    "attn_implementation": "sdpa",
    "unreadable": "error",
}  # with defaults
FROM_THE_RECIPE = {
    "pretrained": "models",
    "base": "models",
    "peft": "models",
    "batch_size": "batch_size",
    "max_frames_num": "frames.max",
    "fps": "frames.fps",
    "max_side": "frames.max_side",
    "max_pixels": "frames.max_pixels",
    "time_instruction": "frames.time_instruction",
    "dtype": "dtype",
    "device": "device",
    "attn_implementation": "attn_implementation",
    "unreadable": "unreadable",
    "upstream": "upstream",
}
# The package of LLaVA-NeXT or LongVA that a wrapper runs, and the variable of the environment that may name its checkout.
OF_CHECKOUTS = {
    "llava_video_tpo": ("llava", "TPO_LLAVA_NEXT"),
    "longva_tpo": ("longva", "TPO_LONGVA"),
    "llava_vid": ("llava", ""),
    "longva": ("longva", ""),
}
UNREAD = re.compile(rb"can not load, check the source|in loading video")  # llava_vid and longva go on without the video
LLAMA = re.compile("vicuna|yi")  # llava_vid looks for these in the whole path


def check_wrapper(recipe: EvaluateRecipe) -> None:
    """RecipeError for options that the recipe's wrapper would not see, or not understand; TPOError for a wrong `upstream`."""
    if recipe.wrapper in MODELS:
        _check_ours(recipe)
    else:
        _check_other(recipe)
    for key, value in recipe.wrapper_args.items():
        if value is None or set(str(value)) & set(",=\"'[]{}"):
            raise RecipeError(f"`wrapper_args.{key}` cannot be {value!r}: lmms-eval takes plain values")
    if recipe.upstream:
        find_checkout(recipe.upstream)


def _check_ours(recipe: EvaluateRecipe) -> None:
    if recipe.wrapper == MODEL_ID and recipe.upstream:
        raise RecipeError(f"`upstream` has no effect with the wrapper {MODEL_ID}: leave it out, or set `wrapper`")
    for key in recipe.wrapper_args:
        if key in FROM_THE_RECIPE:
            raise RecipeError(f"`wrapper_args.{key}` is `{FROM_THE_RECIPE[key]}` of the recipe")
    for name in ("max_side", "max_pixels"):
        if _shows_whole_frames(recipe) and getattr(recipe.frames, name) != getattr(FrameOptions(), name):
            raise RecipeError(f"`frames.{name}` has no effect with sampler=upstream, which shows whole frames")


def _check_other(recipe: EvaluateRecipe) -> None:
    for name, default in OURS_ONLY.items():
        if getattr(recipe, name) != default:
            raise RecipeError(
                f"`{name}` has no effect with the wrapper {recipe.wrapper}: use its own names in `wrapper_args`"
            )
    if "pretrained" in recipe.wrapper_args:
        raise RecipeError("`wrapper_args.pretrained`: `models` names the checkpoints")
    frames = recipe.wrapper_args.get("max_frames_num", 1)
    if not str(frames).isdecimal() or int(frames) < 1:
        raise RecipeError(f"`wrapper_args.max_frames_num` must be a whole number, 1 or more, it is {frames!r}")
    for label, checkpoint in recipe.models.items():
        _check_checkpoint(recipe.wrapper, label, checkpoint)


def _check_checkpoint(wrapper: str, label: str, checkpoint: str) -> None:
    path = place(checkpoint)
    if wrapper == "llava_vid" and (word := LLAMA.search(path.lower())):
        raise RecipeError(
            f"`models.{label}`: llava_vid scales the positions of a checkpoint with '{word[0]}' anywhere in its path ({path}), "
            "as if it were a Llama: move it to another folder"
        )
    if adapter_base(checkpoint):
        raise RecipeError(
            f"`models.{label}` is an adapter, which {wrapper} cannot load; merge it first: "
            f"tpo merge --upstream CHECKOUT {checkpoint} OUTPUT"
        )


def frame_counts(recipe: EvaluateRecipe) -> list[int | None]:
    """The numbers of frames that the recipe sweeps over; None where another wrapper than ours picks its own."""
    if recipe.sweep:
        return list(recipe.sweep)
    if recipe.wrapper in MODELS:
        return [recipe.frames.max]
    given = recipe.wrapper_args.get("max_frames_num")
    return [None if given is None else int(given)]


def model_arguments(recipe: EvaluateRecipe, checkpoint: str, frames: int | None) -> dict[str, Any]:
    """The wrapper's arguments (lmms-eval's `--model_args`) for this number of frames."""
    named = {"pretrained": place(checkpoint)}
    if recipe.wrapper not in MODELS:
        return named | recipe.wrapper_args | ({} if frames is None else {"max_frames_num": frames})
    base = adapter_base(checkpoint)
    return {
        **named,
        **({"base": place(base)} if base else {}),
        **({"upstream": str(Path(recipe.upstream).expanduser().absolute())} if recipe.upstream else {}),
        "fps": recipe.frames.fps,
        "max_frames_num": frames,
        **({} if _shows_whole_frames(recipe) else {"max_side": recipe.frames.max_side}),
        **({} if recipe.frames.max_pixels is None else {"max_pixels": recipe.frames.max_pixels}),
        "time_instruction": recipe.frames.time_instruction,
        "dtype": recipe.dtype,
        "device": recipe.device,
        "attn_implementation": recipe.attn_implementation,
        "unreadable": recipe.unreadable,
        **recipe.wrapper_args,
    }


def harness_upstream(recipe: EvaluateRecipe) -> str | None:
    """The checkout that the process must make importable: ours import theirs themselves."""
    if recipe.wrapper in MODELS or not recipe.upstream:
        return None
    return str(Path(recipe.upstream).expanduser().absolute())


def place(checkpoint: str) -> str:
    """A local checkpoint by its full path: lmms-eval works in another folder."""
    return str(Path(checkpoint).absolute()) if Path(checkpoint).is_dir() else checkpoint


def facts(recipe: EvaluateRecipe) -> dict[str, Any]:
    """What the results record of the wrapper and of the options that only ours have."""
    plain = {**recipes.to_plain(recipe), "frames": recipe.frames.plain()}
    wrapper = {"model": recipe.wrapper, "args": plain["wrapper_args"]}
    if checkout := upstream_of(recipe):
        wrapper["upstream"] = {"name": checkout.title, "commit": checkout.commit, "code": code_digest(checkout)}
    if recipe.wrapper not in MODELS:
        return {"wrapper": wrapper}
    return {**{name: plain[name] for name in OURS_ONLY}, "wrapper": {**wrapper, "class": MODELS[recipe.wrapper]}}


def upstream_of(recipe: EvaluateRecipe | NeedleRecipe) -> Checkout | None:
    """Upstream's code where the wrapper finds it: by the recipe, ours also by the environment, or an installed package.

    TPOError if ours find it nowhere; None for a wrapper that runs no code of LLaVA-NeXT or LongVA, or will not find it.
    """
    if recipe.wrapper not in OF_CHECKOUTS:
        return find_checkout(recipe.upstream) if recipe.upstream else None
    package, variable = OF_CHECKOUTS[recipe.wrapper]
    if not variable and not recipe.upstream and find_spec(package) is None:
        return None
    from tpo_plugin.evaluation.wrappers.llava import find_upstream

    return find_upstream(package, variable, recipe.upstream)


def wrapper_class(wrapper: str) -> type:
    """One of our wrappers' classes."""
    module, _, name = MODELS[wrapper].rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def check_log(log: Path, wrapper: str) -> None:
    """EvaluationError where the wrapper says in lmms-eval's log that it answered without a video."""
    if wrapper not in MODELS and UNREAD.search(log.read_bytes()):
        raise EvaluationError(f"{wrapper} could not read a video and went on without it; the log names it: {log}")


def _shows_whole_frames(recipe: EvaluateRecipe) -> bool:
    return recipe.wrapper_args.get("sampler") == "upstream"
