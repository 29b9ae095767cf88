"""Adapters on the language model, the vision tower trained in full or by adapters too: on both paths, saved, continued, merged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tpo_plugin.errors import RecipeError
from tpo_plugin.integrations.huggingface import load_model
from tpo_plugin.options import FrameOptions, LoraOptions
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.training.policies.parts import find_parts, part_of
from tpo_plugin.training.run import build_trainer, train

PARTS = ("projector", "language_model", "vision_tower")
ADAPTED = LoraOptions(r=4, alpha=4, vision_tower="adapters")  # TEMPLE's released SFT
EVERY = {"max_steps": 2, "save_steps": 1, "save_total_limit": None, "warmup_steps": 0}


@pytest.fixture(scope="module")
def start(request: Any, base: Path, tiny_family: Any) -> Path:
    return base if request.param == "llava_onevision" else tiny_family(request.param)


@pytest.fixture
def recipe(start: Path, make_recipe: Any) -> Any:
    return make_recipe(
        model=str(start),
        trainable=PARTS,
        lora=LoraOptions(r=4, alpha=4),
        frames=FrameOptions(fps=1.0, max=4),
        arguments=EVERY,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(str(folder), "float32", "cpu").state_dict()


@pytest.mark.parametrize(
    ("start", "changes"),
    [
        ("llava_onevision", {}),
        ("qwen2_vl", {}),
        ("qwen2_vl", {"lora": ADAPTED, "trainable": ("language_model", "vision_tower")}),
    ],
    indirect=["start"],
)
def test_both_paths_train_it_and_a_continued_run_is_the_unbroken_one(
    recipe: Any, start: Path, changes: dict[str, Any], tmp_path: Path
) -> None:
    recipe = replace(recipe, **changes)
    fast = train(recipe).parent
    plain = train(replace(recipe, path="plain", output=str(tmp_path / "plain"))).parent
    histories = [json.loads((folder / "history.json").read_text()) for folder in (fast, plain)]
    for one, other in zip(*histories, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    unbroken, before = weights(fast / "model"), weights(start)
    assert unbroken.keys() == before.keys()
    tower, projector = find_parts(load_model(str(start), "float32", "cpu"))
    moved = {part_of(name, tower, projector) for name in before if not torch.equal(unbroken[name], before[name])}
    assert moved == set(recipe.trainable)

    (fast / "done.json").unlink()
    shutil.rmtree(fast / "model")
    shutil.rmtree(fast / "checkpoint-2")
    train(recipe)
    again = weights(fast / "model")
    assert all(torch.equal(again[name], value) for name, value in unbroken.items())


@pytest.mark.parametrize("start", ["llava_onevision", "qwen2_vl"], indirect=True)
def test_without_its_adapters_the_model_has_the_initial_tower(recipe: Any) -> None:
    trainer = build_trainer(recipe, training_arguments(recipe), TrainingPairs.of_recipe(recipe))
    tree = trainer.data_collator([{"row": 0}])["tree"]

    def logps() -> torch.Tensor:
        with torch.no_grad():
            return trainer.model.eval()(tree=tree)

    initial = logps()
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if weight.requires_grad and "lora_" not in name:
                weight += 0.05
    assert (logps() - initial).abs().max() > 1e-2
    with trainer.model.disable_adapter():
        torch.testing.assert_close(logps(), initial)


@pytest.mark.parametrize("start", ["qwen2_vl"], indirect=True)
def test_a_frozen_projector_inside_a_trained_tower_is_refused(recipe: Any) -> None:
    with pytest.raises(RecipeError, match=r"is a part of its tower.*add `projector` to `trainable`"):
        train(replace(recipe, trainable=("language_model", "vision_tower")))
