"""`tpo needle`: every model is asked for every needle in every cell of the grid.

An answer is written to the output folder's journal at once, under an id made of everything that can change it: a run that was
stopped goes on where it was, and a grid that has grown asks only for what is new.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tpo_plugin import recipe as recipes
from tpo_plugin.curation.journal import Journal
from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.needle.asker import Asker, check, load, settings
from tpo_plugin.evaluation.needle.grid import Cell, cells
from tpo_plugin.evaluation.needle.haystack import Scenery, described, read_scenery
from tpo_plugin.evaluation.needle.needles import Needle, read_needles
from tpo_plugin.evaluation.needle.results import write_results
from tpo_plugin.evaluation.needle.scoring import generated, teacher_forced
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.generators.base import Prompt, with_times
from tpo_plugin.options import FrameOptions, NeedleRecipe
from tpo_plugin.records import stable_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class World:
    """What a recipe's grid shows."""

    recipe: NeedleRecipe
    needles: list[Needle]
    scenery: Scenery

    def clips(self, count: int, frame_options: FrameOptions) -> dict[str, Prompt]:
        """Times and text of the question about `count` frames for each needle's id (the pictures go by their keys)."""
        seconds = count / self.recipe.fps
        times = tuple(index / self.recipe.fps for index in range(count))
        # A prompt of the user's own takes the question as it is: V-NIAH's begin with a line break.
        asked = {one.id: one.question if self.recipe.prompt else one.question.strip() for one in self.needles}
        return {
            needle: Prompt(self.scenery.haystack[:0], times, seconds, with_times(text, seconds, times, frame_options))
            for needle, text in asked.items()
        }


def needle(recipe: NeedleRecipe) -> Path:
    """Ask all models; the output folder with `results.json` and, for each model, `answers.jsonl`, `all_accuracies.json` and the heat maps.

    Raises RecipeError, EvaluationError (needles, haystack), VideoError (a haystack's video) and TPOError for what the user can mend.
    """
    check(recipe)
    output = Path(recipe.output)
    digests = {label: checkpoint_digest(checkpoint) for label, checkpoint in recipe.models.items()}
    with Journal(output) as journal:
        needles = read_needles(recipe.needles)
        world = World(recipe, needles, read_scenery(recipe, needles))
        (output / "results.json").unlink(missing_ok=True)
        recipes.save(recipe, output)
        answers, wrappers = {}, {}
        for label, checkpoint in recipe.models.items():
            answers[label], wrappers[label] = _ask_model(world, journal, label, checkpoint, digests[label])
        facts = described(recipe, world.scenery, needles) | settings(recipe)
        models = {
            label: {"checkpoint": checkpoint, "digest": digests[label], **wrappers[label]}
            for label, checkpoint in recipe.models.items()
        }
        write_results(output, models, answers, facts)
    return output


def _ask_model(
    world: World, journal: Journal, label: str, checkpoint: str, digest: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One model's answers to all needles in all cells, and what it is; it is loaded if something is missing."""
    identity = stable_id(settings(world.recipe), checkpoint, digest)
    asked = [(cell, one) for cell in cells(world.recipe) for one in world.needles]
    units = [_unit(world, identity, cell, one) for cell, one in asked]
    missing = [place for place, unit in enumerate(units) if journal.get("answer", unit) is None]
    if missing or journal.get("model", identity) is None:
        asker = load(world.recipe, checkpoint, world.scenery)
        journal.put("model", identity, {"wrapper": asker.facts, "needle_frames": _needle_frames(world.recipe, asker)})
        _ask_all(world, asker, label, [asked[place] for place in missing], _keep(journal, [units[i] for i in missing]))
        del asker
        gc.collect()
    else:
        logger.info("%s has been asked already", label)
    answers = [{**_kept(journal, "answer", unit), "id": one.id} for unit, (_, one) in zip(units, asked)]
    return answers, _kept(journal, "model", identity)


def _kept(journal: Journal, stage: str, unit: str) -> dict[str, Any]:
    value = journal.get(stage, unit)
    assert value is not None
    return dict(value)


def _needle_frames(recipe: NeedleRecipe, asker: Asker) -> int:
    return recipe.needle_frames or asker.unit


def _unit(world: World, identity: str, cell: Cell, one: Needle) -> str:
    """The id of an answer: the model with its settings, and exactly the pictures, the place and the text that it depends on."""
    shown = (world.scenery.digest(cell.frames), world.scenery.needle_digest(one.id))
    return stable_id(identity, world.recipe.fps, cell.frames, cell.depth, *shown, one.name, one.question, one.answer)


def _keep(journal: Journal, units: Sequence[str]) -> Callable[[int, dict[str, Any]], None]:
    def keep(place: int, answer: dict[str, Any]) -> None:
        journal.put("answer", units[place], answer)

    return keep


def _ask_all(
    world: World,
    asker: Asker,
    label: str,
    asked: Sequence[tuple[Cell, Needle]],
    keep: Callable[[int, dict[str, Any]], None],
) -> None:
    """Ask and hand each answer, with its place in `asked`, to `keep`."""
    frames = _needle_frames(world.recipe, asker)
    for place, (cell, one) in enumerate(tqdm(asked, desc=label, unit="question")):
        answer = asker.answer_ids(one.answer)
        if not answer:
            raise TPOError(f"the answer {one.answer!r} of {one.name} has no tokens")
        clips = world.clips(cell.frames + frames, asker.frame_options)
        texts = [clip.text for clip in clips.values()]
        new_tokens = max(world.recipe.max_new_tokens, len(answer))
        written = asker.ask(cell.order(one.id, frames), clips[one.id], texts, new_tokens)
        keep(
            place,
            {
                "frames": cell.frames,
                "depth": cell.depth,
                "position": cell.position(frames),
                "needle": one.name,
                "question": one.question,
                "answer": one.answer,
                "response": written.text,
                "teacher_forced": int(teacher_forced(written.ids, answer)),
                "generated": int(generated(written.text, one.answer)),
                "prompt_tokens": written.prompt_tokens,
            },
        )
    logger.info("%s: the vision tower processed %d frames", label, asker.memory.units_seen * asker.unit)
