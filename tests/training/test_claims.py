"""Whose an output folder is: a chain takes none of another run, and a run none of a chain; how a checkpoint is shared."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.options import ChainRecipe, CurriculumOptions, TrainRecipe
from tpo_plugin.training.chain import train_chain
from tpo_plugin.training.claims import changes, claim, share_model
from tpo_plugin.training.curriculum import _save_history, stages


@pytest.fixture
def chain(base: Path, data: Path, tmp_path: Path) -> ChainRecipe:
    """A chain of one short step."""
    arguments = {"max_steps": 1, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    plain = {"model": "x", "output": "x", "data": str(data), "frames": {"max": 2}, "arguments": arguments}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(plain))
    return ChainRecipe(str(tmp_path / "out"), str(base), ({"name": "dpo", "recipe": str(tmp_path / "train.yaml")},))


def test_a_chain_leaves_what_is_not_its_own(chain: ChainRecipe, make_recipe: Any, base: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(base, output / "model")
    with pytest.raises(RecipeError, match="out holds a run or a model that is no chain's: choose another `output`"):
        train_chain(chain)
    (output / "done.json").write_text("{}")
    recipes.save(make_recipe(), output)
    shutil.rmtree(output / "model")
    with pytest.raises(RecipeError, match="no chain's"):
        train_chain(chain)
    assert "steps" not in (output / "recipe.yaml").read_text()


def test_a_chain_and_a_run_do_not_take_each_others_folder(chain: ChainRecipe, make_recipe: Any, tmp_path: Path) -> None:
    model = train_chain(chain)
    before = (model / "config.json").stat().st_ino, model.stat().st_ino
    assert train_chain(chain) == model
    assert ((model / "config.json").stat().st_ino, model.stat().st_ino) == before, "it has the checkpoint already"
    with pytest.raises(RecipeError, match=r"holds a run of another recipe \("):
        claim(tmp_path / "out", make_recipe(), {})
    with pytest.raises(RecipeError, match=r"`model` is .*out/model, which the chain replaces by its result"):
        train_chain(replace(chain, model=str(model)))


@pytest.mark.parametrize("name", ["model.partial", "chain.json", "recipe.yaml"])
def test_a_step_does_not_take_the_place_of_the_chains_own_files(chain: ChainRecipe, name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be step 1's name"):
        train_chain(replace(chain, steps=({**chain.steps[0], "name": name},)))


def test_a_moved_step_and_its_stages_are_the_same(make_recipe: Any, base: Path, tmp_path: Path) -> None:
    """A step with a reference that all stages keep, in the folder of a chain whose step before left its start."""

    def runs(chain: Path, model: str) -> list[TrainRecipe]:
        levels = CurriculumOptions(levels=(16.0, 4.0), reference="kept")
        whole = make_recipe(output=str(chain / "dpo"), model=model, curriculum=levels)
        first, second = stages(whole)
        return [whole, first, replace(second, model=str(Path(first.output) / "model"))]

    def digests(recipe: TrainRecipe) -> dict[str, str]:
        of = {"model": recipe.model, "reference model": recipe.reference_model}
        return {"pairs": "abc"} | {name: checkpoint_digest(path) for name, path in of.items() if path}

    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("sft", "dpo/stage-1-r16"):
        shutil.copytree(base, old / name / "model")
    for recipe in runs(old, str(old / "sft/model")):
        assert not claim(Path(recipe.output), recipe, digests(recipe))
        (Path(recipe.output) / "done.json").write_text("{}")
    old.rename(new)
    for recipe in runs(new, str(new / "sft/model")):
        output = Path(recipe.output)
        assert claim(output, recipe, digests(recipe), moved=True)
        with pytest.raises(RecipeError, match=r"output: .*old/dpo"):
            claim(output, recipe, digests(recipe))
        assert changes(output, replace(recipe, seed=7), moved=True) == ["seed: 0 -> 7"]
    (whole, *_), (first, *_) = runs(new, str(new / "sft/model")), runs(new, str(base))
    assert changes(new / "dpo", first, moved=True) == [], "the same content"
    (new / "sft/model").rename(new / "sft/later")
    assert changes(new / "dpo", whole, moved=True) == [], "not there yet"
    assert changes(new / "dpo", replace(whole, model=str(new / "more/model")), moved=True)[0].startswith("model: ")
    (new / "sft/later/config.json").write_text("{}")
    other = replace(whole, model=str(new / "sft/later"))
    assert [one.partition(":")[0] for one in changes(new / "dpo", other, moved=True)] == ["model"]
    (new / "sft/later").rename(new / "sft/model")
    with pytest.raises(RecipeError, match="the model changed since"):
        claim(new / "dpo", whole, digests(whole), moved=True)


def test_a_model_takes_the_place_of_a_link_or_another_one(base: Path, tmp_path: Path) -> None:
    other, target = tmp_path / "other", tmp_path / "model"
    shutil.copytree(base, other)
    (other / "config.json").write_text("{}")
    target.symlink_to(other)
    (tmp_path / "model.partial").mkdir()
    share_model(base, target)
    assert not target.is_symlink()
    assert (other / "config.json").read_text() == "{}"
    share_model(other, target)
    assert (target / "config.json").read_text() == "{}"
    assert not (tmp_path / "model.partial").exists()


def test_what_cannot_be_written_is_said_in_one_line(chain: ChainRecipe, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "chain.json").mkdir(parents=True)
    recipes.save(chain, output)
    with pytest.raises(TPOError, match=f"cannot write to {output}: .*Free some space"):
        train_chain(chain)
    (output / "stage").mkdir()
    (output / "stage" / "history.json").write_text("[]")
    (output / "stage" / "done.json").write_text('{"steps": 1}')
    (output / "history.json").mkdir()
    with pytest.raises(TPOError, match=f"cannot write to {output}"):
        _save_history(output, [output / "stage"])
