"""Training from easy to hard (TEMPLE, arXiv 2503.16929): a run for each level of difficulty, each from the model of the one before.

A stage is a whole run in a folder of its own, so it has its own schedule and checkpoints, is continued where it was stopped, and is reused
when it is finished. The order without stages is the sampler's (sampler.py).
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tpo_plugin.errors import RecipeError
from tpo_plugin.options import CurriculumOptions, TrainRecipe
from tpo_plugin.records import write_json
from tpo_plugin.training.claims import claim, held, share_model, writing
from tpo_plugin.training.reference import everywhere
from tpo_plugin.training.trainer import absent, needs_reference

if TYPE_CHECKING:
    from tpo_plugin.training.data import TrainingPairs

logger = logging.getLogger(__name__)


def staged(recipe: TrainRecipe) -> bool:
    """Whether the recipe is trained in stages."""
    return recipe.curriculum is not None and recipe.curriculum.order == "staged"


def stages(recipe: TrainRecipe) -> list[TrainRecipe]:
    """The recipe of each stage. Its `model` is the recipe's own: for all but the first it is known when the one before has ended."""
    options = recipe.curriculum
    assert options is not None
    kept = options.reference == "kept"
    made = []
    for number, level in enumerate(options.levels, 1):
        stage = replace(
            recipe,
            output=str(Path(recipe.output) / f"stage-{number}-r{level:g}"),
            difficulty=(level,),
            curriculum=None,
            reference=recipe.reference if number == 1 else None,
        )
        made.append(keeping(stage, recipe) if kept else stage)
    return made


def keeping(stage: TrainRecipe, whole: TrainRecipe) -> TrainRecipe:
    """The recipe with the reference of all stages: the model at the start, with one table for all levels."""
    return replace(
        stage,
        reference_model=whole.reference_model or whole.model,
        reference=whole.reference or whole.output,
    )


def train_stages(
    recipe: TrainRecipe,
    pairs: TrainingPairs,
    inputs: dict[str, str],
    train: Callable[[TrainRecipe, TrainingPairs, bool], Path],
    fill: Callable[[TrainRecipe, TrainingPairs], None],
    moved: bool,
) -> Path:
    """Run the stages that are not finished and return the folder of the last one's model, which is also `output`/model.

    `train` is a run of one stage's recipe on its pairs, whose folder is held meanwhile, and which may be `moved`; `fill` completes the table of a recipe
    with a `reference_model`.
    """
    output = Path(recipe.output)
    parts = [pairs.at_level(level) for stage in stages(recipe) for level in stage.difficulty or ()]
    if claim(output, recipe, inputs, moved):
        logger.info("%s is finished: reusing %s", output, output / "model")
        return output / "model"
    if recipe.curriculum and recipe.curriculum.reference == "kept":
        fill(keeping(recipe, recipe), pairs)
    before, folders = recipe.model, []
    for number, (stage, part) in enumerate(zip(stages(recipe), parts), 1):
        folder = Path(stage.output)
        logger.info("stage %d of %d, %d pairs: %s", number, len(parts), len(part), folder)
        with held(folder):
            before = str(train(replace(stage, model=before), part, moved))
        release()
        folders.append(folder)
        everywhere(lambda: _save_history(output, folders))
    everywhere(lambda: _finish(output, folders, {"inputs": inputs, "absent": absent(recipe.objective)}))
    return output / "model"


def release() -> None:
    """Give back what a trainer that is no longer used holds: its parts refer to each other, so it does not go by itself."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _save_history(output: Path, folders: Sequence[Path]) -> None:
    """`history.json` of the whole: the stages' entries with their stage's name, their steps counted on."""
    entries: list[dict[str, Any]] = []
    steps = 0
    for folder in folders:
        for entry in _read(folder / "history.json"):
            entries.append({"stage": folder.name, **entry, "step": steps + entry["step"]})
        steps += _read(folder / "done.json")["steps"]
    with writing(output):
        write_json(output / "history.json", entries)


def _finish(output: Path, folders: Sequence[Path], about: dict[str, Any]) -> None:
    """The last stage's model as the whole's; the marker with what the stages took comes last."""
    done = [_read(folder / "done.json") for folder in folders]
    totals = {name: sum(one[name] for one in done) for name in ("steps", "pairs")}
    seconds = round(sum(one["seconds"] for one in done), 1)
    rows = [
        {"name": folder.name, **{name: one[name] for name in ("pairs", "steps", "seconds")}}
        for folder, one in zip(folders, done)
    ]
    found = {**totals, **about, "seconds": seconds, "stages": rows, "versions": done[-1]["versions"]}
    with writing(output):
        share_model(folders[-1] / "model", output / "model")
        write_json(output / "done.json", found)
    logger.info("trained %d stages in %.0f s, saved %s", len(folders), seconds, output / "model")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def check_curriculum(recipe: TrainRecipe) -> None:
    """RecipeError for levels and references that do not fit together."""
    for name, levels in (("difficulty", recipe.difficulty), ("curriculum.levels", _levels(recipe.curriculum))):
        if levels is not None and (not levels or len(set(levels)) < len(levels) or min(levels) <= 0):
            raise RecipeError(f"`{name}` needs levels over 0, each once, such as [16, 8, 4, 2]; it is {list(levels)}")
    if recipe.curriculum is None:
        return
    if recipe.difficulty is not None:
        raise RecipeError("`curriculum.levels` says which levels are trained on: take `difficulty` out")
    if not staged(recipe):
        if recipe.curriculum.reference == "kept":
            raise RecipeError("`curriculum.reference` is about stages: take it out, or set `curriculum.order: staged`")
        if "train_sampling_strategy" in recipe.arguments and recipe.curriculum.order != "shuffled":
            raise RecipeError("`curriculum.order` is an order of its own: take `arguments.train_sampling_strategy` out")
    elif recipe.curriculum.reference == "kept" and not needs_reference(recipe.objective):
        raise RecipeError("`curriculum.reference` has no effect with `objective.dpo_alpha` 0: take it out")
    elif recipe.reference_model is not None and recipe.curriculum.reference == "reset":
        raise RecipeError(
            "`reference_model` is one reference for all stages: set `curriculum.reference: kept`, or take `reference_model` out"
        )


def _levels(options: CurriculumOptions | None) -> tuple[float, ...] | None:
    return options.levels if options else None


def order_of(recipe: TrainRecipe, difficulties: Sequence[float | None]) -> list[float] | None:
    """A number for each row by which the sampler orders an epoch, None where it orders nothing. `difficulties`: the rows'."""
    order = recipe.curriculum.order if recipe.curriculum else "shuffled"
    if order not in ("easy_to_hard", "hard_to_easy"):
        return None
    sign = -1.0 if order == "easy_to_hard" else 1.0
    return [sign * (difficulty or 0.0) for difficulty in difficulties]
