"""Which of lmms-eval's models a recipe runs, with what arguments: ours, or another such as `llava_vid` and `longva`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import EvaluationError, RecipeError
from tpo_plugin.folders import adapter_base
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.lmms_eval import MODEL_CLASS, MODEL_ID
from tpo_plugin.options import EvaluateRecipe, FrameOptions

OURS_ONLY = {
    "frames": FrameOptions(),
    "dtype": "auto",
    "device": "auto",
    "attn_implementation": "sdpa",
}  # with defaults
UNREAD = re.compile(rb"can not load, check the source|in loading video")  # llava_vid and longva go on without the video
LLAMA = re.compile("vicuna|yi")  # llava_vid looks for these in the whole path


def check_wrapper(recipe: EvaluateRecipe) -> None:
    """RecipeError for options that the recipe's wrapper would not see, or not understand; TPOError for a wrong `upstream`."""
    if recipe.wrapper == MODEL_ID:
        for name in ("wrapper_args", "upstream"):
            if getattr(recipe, name):
                raise RecipeError(f"`{name}` has no effect with the wrapper {MODEL_ID}: leave it out, or set `wrapper`")
        return
    for name, default in OURS_ONLY.items():
        if getattr(recipe, name) != default:
            raise RecipeError(
                f"`{name}` has no effect with the wrapper {recipe.wrapper}: use its own names in `wrapper_args`"
            )
    for key, value in recipe.wrapper_args.items():
        if key == "pretrained" or value is None or set(str(value)) & set(",=\"'[]{}"):
            raise RecipeError(
                f"`wrapper_args.{key}` cannot be {value!r}: lmms-eval takes plain values, and `models` names the checkpoints"
            )
    for label, checkpoint in recipe.models.items():
        _check_checkpoint(recipe.wrapper, label, checkpoint)
    if recipe.upstream:
        find_checkout(recipe.upstream)


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


def model_arguments(recipe: EvaluateRecipe, checkpoint: str) -> dict[str, Any]:
    """The wrapper's arguments (lmms-eval's `--model_args`)."""
    named = {"pretrained": place(checkpoint)}
    if recipe.wrapper != MODEL_ID:
        return named | recipe.wrapper_args
    base = adapter_base(checkpoint)
    return {
        **named,
        **({"base": place(base)} if base else {}),
        "fps": recipe.frames.fps,
        "max_frames_num": recipe.frames.max,
        "max_side": recipe.frames.max_side,
        "time_instruction": recipe.frames.time_instruction,
        "dtype": recipe.dtype,
        "device": recipe.device,
        "attn_implementation": recipe.attn_implementation,
    }


def place(checkpoint: str) -> str:
    """A local checkpoint by its full path: lmms-eval works in another folder."""
    return str(Path(checkpoint).absolute()) if Path(checkpoint).is_dir() else checkpoint


def facts(recipe: EvaluateRecipe) -> dict[str, Any]:
    """What the results record of the wrapper and of the options that only ours has."""
    plain = recipes.to_plain(recipe)
    if recipe.wrapper == MODEL_ID:
        return {**{name: plain[name] for name in OURS_ONLY}, "wrapper": {"model": MODEL_ID, "class": MODEL_CLASS}}
    wrapper = {"model": recipe.wrapper, "args": plain["wrapper_args"]}
    if recipe.upstream:
        checkout = find_checkout(recipe.upstream)
        wrapper["upstream"] = {"name": checkout.title, "commit": checkout.commit}
    return {"wrapper": wrapper}


def check_log(log: Path, wrapper: str) -> None:
    """EvaluationError where the wrapper says in lmms-eval's log that it answered without a video."""
    if wrapper != MODEL_ID and UNREAD.search(log.read_bytes()):
        raise EvaluationError(f"{wrapper} could not read a video and went on without it; the log names it: {log}")
