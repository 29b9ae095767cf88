"""The tiny world's needles, and recipes for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tpo_plugin.options import NeedleRecipe
from tpo_plugin.tiny.demo import base_checkpoint
from tpo_plugin.tiny.needles import write_needles


@pytest.fixture(scope="session")
def needle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve needles and a haystack of 96 s; `needle.json` for the task of lmms-eval."""
    folder = tmp_path_factory.mktemp("home") / "needle"
    write_needles(folder, 0)
    return folder


@pytest.fixture(scope="session")
def make_needle_recipe(needle_folder: Path) -> Callable[..., NeedleRecipe]:
    """A function that makes a recipe with the shipped tiny model and some fields changed."""

    def make(output: Path, **changes: object) -> NeedleRecipe:
        values = {
            "models": {"base": base_checkpoint()},
            "output": str(output),
            "needles": str(needle_folder / "needles"),
            "haystack": str(needle_folder / "haystack.mp4"),
            "frames": [8, 12],
            "depths": [0, 0.5, 1],
            "max_side": 96,
            "max_new_tokens": 4,
            "dtype": "float32",
            "device": "cpu",
        }
        return NeedleRecipe(**{**values, **changes})  # type: ignore[arg-type]

    return make
