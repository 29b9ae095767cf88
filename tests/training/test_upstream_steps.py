"""A step of a chain with an upstream script: what it is made of, and what makes it another one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import TPOError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.options import UpstreamRecipe
from tpo_plugin.training.chain import Step
from tpo_plugin.training.upstream import (
    GIVEN,
    STEP,
    _batch,
    _comparable,
    _inputs,
    _record,
    changed,
    step_result,
)


def needed(**more: object) -> dict[str, object]:
    return {"model_name_or_path": "m", "data_path": "d", "output_dir": "o", **more}


@pytest.mark.parametrize(
    ("lora", "name"), [(True, "a-llava-merged"), ("True", "a-llava-merged"), (False, "a-llava"), (None, "a-llava")]
)
def test_a_step_lies_under_the_name_that_upstream_goes_by(tmp_path: Path, lora: object, name: str) -> None:
    assert step_result({"output_dir": "runs/a-llava", "lora_enable": lora}, tmp_path) == tmp_path / name


def test_what_a_step_is_made_of(tmp_path: Path) -> None:
    recipe = UpstreamRecipe("LongVA", needed(beta=0.3))
    made_of = {"start": "abc", "recipe": _comparable(recipe)}
    assert _record(tmp_path, made_of) == {}
    record = {**made_of, "seconds": 1.5}
    (tmp_path / STEP).write_text(json.dumps(record))
    moved = UpstreamRecipe("LongVA", needed(beta=0.3, output_dir="elsewhere", model_name_or_path="n"), processes=8)
    assert _record(tmp_path, {**made_of, "recipe": _comparable(moved)}) == record
    other = UpstreamRecipe("LongVA", needed(beta=0.2))
    for differing, says in (
        ({"recipe": _comparable(other)}, "flags.beta: 0.3 -> 0.2"),
        ({"start": "d"}, "start: abc -> d"),
    ):
        with pytest.raises(TPOError, match=rf"{says}\): remove that folder and those of the steps after it"):
            _record(tmp_path, {**made_of, **differing})


@pytest.fixture
def step(tmp_path: Path) -> tuple[UpstreamRecipe, Path]:
    """A finished step's recipe and folder; it started from `out/a/tiny`, which is not there."""
    (tmp_path / "rows.json").write_text("[1]")
    folder = tmp_path / "out" / "b"
    folder.mkdir(parents=True)
    recipe = UpstreamRecipe("LongVA", needed(data_path=str(tmp_path / "rows.json"), output_dir="x/tiny"))
    flags = {**recipe.flags, "model_name_or_path": str(tmp_path / "out/a/tiny")}
    (folder / GIVEN).write_text(json.dumps(recipes.to_plain(UpstreamRecipe("LongVA", flags))))
    (folder / STEP).write_text(json.dumps({"start": "abc", **_inputs(recipe), "seconds": 1.0}))
    return recipe, folder


def test_a_step_of_other_data_reference_or_name_is_told_before_it_is_due(
    step: tuple[UpstreamRecipe, Path], base: Path, tmp_path: Path
) -> None:
    recipe, folder = step
    start = str(tmp_path / "out/a/tiny")
    assert changed(recipe, start, folder) == []
    assert changed(recipe, "moved/out/a/tiny", folder) == [], "a moved chain is the same"
    for flags, says in (
        ({"output_dir": "x/other"}, "output: tiny -> other"),
        ({"beta": 0.2}, "recipe.flags.beta: None -> 0.2"),
    ):
        assert changed(UpstreamRecipe("LongVA", {**recipe.flags, **flags}), start, folder) == [says]
    assert "start: " in changed(recipe, str(tmp_path / "out/between/tiny"), folder)[0]
    assert changed(recipe, str(base), folder) == [f"start: abc -> {checkpoint_digest(str(base))}"]
    (tmp_path / "rows.json").write_text("[2]")
    assert [one.partition(":")[0] for one in changed(recipe, start, folder)] == ["data"]


def test_the_batch_counts_and_not_how_many_processes_make_it(step: tuple[UpstreamRecipe, Path]) -> None:
    recipe, folder = step
    start, flags = str(folder.parent / "a" / "tiny"), {**recipe.flags, "per_device_train_batch_size": 1}
    of = {
        count: replace(recipe, flags={**flags, "gradient_accumulation_steps": 16 // count}, processes=count)
        for count in (2, 8)
    }
    before = {"start": "abc", **_inputs(of[8]), "seconds": 1.0}
    (folder / STEP).write_text(json.dumps(before))
    assert before["batch"] == 16
    assert changed(of[2], start, folder) == []
    assert changed(replace(of[8], processes=1), start, folder) == ["batch: 16 -> 2"]
    del before["batch"]  # as earlier releases have it
    (folder / STEP).write_text(json.dumps(before))
    assert changed(replace(of[8], processes=1), start, folder) == []
    assert changed(of[2], start, folder) == ["recipe.flags.gradient_accumulation_steps: 2 -> 8"]


@pytest.mark.parametrize(
    ("flags", "batch"), [({}, 16), ({"tpo_preset": "longva"}, 2), ({"gradient_accumulation_steps": "4"}, 64)]
)
def test_a_batch_of_what_the_flags_leave_out(flags: dict[str, object], batch: int) -> None:
    """transformers has 8 a process, the presets 1."""
    assert _batch(UpstreamRecipe("LongVA", needed(**flags), processes=2)) == batch
    with pytest.raises(TPOError, match=r"`flags\.per_device_train_batch_size` must be a number, it is 'auto'"):
        _batch(UpstreamRecipe("LongVA", needed(per_device_train_batch_size="auto")))


def test_the_data_of_a_finished_step_is_not_looked_at(step: tuple[UpstreamRecipe, Path]) -> None:
    recipe, folder = step
    Step("b", folder, recipe).check_data()
    (folder / STEP).unlink()
    with pytest.raises(TPOError, match=r"row 0 .*must be an object, it is int"):
        Step("b", folder, recipe).check_data()


def test_a_reference_that_is_another_model_now_counts(step: tuple[UpstreamRecipe, Path], base: Path) -> None:
    recipe, folder = step
    recipe = UpstreamRecipe("LongVA", {**recipe.flags, "tpo_reference_model": str(base)})
    made_of = _inputs(recipe)
    assert made_of["reference model"] == checkpoint_digest(str(base))
    (folder / STEP).write_text(json.dumps({**made_of, "reference model": "another", "seconds": 1.0}))
    with pytest.raises(TPOError, match="reference model: another -> "):
        _record(folder, made_of)


def test_a_step_that_has_saved_nothing_can_be_corrected(step: tuple[UpstreamRecipe, Path]) -> None:
    recipe, folder = step
    (folder / STEP).write_text(json.dumps({"start": "abc", **_inputs(recipe)}))
    corrected = {"start": "abc", **_inputs(UpstreamRecipe("LongVA", {**recipe.flags, "beta": 0.2}))}
    assert _record(folder, corrected) == {}
    (folder / "tiny" / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(TPOError, match=r"flags.beta: None -> 0.2\): remove that folder"):
        _record(folder, corrected)
