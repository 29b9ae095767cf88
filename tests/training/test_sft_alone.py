"""dpo_alpha 0: no rejected side anywhere, and the same SFT loss."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.options import ObjectiveOptions
from tpo_plugin.training.run import train

SFT = ObjectiveOptions(dpo_alpha=0.0, gamma=1.0)
ONE_EPOCH = {"save_strategy": "no"}


@pytest.fixture
def chosen_alone(data: Path) -> str:
    """The same pairs without their rejected responses."""
    file = data.with_name("chosen.json")
    file.write_text(json.dumps([{**row, "rejected": ""} for row in json.loads(data.read_text())]))
    return str(file)


def history(recipe, output: Path) -> list[dict[str, float]]:
    train(replace(recipe, output=str(output)))
    found = json.loads((output / "history.json").read_text())
    return [{name: value for name, value in entry.items() if name != "data_wait"} for entry in found]


@pytest.mark.parametrize("changes", [{"path": "plain"}, {}, {"pairs_per_video": 2}], ids=["plain", "fast", "trees"])
def test_rows_without_a_rejected_response_train_as_with_one(make_recipe, chosen_alone, tmp_path, changes) -> None:
    recipe = make_recipe(arguments=ONE_EPOCH, objective=SFT, **changes)
    alone = history(replace(recipe, data=chosen_alone), tmp_path / "alone")
    assert alone == history(recipe, tmp_path / "with")
    assert all(set(entry) >= {"loss", "loss/sft", "logps/chosen"} for entry in alone)
    assert not [name for entry in alone for name in entry if "rejected" in name or "reward" in name or "dpo" in name]
    both = history(replace(recipe, objective=ObjectiveOptions(dpo_alpha=1.0, gamma=1.0)), tmp_path / "both")
    assert alone[0]["loss/sft"] == pytest.approx(both[0]["loss/sft"], rel=1e-6), (
        "before the first step all weights are the same"
    )
    assert json.loads((tmp_path / "alone" / "done.json").read_text())["absent"][0] == "rejected side"
    assert json.loads((tmp_path / "both" / "done.json").read_text())["absent"] == []


def test_the_length_of_a_rejected_response_does_not_count(make_recipe, data, tmp_path) -> None:
    rows = [{**row, "rejected": "word " * 500} for row in json.loads(data.read_text())]
    (data.with_name("long.json")).write_text(json.dumps(rows))
    recipe = make_recipe(data=str(data.with_name("long.json")), arguments={**ONE_EPOCH, "max_steps": 1}, max_length=200)
    with pytest.raises(TPOError, match="`max_length` is 200"):
        train(recipe)
    train(replace(recipe, objective=SFT))


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_a_preference_needs_a_rejected_response(make_recipe, chosen_alone, path) -> None:
    with pytest.raises(
        TPOError, match=r"8 of 8 rows have no rejected response \(the first is pair0\): set `objective.dpo_alpha`"
    ):
        train(make_recipe(data=chosen_alone, path=path))
