"""What makes no sense in any recipe is refused by each command in the same words."""

from __future__ import annotations

from typing import Any

import pytest

from tpo_plugin.curation.checks import check as check_curation
from tpo_plugin.errors import RecipeError
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.options import CurateRecipe, EvaluateRecipe, TrainRecipe
from tpo_plugin.recipe import parse
from tpo_plugin.training.run import train

COMMANDS = {
    "curate": (CurateRecipe, check_curation, {"videos": {"source": "videos"}, "responses": {"model": "a/b"}}),
    "train": (TrainRecipe, train, {"model": "a/b", "data": "pairs"}),
    "evaluate": (EvaluateRecipe, evaluate, {"models": {"base": "a/b"}}),
}


def refused(command: str, tmp_path: Any, change: dict[str, Any], says: str) -> None:
    kind, run, plain = COMMANDS[command]
    with pytest.raises(RecipeError, match=says):
        run(parse(kind, {"output": str(tmp_path / "out"), **plain, **change}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ({"fps": 0}, "`frames.fps` must be over 0, it is 0"),
        ({"fps": float("nan")}, "`frames.fps` must be over 0"),
        ({"max": 0}, "`frames.max` must be 1 or more, it is 0"),
        ({"max_side": 0}, "`frames.max_side` must be 16 or more"),
        ({"max_pixels": 255}, "`frames.max_pixels` must be 256 or more"),
    ],
)
def test_frames(tmp_path, command: str, frames: dict[str, float], says: str) -> None:
    refused(command, tmp_path, {"frames": frames}, says)


@pytest.mark.parametrize("command", ["curate", "train"])
@pytest.mark.parametrize("count", [0, -1])
def test_no_pairs(tmp_path, command: str, count: int) -> None:
    refused(command, tmp_path, {"max_pairs": count}, f"`max_pairs` must be 1 or more, it is {count}")


@pytest.mark.parametrize(
    ("command", "change", "key"),
    [
        ("curate", {"responses": {}}, "responses.model"),
        ("curate", {"captions": {"generator": {"type": "hf"}}}, "captions.generator.model"),
        ("train", {"model": ""}, "model"),
        ("evaluate", {"models": {"base": " "}}, "models.base"),
    ],
)
def test_no_checkpoint(tmp_path, command: str, change: dict[str, Any], key: str) -> None:
    refused(command, tmp_path, change, f"`{key}` is empty: name a checkpoint")
