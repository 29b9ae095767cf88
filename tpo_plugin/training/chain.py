"""A chain of trainings (preference before or after SFT, and so on): one command, each step from the checkpoint of the one before.

Each step is a run as `tpo train` makes it by itself, in a folder of its own; that is how a finished one is found and an unfinished one is
continued. Nothing here needs a certain transformers: steps of Hugging Face checkpoints and of upstream scripts import their own.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.checks import checkpoint_named
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.options import ChainRecipe, TrainRecipe, UpstreamRecipe
from tpo_plugin.records import write_json
from tpo_plugin.training.claims import changes, check_chain, held, is_main, share_model, writing

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
RESERVED = ("model", "model.partial", "checkpoints", "recipe.yaml", "chain.json")
CHAIN = ("model", "output", "flags.model_name_or_path")  # keys that the chain sets


@dataclass(frozen=True)
class Step:
    """A step: its recipe is resolved but for the checkpoint to start from, `folder` is its own."""

    name: str
    folder: Path
    recipe: TrainRecipe | UpstreamRecipe

    def about(self, start: str) -> dict[str, Any]:
        """The entry of chain.json, as far as it is known before the step has run."""
        upstream = isinstance(self.recipe, UpstreamRecipe)
        return {
            "name": self.name,
            "trainer": "upstream" if upstream else "hf",
            "folder": self.folder.name,
            "start": {"checkpoint": start, "digest": checkpoint_digest(start)},
            "data": self.recipe.flags.get("data_path") if isinstance(self.recipe, UpstreamRecipe) else self.recipe.data,
        }

    def check(self) -> None:
        """RecipeError for values that the training would refuse once it is due."""
        if isinstance(self.recipe, UpstreamRecipe):
            from tpo_plugin.training.upstream import check_upstream

            check_upstream(self.recipe)
            return
        from tpo_plugin.training.arguments import training_arguments
        from tpo_plugin.training.run import check_recipe

        check_recipe(self.recipe)
        training_arguments(self.recipe)

    def check_data(self) -> None:
        """TPOError for data that the training would refuse once it is due; no video is opened."""
        if isinstance(self.recipe, UpstreamRecipe):
            from tpo_plugin.training.upstream import finished
            from tpo_plugin.training.upstream_data import check_data

            if not finished(self.folder):
                check_data(self.recipe.flags)
            return
        from tpo_plugin.training.data import check_videos, rows_of

        check_videos(*rows_of(self.recipe))

    def result(self) -> Path:
        """The checkpoint that it leaves."""
        if isinstance(self.recipe, UpstreamRecipe):
            from tpo_plugin.training.upstream import step_result

            return step_result(self.recipe.flags, self.folder)
        return self.folder / "model"

    def changed(self, start: str) -> list[str]:
        """What its folder holds that is made of something else, when it is to start from `start`, which need not be there yet."""
        if isinstance(self.recipe, UpstreamRecipe):
            from tpo_plugin.training.upstream import changed

            return changed(self.recipe, start, self.folder)
        return changes(self.folder, replace(self.recipe, model=start), moved=True)

    def resolved(self, start: str) -> dict[str, Any]:
        """The whole recipe as plain values."""
        if isinstance(self.recipe, UpstreamRecipe):
            flags = {**self.recipe.flags, "model_name_or_path": start}
            return recipes.to_plain(replace(self.recipe, flags=flags))
        return recipes.to_plain(replace(self.recipe, model=start))

    def run(self, start: str) -> Path:
        """Run it, or find it finished; the checkpoint that it leaves."""
        logger.info("step %s, from %s", self.name, start)
        if isinstance(self.recipe, UpstreamRecipe):
            from tpo_plugin.training.upstream import run_step

            return run_step(self.recipe, start, self.folder)
        from tpo_plugin.training.curriculum import release
        from tpo_plugin.training.run import train

        model = train(replace(self.recipe, model=start), moved=True)
        release()
        return model

    def took(self) -> dict[str, Any]:
        """What the finished step says of itself."""
        marker = "step.json" if isinstance(self.recipe, UpstreamRecipe) else "done.json"
        done = json.loads((self.folder / marker).read_text(encoding="utf-8"))
        return {name: done.get(name) for name in ("pairs", "steps", "seconds", "versions")}


def train_chain(recipe: ChainRecipe) -> Path:
    """Run the steps that are not finished; `output`/model, the last one's checkpoint.

    All recipes and their data are read before the first step starts. RecipeError for a step that cannot be run, for one that has been trained
    otherwise in this folder (it is named), and for a folder that is no chain's. TPOError as the steps'.
    """
    steps = plan(recipe)
    output = Path(recipe.output)
    with held(output):
        check_chain(recipe)
        checkpoint_digest(recipe.model)  # TPOError where there is none
        _check_unchanged(recipe.model, steps)
        _check_data(steps)
        if is_main():
            with writing(output):
                recipes.save(recipe, output)
        start, entries = recipe.model, []
        for step in steps:
            about, resolved = step.about(start), step.resolved(start)
            start = str(step.run(start))
            entries.append({**about, **step.took(), "recipe": resolved})
            if is_main():
                with writing(output):
                    write_json(output / "chain.json", {"steps": entries})
        if is_main():
            with writing(output):
                share_model(Path(start), output / "model")
    return output / "model"


def plan(recipe: ChainRecipe) -> list[Step]:
    """The steps in their order; RecipeError for one that is none, named by its place or name."""
    checkpoint_named("model", recipe.model)
    if not recipe.steps:
        raise RecipeError("`steps` is empty: a chain needs a step at least, such as {name: dpo, recipe: hf/train}")
    steps: list[Step] = []
    for number, entry in enumerate(recipe.steps, 1):
        name, source = entry.get("name"), entry.get("recipe")
        if not isinstance(name, str) or not isinstance(source, str):
            raise RecipeError(f"`steps`: step {number} must be {{name: ..., recipe: NAME OR PATH, key: value, ...}}")
        if not NAME.fullmatch(name) or name in RESERVED or name in [step.name for step in steps]:
            raise RecipeError(
                f"`steps`: `{name}` cannot be step {number}'s name: it is a folder's, each once, not {' or '.join(RESERVED)}"
            )
        given = {str(key): value for key, value in entry.items() if key not in ("name", "recipe")}
        steps.append(_step(recipe, name, source, given))
    if any(isinstance(step.recipe, UpstreamRecipe) for step in steps) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "a chain with an upstream script starts its processes itself: say `processes` in the step, and start it alone"
        )
    for step in steps:
        try:
            step.check()
        except RecipeError as error:
            raise RecipeError(f"`steps.{step.name}`: {error}") from None
    return steps


def _step(chain: ChainRecipe, name: str, source: str, given: dict[str, Any]) -> Step:
    folder = Path(chain.output) / name
    own = [key for key in given if key in CHAIN]
    if own:
        raise RecipeError(f"`steps.{name}`: the chain sets `{own[0]}`; take it out")
    data = recipes.read(source)
    upstream = "upstream" in data
    starts = {"flags.model_name_or_path": chain.model} if upstream else {"model": chain.model, "output": str(folder)}
    try:
        for key, value in {"flags.seed" if upstream else "seed": chain.seed, **starts, **given}.items():
            recipes.change(data, key, value)
    except RecipeError as error:
        raise RecipeError(f"`steps.{name}` ({source}): {error}") from None
    where = f"steps.{name} ({source})"
    parsed = recipes.parse(UpstreamRecipe, data, where) if upstream else recipes.parse(TrainRecipe, data, where)
    return Step(name, folder, parsed)


def _check_unchanged(start: str, steps: list[Step]) -> None:
    """RecipeError naming the first step that was run with another recipe, or from another step than now."""
    for step in steps:
        differing = step.changed(start)
        if differing:
            raise RecipeError(
                f"step `{step.name}` has been trained with another recipe ({'; '.join(differing)}): remove {step.folder} and the "
                "folders of the steps after it, or choose another `output`"
            )
        start = str(step.result())


def _check_data(steps: list[Step]) -> None:
    for step in steps:
        try:
            step.check_data()
        except TPOError as error:
            raise RecipeError(f"`steps.{step.name}`: {error}") from None
