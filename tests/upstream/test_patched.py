"""The patched script: `--tpo` as a flag of the user's own command, and nothing but upstream without it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from tpo_plugin.integrations.checkout import find_checkout

BARE = Path(__file__).with_name("bare.py")
OLD = tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (4, 46)


@pytest.fixture
def patched(world: Any, tmp_path: Path) -> Any:
    """The world with a patched copy of its checkout."""
    copy = tmp_path / "checkout"
    shutil.copytree(world.checkout.path, copy, ignore=shutil.ignore_patterns(".git", "*.png", "*.jpg", "*.mp4", "docs"))
    done = world.run("-m", "tpo_plugin", "patch", "apply", copy)
    assert done.returncode == 0, done.stdout
    return replace(world, checkout=find_checkout(copy))


def losses(output: Path) -> list[dict[str, Any]]:
    return [
        {key: entry[key] for key in ("loss", "grad_norm", "logps/chosen", "rewards/margins")}
        for entry in json.loads((output / "trainer_state.json").read_text())["log_history"]
        if "loss" in entry
    ]


def test_the_patched_script_with_tpo_equals_the_launcher(world: Any, patched: Any, tmp_path: Path) -> None:
    done = patched.run(patched.checkout.script, *patched.flags(tmp_path / "script", tpo=True))
    assert done.returncode == 0, done.stdout[-4000:]
    command = ["-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--"]
    done = world.run(*command, *world.flags(tmp_path / "launcher"))
    assert done.returncode == 0, done.stdout[-4000:]
    assert losses(tmp_path / "script") == losses(tmp_path / "launcher")


@pytest.mark.skipif(not OLD, reason="upstream's own script runs on transformers 4.40 - 4.45 alone")
def test_without_tpo_the_patched_script_is_upstreams_to_the_last_bit(world: Any, patched: Any, tmp_path: Path) -> None:
    for one, name in ((world, "upstream"), (patched, "patched")):
        done = one.run(BARE, one.checkout.script, *one.flags(tmp_path / name, save_strategy="steps", save_steps=5))
        assert done.returncode == 0, done.stdout[-4000:]
    assert losses(tmp_path / "upstream") == losses(tmp_path / "patched")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("upstream", "patched")]
    assert weights[0] == weights[1]
