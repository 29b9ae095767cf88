"""An ablation that is small enough to be planned and run in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.options import AblateRecipe
from tpo_plugin.recipe import parse

SERVERS = {"captions.generator.server.base_url": "{server}", "llm.base_url": "{server}"}


@pytest.fixture(scope="session")
def plain_recipe() -> Callable[[Path], dict[str, Any]]:
    """A function that gives the recipe for an output folder as plain values."""
    return _plain


def _plain(output: Path) -> dict[str, Any]:
    """As YAML would give it: two curations, a training of two steps and one that starts from it, an evaluation, a needle. The server answers
    about videos, too."""
    given = {"queries.source": "curated", "queries.curated": "{pairs}", "filters.use": ["length"]}
    curate = {"recipe": "tiny/curate", "videos.source": "{videos}", **SERVERS}
    responses = {"type": "server", "server": {"base_url": "{server}", "model": "tiny-world"}}
    return {
        "output": str(output),
        "prepare": "tpo_plugin.tiny.ablation:prepare",
        "prepare_with": {
            "videos": 12,
            "scenes": 4,
            "benchmarks": {"short": 2, "medium": 0, "long": 2, "mlvu": 4, "per_video": 2},
        },
        "workers": 2,
        "threads": 1,
        "models": {"base": "{shipped}"},
        "curate": {
            "pairs": {**curate, "responses": responses},
            "answers": {**curate, "method": "llm", **given},
        },
        "train": {
            "tpo_sft": [
                {"recipe": "tiny/tpo", "data": "{pairs}", "max_pairs": 8},
                {"recipe": "tiny/sft_self", "data": "{answers}", "max_pairs": 16},
            ],
            "after": {"recipe": "tiny/tpo", "model": "{tpo_sft}", "data": "{pairs}", "max_pairs": 4},
        },
        "evaluate": {
            "benchmarks": {
                "recipe": "tiny/evaluate",
                "models": ["base", "tpo_sft"],
                "data": "{benchmarks}",
                "tasks": ["mlvu_dev"],
                "workers": 2,
            },
        },
        "needle": {
            "needle": {
                "recipe": "tiny/needle",
                "models": ["base", "tpo_sft"],
                "needles": "{needles}/needles",
                "haystack": "{needles}/haystack.mp4",
                "frames": [8],
                "depths": [0, 1],
            }
        },
    }


@pytest.fixture
def make_recipe(tmp_path) -> Callable[..., AblateRecipe]:
    """A function that makes the recipe with some of its keys replaced."""

    def make(**changes: Any) -> AblateRecipe:
        return parse(AblateRecipe, {**_plain(tmp_path / "out"), **changes})

    return make
