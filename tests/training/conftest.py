"""A tiny checkpoint, a few videos of different lengths, and pairs about them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tpo_plugin import recipe as recipes
from tpo_plugin.options import FrameOptions, ObjectiveOptions, TrainRecipe
from tpo_plugin.tiny.world import draw_scenes, frames_at
from tpo_plugin.video import write_video

SECONDS = (4, 6, 6, 9)  # four videos, so that batches mix numbers of frames
TEXTS = (
    ("What shape is shown when the background is red?", "circle", "a square moves left"),
    ("Which way does the shape move?", "it moves to the right side", "up"),
    ("List the shapes in order.", "star on red, ring on blue", "ring on blue"),
    ("How many times is a star shown?", "two", "three"),
)


FAMILIES = ("llava_onevision", "qwen2_vl", "qwen2_5_vl")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, base, tiny_family):
    """Model and processor of a family, the model new for each test module."""
    from tpo_plugin.integrations.huggingface import load_model, load_processor

    folder = base if request.param == "llava_onevision" else tiny_family(request.param)
    return load_model(str(folder), "float32", "cpu"), load_processor(str(folder))


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """An untrained tiny checkpoint."""
    from tpo_plugin.tiny.model import (
        build_model,
        build_processor,
    )  # not before tests/conftest.py has repaired torchvision

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    processor = build_processor()
    build_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A LLaVA DPO JSON with eight pairs about four videos, half of them localized."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    for number, seconds in enumerate(SECONDS):
        scenes = draw_scenes(rng, 3, seconds / 3)
        write_video(folder / f"video {number}.mp4", frames_at(scenes, [t / 4 for t in range(4 * seconds)], 32), 4)
    rows = [
        {
            "id": f"pair{index}",
            "video": f"video {index % 4}.mp4",
            "prompt": TEXTS[(index + index // 4) % 4][0],
            "chosen": TEXTS[(index + index // 4) % 4][1],
            "rejected": TEXTS[(index + index // 4) % 4][2],
            "tpo": {"kind": ("localized", "comprehensive")[index % 2]},
        }
        for index in range(8)
    ]
    (folder / "pairs.json").write_text(json.dumps(rows))
    return folder / "pairs.json"


@pytest.fixture
def make_recipe(base, data, tmp_path):
    """A function that makes a training recipe with some fields changed; `arguments` are added to quick ones."""

    def make(**changes) -> TrainRecipe:
        arguments = {
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "disable_tqdm": True,
            **changes.pop("arguments", {}),
        }
        defaults = {
            "model": str(base),
            "data": str(data),
            "output": str(tmp_path / "out"),
            "objective": ObjectiveOptions(beta=0.3, dpo_alpha=1.0, gamma=0.5),
            "frames": FrameOptions(fps=1.0, max=8),
        }
        return TrainRecipe(**{**defaults, "arguments": arguments, **changes})

    return make


@pytest.fixture
def ranks(tmp_path):
    """A function that runs `two_ranks.py` with the arguments given in two processes, which find each other."""

    def run(*arguments) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = []
        for rank in range(2):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            log = (tmp_path / f"log{rank}").open("wb")
            command = [sys.executable, Path(__file__).with_name("two_ranks.py"), *map(str, arguments)]
            environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        try:
            codes = [process.wait(timeout=240) for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert codes == [0, 0], "".join((tmp_path / f"log{rank}").read_text() for rank in range(2))

    return run


@pytest.fixture
def kill_training(tmp_path: Path) -> Callable[[TrainRecipe, str], None]:
    """A function that trains by the command line, and kills that process as soon as its output holds a file of this pattern."""

    def run(recipe: TrainRecipe, pattern: str) -> None:
        output, log = Path(recipe.output), tmp_path / "log"
        recipes.save(recipe, tmp_path)
        command = [sys.executable, "-m", "tpo_plugin", "train", str(tmp_path / "recipe.yaml")]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stderr=file)
        deadline = time.monotonic() + 240
        while not list(output.glob(pattern)) and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (output / "done.json").exists()

    return run
