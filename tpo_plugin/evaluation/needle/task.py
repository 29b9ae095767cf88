"""lmms-eval's task `needle`: the grid of $HF_HOME/needle/needle.json, its frames handed to our models as they are.

needle.json holds the options of `options.NeedleGrid` (needles, haystack, frames, depths, ...), paths relative to its folder. The score is
the generated one. A needle is one frame, unless `needle_frames` says otherwise (2 for Qwen2-VL and Qwen2.5-VL, as `tpo needle` takes by
itself). The tower sees every frame again in every cell: for large grids `tpo needle` is far cheaper.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.needle.grid import Cell, cells, check_grid
from tpo_plugin.evaluation.needle.haystack import Scenery, read_scenery
from tpo_plugin.evaluation.needle.needles import Needle, read_needles
from tpo_plugin.evaluation.needle.scoring import generated
from tpo_plugin.evaluation.wrappers.messages import GivenFrames
from tpo_plugin.integrations.lmms_eval import MODELS
from tpo_plugin.options import NeedleGrid
from tpo_plugin.recipe import parse
from tpo_plugin.records import stable_id

METRIC = "needle_generated"
FILE = "needle/needle.json"  # below HF_HOME


class World(NamedTuple):
    """The grid with its needles, its pictures, and the haystack's videos."""

    grid: NeedleGrid
    needles: list[Needle]
    scenery: Scenery
    videos: list[Path]


def docs(placeholder: Any) -> Any:
    """The grid's questions as a data set, in the place of the empty one that the task's YAML must name."""
    import datasets

    return datasets.Dataset.from_list(questions(_world(str(_file()))))


def questions(world: World) -> list[dict[str, Any]]:
    """One question for each cell and needle, with a digest of all pictures that it shows."""
    return [
        {
            "question_id": f"{needle.id}@{cell.frames}@{cell.depth:g}",
            "needle": needle.id,
            "frames": cell.frames,
            "depth": cell.depth,
            "question": needle.question.strip(),
            "answer": needle.answer,
            "shown": stable_id(world.scenery.digest(cell.frames), world.scenery.needle_digest(needle.id)),
        }
        for cell in cells(world.grid)
        for needle in world.needles
    ]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> str:
    """The question. EvaluationError for a model that would sample the frames: lmms-eval asks for a text before anything runs."""
    if not (lmms_eval_specific_kwargs or {}).get("takes_frames"):
        raise EvaluationError(
            f"the task needle hands over frames, which only {', '.join(MODELS)} take: other models read a video by its path and sample "
            "it, which leaves most needles out"
        )
    return str(doc["question"])


def doc_to_visual(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None
) -> list[GivenFrames]:
    """The frames in their order. EvaluationError for a model that would sample them."""
    doc_to_text(doc, lmms_eval_specific_kwargs)
    world = _world(str(_file()))
    fps, keys = world.grid.fps, Cell(doc["frames"], doc["depth"]).order(doc["needle"], world.grid.needle_frames or 1)
    times = tuple(index / fps for index in range(len(keys)))
    return [GivenFrames(world.scenery.pictures(keys), times, len(keys) / fps, world.grid.max_pixels)]


def doc_to_messages(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The frames and the question."""
    (video,) = doc_to_visual(doc, lmms_eval_specific_kwargs)
    text = doc_to_text(doc, lmms_eval_specific_kwargs)
    return [{"role": "user", "content": [{"type": "video", "url": video}, {"type": "text", "text": text}]}]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Whether the answer is right, with its cell."""
    return {
        METRIC: {
            "question_id": doc["question_id"],
            "category": f"{doc['frames']} frames",
            "frames": doc["frames"],
            "depth": doc["depth"],
            "video": doc["needle"],  # what intervals resample: all cells of a needle
            "score": int(generated(results[0], doc["answer"])),
        }
    }


def mean(results: Sequence[Mapping[str, Any]]) -> float:
    """Right answers in percent: every cell has the same needles, so this is the mean over cells too."""
    return 100 * sum(result["score"] for result in results) / len(results)


def _file() -> Path:
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    return home / FILE


@lru_cache(maxsize=1)
def _world(file: str) -> World:
    return read_world(Path(file))


def read_world(path: Path) -> World:
    """What a needle.json names. EvaluationError where the file or what it names is not there."""
    file = str(path)
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(
            f"the task needle reads its needles, haystack and grid from {file}: {error.strerror}; set HF_HOME to the data folder"
        ) from None
    except ValueError as error:
        raise EvaluationError(f"{file} is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise EvaluationError(f"{file} must hold an object with needles, haystack and frames")
    grid = parse(NeedleGrid, plain, file)
    check_grid(grid)
    needles = read_needles(path.parent / grid.needles)
    scenery = read_scenery(grid, needles, path.parent)
    return World(grid, needles, scenery, [Path(name) for name, _ in scenery.sources])
