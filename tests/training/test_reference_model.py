"""A `reference_model` of one's own: refused where it has no effect or other words, scored with the run's own arguments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.integrations.huggingface import load_processor
from tpo_plugin.options import CurriculumOptions, LoraOptions, ObjectiveOptions
from tpo_plugin.training import run
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.training.run import build_trainer, check_recipe, train

SFT = ObjectiveOptions(dpo_alpha=0.0, gamma=1.0)


@pytest.fixture
def other(base: Path, tmp_path: Path) -> Path:
    """The checkpoint, which knows a word more."""
    folder = tmp_path / "other"
    shutil.copytree(base, folder)
    processor = load_processor(str(folder))
    processor.tokenizer.add_tokens(["<another word>"])
    processor.save_pretrained(folder)
    return folder


def test_a_reference_without_effect_is_refused(make_recipe: Any, base: Path) -> None:
    with pytest.raises(RecipeError, match=r"`reference_model` has no effect with `objective.dpo_alpha` 0"):
        check_recipe(make_recipe(objective=SFT, reference_model=str(base)))
    with pytest.raises(RecipeError, match=r"`curriculum.reference` has no effect with `objective.dpo_alpha` 0"):
        check_recipe(make_recipe(objective=SFT, curriculum=CurriculumOptions(reference="kept")))


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_a_reference_with_another_vocabulary_is_refused(make_recipe: Any, other: Path, path: str) -> None:
    with pytest.raises(TPOError, match=r"`reference_model` .*other has another vocabulary \(\d+ words\) than `model`"):
        train(make_recipe(reference_model=str(other), path=path))


def test_the_pass_of_another_reference_makes_no_arguments_of_its_own(
    make_recipe: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ZeRO-3 later ones would take the place of the run's, and end with the pass: the policy would then be loaded whole."""
    shutil.copytree(base, tmp_path / "same")
    recipe = make_recipe(reference_model=str(tmp_path / "same"))
    arguments, pairs = training_arguments(recipe), TrainingPairs.of_recipe(recipe)
    made: list[Any] = []
    monkeypatch.setattr(run, "training_arguments", lambda recipe: made.append(recipe) or arguments)
    assert build_trainer(recipe, arguments, pairs).stored.is_complete()
    assert made == []


@pytest.mark.parametrize(
    ("lora", "trainable", "warns"),
    [
        (None, ("language_model",), True),
        (LoraOptions(), ("language_model",), False),
        (LoraOptions(), ("projector", "language_model"), True),
        (LoraOptions(), ("language_model", "vision_tower"), True),
        (LoraOptions(vision_tower="adapters"), ("language_model", "vision_tower"), False),
    ],
)
def test_half_precision_is_warned_of_where_weights_are_trained_in_full(
    make_recipe: Any, caplog: pytest.LogCaptureFixture, lora: LoraOptions | None, trainable: Any, warns: bool
) -> None:
    check_recipe(make_recipe(dtype="bfloat16", lora=lora, trainable=trainable))
    assert ("weights are held in bfloat16" in caplog.text) == warns
