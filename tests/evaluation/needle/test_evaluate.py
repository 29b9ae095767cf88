"""The needle task through `tpo evaluate`: its grid and its pictures are part of what a cell is made of."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.check import check_task
from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.evaluation.run import check_recipe, evaluate
from tpo_plugin.options import EvaluateRecipe, FrameOptions
from tpo_plugin.records import read_jsonl, write_json
from tpo_plugin.tiny.demo import base_checkpoint

GRID = {"needles": "needles", "haystack": "haystack.mp4", "frames": [4], "depths": [0, 1], "max_side": 96}


@pytest.fixture
def data(needle_folder: Path, tmp_path: Path) -> Path:
    """A data folder whose two needles are one picture with two questions."""
    folder = tmp_path / "data" / "needle"
    shutil.copytree(needle_folder, folder)
    entries = json.loads((folder / "needles" / "needles.json").read_text())
    same = {**entries[0], "question": entries[0]["question"] + " Answer with one word."}
    write_json(folder / "needles" / "needles.json", [entries[0], same])
    write_json(folder / "needle.json", GRID)
    return tmp_path / "data"


@pytest.fixture
def recipe(data: Path, tmp_path: Path) -> EvaluateRecipe:
    return EvaluateRecipe(
        models={"base": base_checkpoint()},
        output=str(tmp_path / "out"),
        tasks=("needle",),
        data=str(data),
        frames=FrameOptions(max=4),
        dtype="float32",
        device="cpu",
    )


def change_grid(data: Path, **changes: object) -> None:
    write_json(data / "needle" / "needle.json", {**GRID, **changes})


def test_another_grid_is_another_cell(recipe: EvaluateRecipe, data: Path) -> None:
    def cell() -> dict:
        (found,) = json.loads((Path(recipe.output) / "results.json").read_text())["cells"]
        return found

    evaluate(recipe)
    answers = list(read_jsonl(Path(recipe.output) / "base" / "4" / "needle" / "answers.jsonl"))
    assert (cell()["n"], cell()["accuracy"]["n"], cell()["unit"]) == (4, 4, "%")
    assert len({one["id"] for one in answers}) == 4, "one picture with two questions is two needles"
    assert [one["video"] for one in answers] == [one["id"].split("@")[0] for one in answers]
    assert set(cell()["categories"]) == {"4 frames"}
    change_grid(data, frames=[4, 5])
    evaluate(recipe)
    assert cell()["n"] == 8


def test_what_is_shown_and_asked_is_in_the_digest(data: Path, needle_folder: Path) -> None:
    folder, digests = data / "needle", []

    def read() -> None:
        digests.append(read_benchmark(data, "needle").digest)

    read()
    for changes in ({"depths": [0, 0.5]}, {"needle_frames": 2}, {"fps": 0.5}, {"max_side": 48}, {"frames": [5]}):
        change_grid(data, **changes)
        read()
    change_grid(data)
    entries = json.loads((folder / "needles" / "needles.json").read_text())
    for changed in ({"answer": "other"}, {"question": "Which?"}):
        write_json(folder / "needles" / "needles.json", [{**entries[0], **changed}])
        read()
    write_json(folder / "needles" / "needles.json", entries)
    pictures = sorted(path for path in (folder / "needles").glob("*.png") if path.name != entries[0]["image"])
    shutil.copy(pictures[0], folder / "needles" / entries[0]["image"])
    read()
    assert len(set(digests)) == len(digests) == 9
    shutil.copy(needle_folder / "needles" / entries[0]["image"], folder / "needles")
    assert read_benchmark(data, "needle").digest == digests[0]


def test_check_looks_at_needles_and_haystack(recipe: EvaluateRecipe, data: Path) -> None:
    assert check_task(recipe, "needle") == "4 questions, 1 videos, 1 opened"
    with pytest.raises(EvaluationError, match="4 questions, 6 expected"):
        check_task(replace(recipe, expect={"needle": 6}), "needle")
    (data / "needle" / "haystack.mp4").write_bytes(b"no video")
    with pytest.raises(TPOError, match="not a video that FFmpeg can read"):
        check_task(recipe, "needle")
    (data / "needle" / "needle.json").unlink()
    with pytest.raises(EvaluationError, match=r"needle\.json: No such file"):
        evaluate(recipe)


def test_the_one_prompt_is_not_worded_for_another_model(recipe: EvaluateRecipe) -> None:
    with pytest.raises(RecipeError, match="`prompt_as` cannot go with the task needle"):
        check_recipe(replace(recipe, prompt_as="llava_vid"))
    check_recipe(replace(recipe, tasks=("videomme",), prompt_as="llava_vid"))
