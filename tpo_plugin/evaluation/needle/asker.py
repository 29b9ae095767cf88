"""Who is asked: one of our lmms-eval models, with a vision tower that remembers."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tpo_plugin import recipe as recipes
from tpo_plugin.checks import at_least
from tpo_plugin.errors import RecipeError
from tpo_plugin.evaluation.common import check_models, releases
from tpo_plugin.evaluation.needle.grid import Key, check_grid
from tpo_plugin.evaluation.needle.haystack import Scenery
from tpo_plugin.evaluation.needle.memory import TowerMemory
from tpo_plugin.evaluation.wrapper import upstream_of
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.checkout import code_digest
from tpo_plugin.integrations.lmms_eval import MODELS
from tpo_plugin.options import FrameOptions, NeedleRecipe

HUGGING_FACE = "tpo_hf"
# Of the wrappers' arguments: what the recipe has itself, the checkpoint under `models`, and what has no effect on given frames.
CHECKPOINT = ("pretrained", "peft", "base")
OWN = ("upstream", "dtype", "device", "attn_implementation")
UNUSED = ("max_frames_num", "fps", "max_side", "max_pixels", "batch_size", "unreadable", "sampler", "force_sample")
SETTINGS = (
    "prompt",
    "max_new_tokens",
    "needle_frames",
    "wrapper",
    "wrapper_args",
    "dtype",
    "device",
    "attn_implementation",
)
FACTS_UNUSED = (*UNUSED, "max_new_tokens", "checkpoint", "peft")


@dataclass(frozen=True)
class Written:
    """Token ids and their text after a prompt of `prompt_tokens` tokens."""

    ids: list[int]
    text: str
    prompt_tokens: int


class Asker(Protocol):
    """A loaded model. `unit` is how many frames its tower joins, `facts` what of it can change a number."""

    unit: int
    memory: TowerMemory
    frame_options: FrameOptions
    facts: dict[str, Any]

    def answer_ids(self, answer: str) -> list[int]:
        """The answer's token ids."""

    def ask(self, keys: Sequence[Key], clip: Prompt, texts: Sequence[str], new_tokens: int) -> Written:
        """What greedy decoding writes when it is asked the clip's text about the frames `keys`.

        The clip's own frames are not looked at. `texts` are all that are asked about so many frames, the clip's among them.
        """


def check(recipe: NeedleRecipe) -> None:
    """RecipeError for a recipe that cannot run."""
    check_grid(recipe)
    if not recipe.models:
        raise RecipeError("a needle run needs at least one entry in `models`")
    check_models(recipe.models)
    at_least("max_new_tokens", recipe.max_new_tokens, 1)
    at_least("tower_batch", recipe.tower_batch, 1)
    if recipe.wrapper not in MODELS:
        raise RecipeError(
            f"`wrapper`: {recipe.wrapper} takes videos by their path and samples them, which leaves most needles out; "
            f"the frames can be given to {', '.join(MODELS)}"
        )
    if recipe.wrapper == HUGGING_FACE and recipe.upstream:
        raise RecipeError("`upstream` has no effect with the wrapper tpo_hf: leave it out, or set `wrapper`")
    upstream_of(recipe)
    for key in recipe.wrapper_args:
        if key in (*CHECKPOINT, *OWN):
            raise RecipeError(
                f"`wrapper_args.{key}`: the recipe has its own `{'models' if key in CHECKPOINT else key}`"
            )
        if key in UNUSED:
            raise RecipeError(f"`wrapper_args.{key}` has no effect: the frames are given as the recipe's grid says")


def load(recipe: NeedleRecipe, checkpoint: str, scenery: Scenery) -> Asker:
    """The recipe's wrapper with this checkpoint, ready to be asked about the pictures of `scenery`.

    TPOError for a checkpoint or an argument that does not fit.
    """
    cls = _wrapper(recipe)
    known = inspect.signature(cls).parameters
    for key in recipe.wrapper_args:
        if key not in known:
            raise RecipeError(f"`wrapper_args.{key}`: {recipe.wrapper} knows {', '.join(known)}")
    place = str(Path(checkpoint).absolute()) if Path(checkpoint).is_dir() else checkpoint
    options = {name: getattr(recipe, name) for name in OWN if name in known and getattr(recipe, name) is not None}
    wrapper = cls(place, **options, **recipe.wrapper_args)
    facts = {key: value for key, value in wrapper.facts().items() if key not in FACTS_UNUSED}
    if recipe.wrapper == HUGGING_FACE:
        from tpo_plugin.evaluation.needle.hf import HuggingFaceAsker

        return HuggingFaceAsker(wrapper, scenery, recipe.prompt, recipe.tower_batch, facts)
    from tpo_plugin.evaluation.needle.llava import LlavaAsker

    return LlavaAsker(wrapper, scenery, recipe.prompt, recipe.tower_batch, facts)


def settings(recipe: NeedleRecipe) -> dict[str, Any]:
    """What besides checkpoint, needles and haystack can change a number."""
    plain = recipes.to_plain(recipe)
    checkout = upstream_of(recipe)
    return {
        **{name: plain[name] for name in SETTINGS},
        "upstream": checkout and {"name": checkout.title, "commit": checkout.commit, "code": code_digest(checkout)},
        "versions": releases("pillow"),
    }


def _wrapper(recipe: NeedleRecipe) -> Any:
    module, _, name = MODELS[recipe.wrapper].rpartition(".")
    return getattr(importlib.import_module(module), name)
