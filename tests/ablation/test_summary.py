"""What the trainings say of themselves, in an output that an earlier release may have begun."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.ablation.plan import Stage
from tpo_plugin.ablation.summary import pairs_of
from tpo_plugin.integrations.llava_family.claim import FILE as RUN


def write(file: Path, **values: Any) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(values))


@pytest.fixture
def stages(tmp_path: Path) -> list[Stage]:
    """A training with and one without a count, a script's without one, and chains with and without."""
    write(tmp_path / "tpo" / "done.json", steps=1, pairs=8)
    write(tmp_path / "old" / "done.json", steps=1)
    write(tmp_path / "script" / RUN, rows="abc")
    write(tmp_path / "chain" / "chain.json", steps=[{"pairs": 8}, {"pairs": 4}])
    write(tmp_path / "half" / "chain.json", steps=[{"pairs": 8}, {"pairs": None}])
    recipes = {
        "tpo": {},
        "old": {},
        "script": {"flags": {"output_dir": str(tmp_path / "script")}},
        "chain": {"steps": []},
        "half": {"steps": []},
    }
    return [Stage("train", name, tmp_path / name, recipe, "") for name, recipe in recipes.items()]


def test_a_count_that_an_earlier_release_did_not_write_is_left_empty(make_recipe: Any, stages: list[Stage]) -> None:
    recipe = make_recipe(train={stage.name: {"recipe": "tiny/tpo"} for stage in stages})
    assert pairs_of(recipe, {0: stages, 1: stages}) == {
        "tpo": "8", "old": "", "script": "", "chain": "8 + 4", "half": "",
    }  # fmt: skip
