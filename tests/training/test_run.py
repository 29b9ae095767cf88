"""A run: what it leaves behind, and that it can be stopped anywhere."""

from __future__ import annotations

import fcntl
import json
import logging
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import last_checkpoint
from tpo_plugin.integrations.huggingface import load_model, load_processor
from tpo_plugin.options import LoraOptions, ObjectiveOptions
from tpo_plugin.report.training import load
from tpo_plugin.training import run
from tpo_plugin.training.run import train

# Two epochs of four steps, so that a stop falls into either.
EVERY_TWO = {"save_steps": 2, "save_total_limit": None, "num_train_epochs": 2}


def weights(folder) -> dict[str, torch.Tensor]:
    return load_model(str(folder), "float32", "cpu").state_dict()


def outcome(output: Path):
    """History and weights; the seconds that steps waited for data are there, and of no run like another's."""
    history = json.loads((output / "history.json").read_text())
    assert all(entry.pop("data_wait") > 0 for entry in history)
    return history, weights(output / "model")


def forget_after(output: Path, step: int) -> None:
    """What a kill after `checkpoint-<step>` leaves."""
    for name in ("done.json", "history.json"):
        (output / name).unlink()
    shutil.rmtree(output / "model")
    for folder in output.glob("checkpoint-*"):
        if int(folder.name.partition("-")[2]) > step:
            shutil.rmtree(folder)


def assert_same(left, right):
    assert len(left[0]) == len(right[0])
    for before, after in zip(left[0], right[0]):
        assert before == pytest.approx(after, rel=1e-6)
    assert all(torch.equal(left[1][name], right[1][name]) for name in left[1])


def test_a_run_leaves_model_history_and_marker(make_recipe, base, tmp_path):
    model = train(make_recipe())
    output = tmp_path / "out"
    assert model == output / "model"
    assert recipes.parse(type(make_recipe()), yaml.safe_load((output / "recipe.yaml").read_text())) == make_recipe()
    history = json.loads((output / "history.json").read_text())
    assert [entry["step"] for entry in history] == [1, 2, 3, 4]
    wanted = {"loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"}
    wanted |= {"logps/rejected", "learning_rate", "loss/sft", "loss/dpo"}
    assert all(wanted <= set(entry) for entry in history)
    kinds = {"rewards/margins/localized", "rewards/margins/comprehensive"}
    assert kinds <= {name for entry in history for name in entry}
    assert json.loads((output / "done.json").read_text())["steps"] == 4
    trained, before = weights(model), weights(base)
    assert any(not torch.equal(trained[name], before[name]) for name in before)
    assert load_processor(str(model)).video_token_id == load_processor(str(base)).video_token_id


def test_training_raises_the_margin(make_recipe, tmp_path):
    train(make_recipe(arguments={"num_train_epochs": 8, "save_strategy": "no"}))
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history[-1]["rewards/margins"] > 1
    assert history[-1]["loss"] < history[0]["loss"] / 2


@pytest.mark.parametrize("warm_up", [0.1, 0])
def test_a_run_of_warm_up_alone_says_that_nothing_was_learned(make_recipe, tmp_path, caplog, warm_up):
    short = {"max_steps": 1, "warmup_steps": warm_up, "save_strategy": "no"}
    train(make_recipe(arguments=short))
    assert ("the learning rate was 0" in caplog.text) == bool(warm_up)


def test_a_continued_run_is_the_unbroken_run(make_recipe, tmp_path):
    recipe, output = make_recipe(arguments=EVERY_TWO), tmp_path / "out"
    train(recipe)
    unbroken = outcome(output)
    for step in (2, 6):
        forget_after(output, step)
        train(recipe)
        assert_same(outcome(output), unbroken)


def test_a_continued_lora_run_is_the_unbroken_run(make_recipe, tmp_path):
    recipe, output = make_recipe(arguments=EVERY_TWO, lora=LoraOptions(r=4)), tmp_path / "out"
    train(recipe)
    unbroken = outcome(output)
    forget_after(output, 4)
    train(recipe)
    assert_same(outcome(output), unbroken)


def test_a_stopped_run_has_its_history_up_to_the_last_checkpoint(make_recipe, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(trainer, *rest):
        assert trainer.state.global_step == 8
        raise Stopped

    monkeypatch.setattr(run, "finish", stop)
    with pytest.raises(Stopped):
        train(make_recipe(arguments={**EVERY_TWO, "save_steps": 3}))
    checkpoints = sorted(folder.name for folder in (tmp_path / "out").glob("checkpoint-*"))
    assert checkpoints == ["checkpoint-3", "checkpoint-6", "checkpoint-8"]
    reported = load("tpo", tmp_path / "out")
    assert not reported.finished
    assert [step for step, _ in reported.values("loss")] == list(range(1, 9))


@pytest.mark.parametrize(
    "state", [None, '{"global_step": 4, "log_his', '{"global_step": 3}'], ids=["none", "half", "other"]
)
def test_a_torn_checkpoint_is_not_continued_from(make_recipe, tmp_path, state):
    recipe, output = make_recipe(arguments=EVERY_TWO), tmp_path / "out"
    train(recipe)
    unbroken = outcome(output)
    forget_after(output, 4)
    torn = output / "checkpoint-4"
    (torn / "optimizer.pt").write_bytes(b"half")
    (torn / "trainer_state.json").unlink()
    if state:
        (torn / "trainer_state.json").write_text(state)
    assert last_checkpoint(output) == output / "checkpoint-2"
    train(recipe)
    assert_same(outcome(output), unbroken)


@pytest.mark.parametrize("limit", [500_000, 4_000_000], ids=["weights", "optimizer"])
def test_a_full_disk_is_said_and_the_run_continues_after_it(make_recipe, tmp_path, limit):
    # Weights have 3.4 MB and the optimizer's state 6.4 MB; a file that outgrows the limit fails as on a full disk.
    recipe = make_recipe(arguments=EVERY_TWO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(TPOError, match=r"cannot write to .*Free some space and run the same command again"):
            train(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out").glob("checkpoint-2"))
    assert last_checkpoint(tmp_path / "out") is None
    train(recipe)
    assert json.loads((tmp_path / "out" / "done.json").read_text())["steps"] == 8


def test_a_killed_process_is_continued(make_recipe, kill_training, tmp_path):
    recipe = make_recipe(arguments={**EVERY_TWO, "save_steps": 1, "num_train_epochs": 4})
    output = tmp_path / "out"
    kill_training(recipe, "checkpoint-*/optimizer.pt")
    train(recipe)
    train(replace(recipe, output=str(tmp_path / "unbroken")))
    assert_same(outcome(output), outcome(tmp_path / "unbroken"))


def test_a_finished_run_is_reused(make_recipe, tmp_path, caplog):
    train(make_recipe())
    stamp = (tmp_path / "out" / "done.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        assert train(make_recipe()) == tmp_path / "out" / "model"
    assert (tmp_path / "out" / "done.json").stat().st_mtime_ns == stamp
    assert "is finished: reusing" in caplog.text


def test_another_recipe_does_not_go_into_the_same_folder(make_recipe):
    train(make_recipe())
    with pytest.raises(
        RecipeError, match=r"objective\.beta: 0\.3 -> 0\.1\); choose another `output`, or remove the folder"
    ):
        train(make_recipe(objective=ObjectiveOptions(beta=0.1)))


def test_changed_pairs_do_not_reuse_an_old_run(make_recipe, data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data.parent, folder)
    recipe = make_recipe(data=str(folder / "pairs.json"))
    train(recipe)
    (folder / "pairs.json").write_text((folder / "pairs.json").read_text().replace("circle", "a circle"))
    with pytest.raises(RecipeError, match="the pairs changed since"):
        train(recipe)


def test_a_recipe_may_be_mended_before_anything_is_trained(make_recipe):
    with pytest.raises(RecipeError, match=r"no q_project in the language model"):
        train(make_recipe(lora=LoraOptions(r=4, target_modules=("q_project",))))
    train(make_recipe(lora=LoraOptions(r=4)))


def test_two_runs_do_not_share_an_output_folder(make_recipe, tmp_path):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TPOError, match="another run is writing to"):
            train(make_recipe())


def test_an_output_that_cannot_be_written_is_said(make_recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TPOError, match=r"cannot write to the output folder .* choose another `output`"):
        train(make_recipe(output=str(tmp_path / "file" / "out")))


@pytest.mark.parametrize(
    "objective", [ObjectiveOptions(beta=0.0), ObjectiveOptions(dpo_alpha=0.0, gamma=0.0), ObjectiveOptions(gamma=-1.0)]
)
def test_an_objective_that_makes_no_sense_is_refused(make_recipe, objective):
    with pytest.raises(RecipeError, match="`objective` needs beta > 0"):
        train(make_recipe(objective=objective))
