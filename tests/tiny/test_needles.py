"""The tiny world's needles: each is the one place where its question has an answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tpo_plugin.cli import main
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.evaluation.needle.grid import cells, check_grid
from tpo_plugin.evaluation.needle.haystack import read_scenery
from tpo_plugin.evaluation.needle.needles import read_needles
from tpo_plugin.options import CurateRecipe, NeedleGrid, NeedleRecipe, TrainRecipe
from tpo_plugin.recipe import load, parse, shipped
from tpo_plugin.records import write_json
from tpo_plugin.tiny.needles import FRAMES, write_needles
from tpo_plugin.tiny.questions import BY_NAME
from tpo_plugin.tiny.setting import WorldSizes
from tpo_plugin.tiny.vision import read_frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("needle")
    write_needles(root, 3)
    return root


def test_needles_show_what_they_are_asked_for_and_the_haystack_does_not(folder: Path) -> None:
    needles = read_needles(folder / "needles")
    assert len(needles) == 12
    grid = parse(NeedleGrid, json.loads((folder / "needle.json").read_text()))
    scenery = read_scenery(grid, needles, folder)
    seen = {read_frame(frame)[0] for frame in scenery.haystack}
    assert len(scenery.haystack) == max(FRAMES)
    assert len(seen) == 6
    for needle in needles:
        colour = BY_NAME["shape"].parse(needle.question)
        assert read_frame(scenery.needles[needle.id])[:2] == (colour, needle.answer), needle.name
        assert colour not in seen


def test_a_seed_gives_always_the_same(folder: Path, tmp_path: Path) -> None:
    write_needles(tmp_path / "again", 3)
    write_needles(tmp_path / "other", 4)
    ids, again, other = (
        [needle.id for needle in read_needles(root / "needles")]
        for root in (folder, tmp_path / "again", tmp_path / "other")
    )
    assert ids == again
    assert not set(ids) & set(other)


def test_the_recipe_asks_for_the_whole_haystack() -> None:
    recipe = load(NeedleRecipe, shipped("tiny/needle"))
    check_grid(recipe)
    assert tuple(recipe.frames) == FRAMES
    assert len(cells(recipe)) == 30


def test_the_recipes_files_are_written_with_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = Path("runs/tiny/world")
    write_json(world / "world.json", {"seed": 0, **asdict(WorldSizes())})  # as a finished one leaves it: kept
    assert main(["tiny", "world", str(world)]) == 0
    recipe = load(NeedleRecipe, shipped("tiny/needle"))
    needles = read_needles(recipe.needles)
    assert len(read_scenery(recipe, needles).haystack) == max(FRAMES)
    assert json.loads((world / "needle" / "needle.json").read_text())["frames"] == list(FRAMES)
    assert Path(load(CurateRecipe, shipped("tiny/temple_curate")).shots.encoder, "config.json").is_file()
    assert load_pairs(load(TrainRecipe, shipped("tiny/temple_sft")).data)[0]
    assert (world / "benchmarks/HanSolo9682/Vinoground").is_dir()
