"""Every recipe that is shipped fits the dataclass of its command."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tpo_plugin import recipe
from tpo_plugin.options import CurateRecipe, EvaluateRecipe, TrainRecipe

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.rglob("*.yaml"))


def kind_of(file: Path) -> type:
    keys = set(yaml.safe_load(file.read_text(encoding="utf-8")))
    return EvaluateRecipe if "models" in keys else TrainRecipe if "data" in keys else CurateRecipe


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(RECIPES).as_posix())
def test_recipe_fits_its_command(file: Path) -> None:
    kind = kind_of(file)
    loaded = recipe.load(kind, file)
    assert recipe.parse(kind, recipe.to_plain(loaded)) == loaded, "a resolved recipe reads back as itself"
    if kind is CurateRecipe:
        from tpo_plugin.curation.queries import check_options

        check_options(loaded.queries)
    if kind is TrainRecipe:
        from dataclasses import fields

        from trl import DPOConfig

        assert set(loaded.arguments) <= {field.name for field in fields(DPOConfig)}


def test_there_are_recipes_for_each_command() -> None:
    assert {kind_of(file) for file in FILES} == {CurateRecipe, TrainRecipe, EvaluateRecipe}
