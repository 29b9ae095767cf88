"""LoRA with a trained projector: checkpoints are written, resume exactly, and load."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

LOADER = Path(__file__).with_name("load_adapter.py")
FILES = {"adapter_config.json", "non_lora_trainables.bin", "config.json", "trainer_state.json", "optimizer.pt"}


def train(world: Any, output: Path, **changes: object) -> list[tuple[float, float]]:
    """A LoRA run that saves every 4 steps; its losses and gradient norms."""
    flags = world.flags(
        output, lora_enable=True, lora_r=4, lora_alpha=8, save_strategy="steps", save_steps=4, **changes
    )
    done = world.run("-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--", *flags)
    assert done.returncode == 0, done.stdout[-4000:]
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [(entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry]


def load(world: Any, folder: Path) -> dict[str, Any]:
    """What a process that loads the adapter in `folder` sees, in both ways of loading it."""
    done = world.run(LOADER, world.checkout.path, folder, world.media / "video 0.mp4")
    assert done.returncode == 0, done.stdout[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_checkpoints_are_written_resumed_and_loaded(world: Any, tmp_path: Path) -> None:
    losses = train(world, tmp_path / "whole")
    assert len(losses) == 10
    assert all(math.isfinite(loss) and norm > 0 for loss, norm in losses)
    saved = tmp_path / "whole/checkpoint-4"
    again = train(world, tmp_path / "again", max_steps=1)
    assert again == losses[:1], "the seed decides the adapters' initial weights"
    assert {file.name for file in saved.iterdir()} >= FILES
    assert any(file.name.startswith("adapter_model") for file in saved.iterdir())

    (tmp_path / "resumed").mkdir()
    shutil.copytree(saved, tmp_path / "resumed/checkpoint-4")
    assert train(world, tmp_path / "resumed") == losses

    base = load(world, world.model)
    early, final = load(world, saved), load(world, tmp_path / "whole")
    assert len({base["logit"], early["logit"], final["logit"]}) == 3, "each has weights of its own"
    assert final["projector"] != base["projector"]
