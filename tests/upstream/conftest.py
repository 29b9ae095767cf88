"""Fixtures for the tests that run against real upstream checkouts, named by TPO_LLAVA_NEXT and TPO_LONGVA."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.integrations.checkout import Checkout, find_checkout

VARIABLES = {"llava_next": "TPO_LLAVA_NEXT", "longva": "TPO_LONGVA"}


@dataclass(frozen=True)
class World:
    """One code base with its tiny checkpoint, and videos, pictures and pairs for it."""

    checkout: Checkout
    model: Path
    tower: Path
    data: Path  # pairs.json: 8 video rows and 2 picture rows
    media: Path

    def environment(self) -> dict[str, str]:
        """The variables that a process needs to import the upstream package, offline and on one core."""
        return os.environ | {
            "PYTHONPATH": str(self.checkout.root),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",
            "WANDB_MODE": "disabled",
        }

    def flags(self, output: Path, **changes: object) -> list[str]:
        """The script's flags for a short run on the CPU; `changes` replaces values, None leaves a flag out."""
        values = {
            "model_name_or_path": self.model,
            "version": "qwen_1_5",
            "data_path": self.data,
            "video_folder": self.media,
            "image_folder": self.media,
            "vision_tower": self.tower,
            "mm_tunable_parts": "mm_mlp_adapter,mm_language_model",
            "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -2,
            "mm_use_im_start_end": False,
            "mm_use_im_patch_token": False,
            "mm_patch_merge_type": "spatial_unpad" if self.checkout.name == "llava_next" else "unires",
            "attn_implementation": "sdpa",
            "frames_upbound": 4,
            "output_dir": output,
            "num_train_epochs": 1,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.1,
            "logging_steps": 1,
            "save_strategy": "no",
            "model_max_length": 1024,
            "use_cpu": True,
            "dataloader_num_workers": 0,
            "report_to": "none",
            "seed": 0,
        } | changes
        return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]

    def run(self, *command: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
        """Run this Python with `command` beside the checkout; the result's stdout holds stderr too."""
        return subprocess.run(
            [sys.executable, *map(str, command)],
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=280,
            **kwargs,  # type: ignore[arg-type]
        )

    def curate(self, recipe: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
        """`tpo curate`, which finds upstream's package by the recipe alone."""
        environment = {key: value for key, value in self.environment().items() if key != "PYTHONPATH"}
        return subprocess.run(
            [sys.executable, "-m", "tpo_plugin.cli", "curate", str(recipe), *overrides],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )


def write_media(folder: Path) -> Path:
    """4 videos of different lengths, 2 pictures and 10 pairs about them; returns the pairs' file."""
    import numpy as np
    from PIL import Image

    from tpo_plugin.tiny.world import draw_scenes, frames_at
    from tpo_plugin.video import write_video

    rows = []
    for index in range(4):
        scenes = draw_scenes(random.Random(index), 3 + index, 2.0)
        frames = frames_at(scenes, [place / 4 for place in range(8 * (3 + index))], 64)
        write_video(folder / f"video {index}.mp4", frames, 4)
        for kind in ("localized", "comprehensive"):
            rows.append(
                {
                    "id": f"{index}-{kind}",
                    "video": f"video {index}.mp4",
                    "prompt": "What shape is shown?"
                    if kind == "localized"
                    else "What is shown in the video, and then?",
                    "chosen": "A red circle, then a blue square." if kind == "localized" else "A blue square, red.",
                    "rejected": "A square" if kind == "localized" else "The user is shown a shape in red.",
                    "tpo": {"kind": kind},
                }
            )
    for index in range(2):
        colour = np.random.default_rng(index).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(colour).save(folder / f"picture {index}.png")
        rows.append(
            {
                "id": f"picture {index}",
                "image": f"picture {index}.png",
                "prompt": "What is shown?",
                "chosen": "A circle" + " and a square" * index,
                "rejected": "A video",
            }
        )
    for row in rows:
        row["answer"] = row["chosen"]
    (folder / "pairs.json").write_text(json.dumps(rows))
    return folder / "pairs.json"


def _load_tiny() -> object:
    spec = importlib.util.spec_from_file_location("tpo_tests_tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=list(VARIABLES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Each code base whose checkout is at hand, once a test."""
    variable = VARIABLES[request.param]
    if not os.environ.get(variable):
        pytest.skip(f"no checkout: set {variable} to one")
    import transformers

    if not (4, 40) <= tuple(int(part) for part in transformers.__version__.split(".")[:2]) <= (4, 57):
        pytest.skip(f"transformers {transformers.__version__} does not run {request.param}; use 4.40 - 4.57")
    checkout = find_checkout(os.environ[variable])
    assert checkout.name == request.param
    folder = tmp_path_factory.mktemp(checkout.name)
    model = _load_tiny().make_checkpoint(checkout.name, folder)  # type: ignore[attr-defined]
    media = folder / "media"
    media.mkdir()
    return World(checkout, model, folder / "tower", write_media(media), media)


@pytest.fixture(scope="module")
def without_upstream(world: World) -> Iterator[None]:
    """As a new process, before and after a module's tests: no upstream package, and none of the model types that it registers."""
    _forget_upstream()
    yield
    _forget_upstream()


def _forget_upstream() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for name in [name for name in sys.modules if name.partition(".")[0] in ("llava", "longva")]:
        del sys.modules[name]
    for name in [name for name in CONFIG_MAPPING._extra_content if name.startswith("llava_")]:
        del CONFIG_MAPPING._extra_content[name]


@pytest.fixture(scope="session")
def forget_upstream() -> Callable[[], None]:
    """A function that makes this process as new: no upstream package in it, and none of the model types that they register."""

    def forget() -> None:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        for name in [name for name in sys.modules if name.partition(".")[0] in ("llava", "longva")]:
            del sys.modules[name]
        for name in [name for name in CONFIG_MAPPING._extra_content if name.startswith("llava_")]:
            del CONFIG_MAPPING._extra_content[name]

    return forget


@pytest.fixture
def talker(world: Any, tmp_path: Path) -> Path:
    """The tiny model made to end its noise: a third of its vocabulary ends a reply (it was never trained to write the end)."""
    folder = tmp_path / "tiny-talker"
    shutil.copytree(world.model, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(2, 400, 3))}))
    return folder


@pytest.fixture
def recipe(world: Any, talker: Path, tiny_server: str, tmp_path: Path) -> Path:
    """2 videos at most; captions and questions by the tiny world's server, responses by the model, no judge."""
    server = {"base_url": tiny_server, "model": "tiny-world"}
    plain = {
        "output": str(tmp_path / "out"),
        "videos": {"source": str(world.media), "limit": 2},
        "frames": {"fps": 1, "max": 8, "max_side": 64, "time_instruction": True},
        "segments": {"per_video": 2, "min_seconds": 1, "max_seconds": 3},
        "captions": {"frames_per_call": 8, "generator": {"type": "server", "server": server}},
        "queries": {"per_video": 6},
        "responses": {
            "type": "llava",
            "model": str(talker),
            "upstream": str(world.checkout.path),
            "dtype": "float32",
            "device": "cpu",
            "temperature": 1.0,
            "max_new_tokens": 64,
        },
        "filters": {"use": ["identical", "length"]},
        "llm": server,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(plain))
    return tmp_path / "recipe.yaml"


@pytest.fixture
def same_steps() -> Callable[[dict[str, Any]], None]:
    """A function that asserts of each batch that two trainers saw: equal loss, metrics and gradients (as parity.py and fast.py print them)."""

    def check(found: dict[str, Any]) -> None:
        for name, batch in found.items():
            left, right = batch["loss"]
            assert right == pytest.approx(left, rel=1e-5), name
            assert abs(left - math.log(2)) > 1e-3, "policy and reference differ, or nothing is compared"
            assert max(batch["metrics"].values()) < 1e-4, name
            assert max(batch["gradient"].values()) < 1e-5, name

    return check
