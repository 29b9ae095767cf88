"""`--tpo` runs of the real scripts on the CPU: train, save, resume, load with upstream's own loader, generate."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

LOADER = Path(__file__).with_name("load_and_generate.py")


def history(output: Path) -> list[dict[str, Any]]:
    """The logged steps of a finished run."""
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def train(world: Any, output: Path, *launch: str, **changes: object) -> str:
    """A run of `tpo train --upstream`, which must succeed; returns what it printed."""
    command = [*(launch or ("-m", "tpo_plugin")), "train", "--upstream", world.checkout.path, "--"]
    done = world.run(*command, *world.flags(output, **changes))
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_train_save_resume_load_generate(world: Any, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(world, whole, save_strategy="steps", save_steps=4)
    steps = history(whole)
    assert len(steps) == 10
    assert all(math.isfinite(step["loss"]) for step in steps)
    assert steps[0]["losses/dpo"] == pytest.approx(math.log(2), abs=1e-6)
    assert any(step["losses/dpo"] != steps[0]["losses/dpo"] for step in steps[1:])
    kinds = {key for step in steps for key in step if key.startswith("rewards/margins/")}
    assert kinds == {"rewards/margins/localized", "rewards/margins/comprehensive"}

    resumed.mkdir()
    shutil.copytree(whole / "checkpoint-4", resumed / "checkpoint-4")
    train(world, resumed, save_strategy="steps", save_steps=4)
    assert [step["loss"] for step in history(resumed)] == [step["loss"] for step in steps]

    name = f"{world.checkout.package}_qwen"
    loaded = world.run(LOADER, world.checkout.package, whole, name, world.media / "video 0.mp4")
    assert loaded.returncode == 0, loaded.stdout[-4000:]
    assert json.loads(loaded.stdout.splitlines()[-1])["tokens"] > 0


def test_from_videos_to_an_answer(world: Any, recipe: Path, tmp_path: Path) -> None:
    """The whole chain: the model curates, trains on its own pairs, is resumed, and is loaded with upstream's own loader."""
    curated = world.curate(recipe)
    assert curated.returncode == 0, curated.stderr
    flags = {
        "data_path": tmp_path / "out",
        "video_folder": None,
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 4,
    }
    train(world, tmp_path / "whole", **flags)
    steps = history(tmp_path / "whole")
    assert len(steps) == 8
    assert all(math.isfinite(step["loss"]) for step in steps)
    (tmp_path / "resumed").mkdir()
    shutil.copytree(tmp_path / "whole/checkpoint-4", tmp_path / "resumed/checkpoint-4")
    train(world, tmp_path / "resumed", **flags)
    assert [step["loss"] for step in history(tmp_path / "resumed")] == [step["loss"] for step in steps]
    name = f"{world.checkout.package}_qwen"
    loaded = world.run(LOADER, world.checkout.package, tmp_path / "resumed", name, world.media / "video 0.mp4")
    assert loaded.returncode == 0, loaded.stdout[-4000:]
    assert json.loads(loaded.stdout.splitlines()[-1])["tokens"] > 0


def test_a_changed_run_is_not_resumed(world: Any, tmp_path: Path) -> None:
    train(world, tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
    command = ["-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--"]
    changed = world.flags(tmp_path, max_steps=2, save_strategy="steps", save_steps=1, beta=0.7)
    done = world.run(*command, *changed)
    assert done.returncode == 1
    assert "beta: 0.1 -> 0.7" in done.stdout
    assert "choose another --output_dir" in done.stdout


def test_a_torn_checkpoint_is_passed_over(world: Any, tmp_path: Path) -> None:
    train(world, tmp_path / "run", save_strategy="steps", save_steps=4)
    first = [step["loss"] for step in history(tmp_path / "run")]
    (tmp_path / "run/checkpoint-8/trainer_state.json").unlink()
    shutil.rmtree(tmp_path / "run/checkpoint-10", ignore_errors=True)
    text = train(world, tmp_path / "run", save_strategy="steps", save_steps=4)
    assert "checkpoint-8 is incomplete" in text
    assert [step["loss"] for step in history(tmp_path / "run")] == first


@pytest.mark.parametrize("parts", ["mm_vision_tower,mm_mlp_adapter,mm_language_model", "mm_vision_tower"])
def test_a_trained_tower_stays_finite_without_bf16(world: Any, tmp_path: Path, parts: str) -> None:
    train(world, tmp_path, mm_tunable_parts=parts)
    steps = history(tmp_path)
    assert all(math.isfinite(step["loss"]) and step["loss"] > 0 for step in steps)
    assert len({step["losses/total"] for step in steps}) == len(steps)


def test_preset_is_merged_and_printed_and_flags_win(world: Any, tmp_path: Path) -> None:
    text = train(
        world, tmp_path, tpo_preset="longva", learning_rate=1e-3, lr_scheduler_type=None, warmup_ratio=None, max_steps=1
    )
    assert "beta 0.3, dpo_alpha 1.0, gamma 0.5, learning_rate 0.001 (preset: 4e-06), lr_scheduler_type" in text
    assert "frames_upbound 4 (preset: 128)" in text


def test_help_lists_the_options(world: Any) -> None:
    done = world.run("-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--", "--help")
    assert done.returncode == 0
    for flag in ("--tpo ", "--tpo_preset", "--tpo_time_instruction", "--tpo_force_sample", "--tpo_max_broken"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_max_length": 60}, "--model_max_length 60: raise it"),
        ({"precompute_ref_log_probs": True}, "leave it out"),
        ({"tpo": False}, "leave --tpo False out"),
        ({"tpo_pre": "longva"}, "must be written out"),
        ({"no_such_flag": 1}, "the script has no such flags"),
        ({"mm_patch_merge_type": None}, "give --mm_patch_merge_type"),
        ({"version": "v1"}, "give --version qwen_1_5"),
        ({"version": None}, "give --version qwen_1_5"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(world: Any, tmp_path: Path, changes: Any, text: str) -> None:
    command = ["-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--"]
    done = world.run(*command, *world.flags(tmp_path, **changes))
    assert done.returncode == 1
    assert text in done.stdout
    assert "Traceback" not in done.stdout


def test_two_processes_equal_one_with_twice_the_accumulation(world: Any, tmp_path: Path) -> None:
    train(world, tmp_path / "one", gradient_accumulation_steps=2)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tpo_plugin")
    train(world, tmp_path / "two", *torchrun, ddp_find_unused_parameters=False)
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert len(one) == len(two) == 5
    for left, right in zip(one, two):
        # Upstream logs its own losses of the first process alone (dpo_trainer.py, get_batch_loss_metrics).
        names = {name for name in left if not name.startswith("losses/")}
        assert names == {name for name in right if not name.startswith("losses/")}
        for name in names:
            assert right[name] == pytest.approx(left[name], rel=1e-4, abs=1e-6), name
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-5)
