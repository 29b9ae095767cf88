"""Stages of difficulty: each a whole run from the one before, with its own reference or the first one's, stopped and continued anywhere."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tpo_plugin import recipe as recipes
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.integrations.huggingface import load_model
from tpo_plugin.options import CurriculumOptions, FrameOptions, LoraOptions, ObjectiveOptions, TrainRecipe
from tpo_plugin.training import run
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.curriculum import stages
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.training.policies.hf import score
from tpo_plugin.training.run import build_trainer, reference, train

STAGES = ("stage-1-r16", "stage-2-r2")
ARGUMENTS = {
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def levelled(data: Path) -> Path:
    """The eight pairs, half of them of difficulty 16, half of difficulty 2."""
    rows = json.loads(data.read_text())
    for row, level in zip(rows, (2, 16, 16, 2) * 2):
        row["tpo"] = {"kind": "caption", "perturbation": {"name": "drop", "kept": [], "difficulty": level}}
    file = data.parent / "levels.json"
    file.write_text(json.dumps(rows))
    return file


@pytest.fixture(scope="module")
def make(base: Path, levelled: Path) -> Any:
    """A function that makes a quick recipe, staged unless something else is asked for."""

    def recipe(output: Path, curriculum: CurriculumOptions | None = None, **changes: Any) -> TrainRecipe:
        defaults = {
            "objective": ObjectiveOptions(beta=0.3, dpo_alpha=1.0, gamma=0.5),
            "frames": FrameOptions(fps=1.0, max=4),
            "curriculum": curriculum or CurriculumOptions(levels=(16.0, 2.0)),
            "arguments": ARGUMENTS,
        }
        return TrainRecipe(str(base), str(levelled), str(output), **{**defaults, **changes})

    return recipe


KEPT = CurriculumOptions(levels=(16.0, 2.0), reference="kept")


@pytest.fixture(scope="module")
def reset(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a staged run."""
    return train(make(tmp_path_factory.mktemp("reset") / "out")).parent


@pytest.fixture(scope="module")
def kept(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a staged run whose reference is kept."""
    return train(make(tmp_path_factory.mktemp("kept") / "out", KEPT)).parent


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(str(folder), "float32", "cpu").state_dict()


def assert_same(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert all(torch.equal(left[name], right[name]) for name in right)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def sums(recipe: TrainRecipe, model: str | Path) -> dict[str, tuple[float, float]]:
    """log p of chosen and rejected of each row by its id, each from a full sequence, with this checkpoint."""
    plain = replace(recipe, path="plain", model=str(model), curriculum=None, output=recipe.output + " scored")
    pairs = TrainingPairs.of_recipe(plain)
    trainer = build_trainer(plain, training_arguments(plain), pairs)
    found = {}
    with torch.no_grad():
        for index, row in enumerate(pairs.rows):
            scores = score(trainer.model, trainer.data_collator([{"row": index}])["groups"])
            found[row.id] = (scores.chosen.item(), scores.rejected.item())
    return found


def table(folder: Path) -> dict[str, tuple[float, float]]:
    lines = [json.loads(line) for line in (folder / "reference.jsonl").read_text().splitlines()[1:]]
    return {line["id"]: (line["chosen"], line["rejected"]) for line in lines}


def test_a_stage_is_a_run_from_the_one_before(make: Any, reset: Path, tmp_path: Path) -> None:
    one = make(tmp_path / "one", curriculum=None, difficulty=(16.0,))
    first = train(replace(one, curriculum=None))
    second = train(replace(one, model=str(first), difficulty=(2.0,), curriculum=None, output=str(tmp_path / "two")))
    assert_same(reset / STAGES[0] / "model", first)
    assert_same(reset / STAGES[1] / "model", second)
    assert_same(reset / "model", second)


def test_the_whole_says_what_its_stages_did(reset: Path, make: Any) -> None:
    history = read(reset / "history.json")
    assert [(entry["stage"], entry["step"]) for entry in history] == [
        (STAGES[0], 1), (STAGES[0], 2), (STAGES[1], 3), (STAGES[1], 4),
    ]  # fmt: skip
    assert all({"loss", "grad_norm", "loss/sft", "rewards/margins/caption"} <= set(entry) for entry in history)
    rates = [entry["learning_rate"] for entry in history]
    assert rates[2:] == rates[:2], "each stage has its own schedule"
    done = read(reset / "done.json")
    assert (done["steps"], done["pairs"]) == (4, 8)
    assert [(stage["name"], stage["pairs"], stage["steps"]) for stage in done["stages"]] == [
        (STAGES[0], 4, 2), (STAGES[1], 4, 2),
    ]  # fmt: skip
    assert recipes.load(TrainRecipe, reset / "recipe.yaml") == make(reset)


def test_a_reset_reference_is_the_stage_before_and_a_kept_one_the_start(
    make: Any, base: Path, reset: Path, kept: Path
) -> None:
    recipe = make(reset)
    at_start, after_first = sums(recipe, base), sums(recipe, kept / STAGES[0] / "model")
    assert set(table(kept)) == set(at_start)
    assert not (kept / STAGES[1] / "reference.jsonl").exists()
    for name, logps in table(kept).items():
        assert logps == pytest.approx(at_start[name], abs=1e-4)
    hard = {row.id for row in load_pairs(recipe.data)[0] if row.tpo["perturbation"]["difficulty"] == 2}
    assert set(table(reset / STAGES[1])) == hard
    for name, logps in table(reset / STAGES[1]).items():
        assert logps == pytest.approx(after_first[name], abs=1e-4), "the first stages are the same run"
    assert max(abs(after_first[name][0] - at_start[name][0]) for name in hard) > 0.1
    # Before the first step of the second stage, the policy is the first one's model: no reward against itself, some against the start.
    entries = [next(entry for entry in read(folder / "history.json") if entry["step"] == 3) for folder in (reset, kept)]
    assert entries[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    pairs = TrainingPairs.of_recipe(make(kept, KEPT)).at_level(2.0)
    stage = replace(stages(make(kept, KEPT))[1], model=str(kept / STAGES[0] / "model"))
    rows = next(iter(build_trainer(stage, training_arguments(stage), pairs).get_train_dataloader()))["rows"]
    change = [
        0.3 * (after_first[name][0] - at_start[name][0] - after_first[name][1] + at_start[name][1])
        for name in (pairs.rows[row].id for row in rows)
    ]
    assert entries[1]["rewards/margins"] == pytest.approx(sum(change) / len(change), abs=1e-4)


def test_the_plain_path_keeps_the_reference_too(make: Any, kept: Path, tmp_path: Path) -> None:
    plain = train(make(tmp_path / "out", KEPT, path="plain")).parent
    for one, other in zip(read(plain / "history.json"), read(kept / "history.json"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["rewards/margins"] == pytest.approx(other["rewards/margins"], abs=1e-4)


def test_the_table_of_a_kept_reference_can_be_made_before(make: Any, kept: Path, tmp_path: Path) -> None:
    file = reference(make(tmp_path / "out", KEPT))
    assert file == tmp_path / "out" / "reference.jsonl"
    assert table(file.parent) == table(kept)
    with pytest.raises(RecipeError, match="the model of the one before"):
        reference(make(tmp_path / "out"))


def test_adapters_are_merged_after_each_stage_and_a_trainer_is_gone_before_the_next(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[weakref.ref[Any]] = []

    def build(*arguments: Any) -> Any:
        assert all(trainer() is None for trainer in trainers)
        made = build_trainer(*arguments)
        trainers.append(weakref.ref(made))
        return made

    monkeypatch.setattr(run, "build_trainer", build)
    output = train(make(tmp_path / "out", lora=LoraOptions(r=4))).parent
    assert len(trainers) == 2
    for folder in (output / STAGES[0], output / STAGES[1], output):
        assert (folder / "model" / "model.safetensors").is_file()
        assert not (folder / "model" / "adapter_config.json").exists()


def test_a_run_killed_in_its_second_stage_is_continued(make: Any, kill_training: Any, tmp_path: Path) -> None:
    often = {**ARGUMENTS, "save_strategy": "steps", "save_steps": 1, "num_train_epochs": 2}
    recipe = make(tmp_path / "out", arguments=often)
    kill_training(recipe, f"{STAGES[1]}/checkpoint-*/trainer_state.json")
    first = (tmp_path / "out" / STAGES[0] / "done.json").stat().st_mtime_ns
    train(recipe)
    assert (tmp_path / "out" / STAGES[0] / "done.json").stat().st_mtime_ns == first
    unbroken = train(replace(recipe, output=str(tmp_path / "unbroken"))).parent
    assert_same(tmp_path / "out" / "model", unbroken / "model")
    losses = [[entry["loss"] for entry in read(folder / "history.json")] for folder in (tmp_path / "out", unbroken)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8


def test_a_finished_whole_is_reused_and_one_of_another_recipe_refused(
    make: Any, reset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert train(make(reset)) == reset / "model"
    assert "is finished: reusing" in caplog.text
    with pytest.raises(RecipeError, match=r"curriculum.levels: \[16.0, 2.0\] -> \[2.0, 16.0\]"):
        train(make(reset, CurriculumOptions(levels=(2.0, 16.0))))


def test_the_last_stage_may_go_and_the_model_stays(reset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(reset, copy, symlinks=True)
    shutil.rmtree(copy / STAGES[1])
    assert_same(copy / "model", reset / STAGES[1] / "model")


@pytest.mark.parametrize(("order", "count"), [("easy_to_hard", 1), ("hard_to_easy", 2)])
def test_without_stages_rows_come_by_their_level(make: Any, tmp_path: Path, order: Any, count: int) -> None:
    options = CurriculumOptions(order, levels=(16.0, 2.0))
    recipe = make(tmp_path / "out", options, pairs_per_video=count)
    pairs = TrainingPairs.of_recipe(recipe)
    trainer = build_trainer(recipe, training_arguments(recipe), pairs)
    rows = [row for batch in trainer.get_train_dataloader() for row in batch["rows"]]
    levels = [pairs.rows[row].tpo["perturbation"]["difficulty"] for row in rows]
    assert levels == sorted(levels, reverse=order == "easy_to_hard")
    assert sorted(rows) == list(range(8))
    assert rows[:4] != sorted(rows[:4])


def test_two_processes_train_the_same_stages(make: Any, kept: Path, ranks: Any, tmp_path: Path) -> None:
    recipe = make(tmp_path / "two", KEPT, arguments={**ARGUMENTS, "per_device_train_batch_size": 1})
    recipes.save(recipe, tmp_path)
    ranks("train", tmp_path / "recipe.yaml")
    rows = read(tmp_path / "two" / "history.json")
    assert len(rows) == 4
    assert table(tmp_path / "two") == {name: pytest.approx(logps, abs=1e-4) for name, logps in table(kept).items()}
    assert rows[2]["rewards/margins"] != 0
    assert read(tmp_path / "two" / "done.json")["pairs"] == 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"curriculum": CurriculumOptions(levels=(16.0, 8.0))},
            r"no pair has difficulty 8; the data has 16 \(4 pairs\), 2",
        ),
        ({"curriculum": CurriculumOptions(levels=(16.0, 16.0))}, r"`curriculum.levels` needs levels over 0, each once"),
        ({"curriculum": CurriculumOptions(levels=())}, r"`curriculum.levels` needs levels over 0"),
        ({"difficulty": (16.0,)}, "take `difficulty` out"),
        ({"reference_model": "somewhere"}, "set `curriculum.reference: kept`"),
        ({"curriculum": CurriculumOptions("shuffled", reference="kept")}, "`curriculum.reference` is about stages"),
        (
            {"curriculum": CurriculumOptions("easy_to_hard"), "arguments": {"train_sampling_strategy": "random"}},
            "an order of its own",
        ),
        ({"max_pairs": 1}, "`max_pairs` or `ratio` leaves no pair of difficulty (16|2) for its stage: raise it"),
    ],
)
def test_what_cannot_be_trained_is_refused(make: Any, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TPOError, match=says):
        train(make(tmp_path / "out", **changes))


def test_data_without_difficulties_is_refused(make: Any, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TPOError, match=r"the data has no difficulties at all: they come from `method: temple`"):
        train(replace(make(tmp_path / "out"), data=str(data)))
