"""The README's commands for LLaVA-NeXT and LongVA, taken from its text and run with tiny models in place of the real ones."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("## LLaVA-NeXT in five commands")[2].partition("\n## ")[0]
BLOCKS = [
    re.findall(r"^    (\S.*)$", block, re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", SECTION, re.MULTILINE)
]
FIVE, PATCHED, LAUNCHED, MERGED = {"llava_next": BLOCKS[0], "longva": BLOCKS[1]}, BLOCKS[2], BLOCKS[3], BLOCKS[4]
HUB = ("lmms-lab/LLaVA-Video-7B-Qwen2", "lmms-lab/LongVA-7B")
TOWERS = ("google/siglip-so400m-patch14-384", "openai/clip-vit-large-patch14-336")
SPARSE = {"llava_next": ("llava", "trl"), "longva": ("longva",)}
RECIPES = {"llava_next": "llava_video", "longva": "longva"}


class Shell:
    """Runs commands in a folder as a user of the README would: with the environment's programs, without PYTHONPATH."""

    def __init__(self, world: Any, folder: Path) -> None:
        self.world, self.folder = world, folder
        kept = {key: value for key, value in world.environment().items() if key != "PYTHONPATH"}
        self.environment = kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def __call__(self, command: str, *more: str, status: int = 0, **variables: str) -> str:
        line = " ".join([command, *map(shlex.quote, more)])
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=280,
            check=False,
        )
        assert done.returncode == status, f"{line}\n{done.stdout[-6000:]}"
        return done.stdout


@pytest.fixture
def shell(world: Any, tmp_path: Path) -> Shell:
    """A folder with a clone of the checkout (the packages alone), made by the README's command."""
    run = Shell(world, tmp_path)
    clone, _, install = FIVE[world.checkout.name][0].partition(" && ")
    assert install == "pip install 'tpo-plugin[llava,lmms]'"
    url, name = clone.split()[-1], clone.rpartition("/")[2]
    run(clone.replace(url, f"--shared --sparse -q {shlex.quote(str(world.checkout.path))} {name}"))
    run(f"git -C {name} sparse-checkout set {' '.join(SPARSE[world.checkout.name])}")
    (tmp_path / "my_videos").mkdir()
    for video in world.media.glob("*.mp4"):
        shutil.copy(video, tmp_path / "my_videos")
    asked = [
        {"from": "human", "value": "<image>\nWhat is shown?"},
        {"from": "gpt", "value": "A circle, then a square."},
    ]
    rows = [{"id": str(at), "video": f"video {at}.mp4", "conversations": asked} for at in range(4)]
    (tmp_path / "my_videos" / "qa.json").write_text(json.dumps(rows))
    yield run
    shutil.rmtree(tmp_path / name)


@pytest.fixture
def talker(world: Any, tmp_path: Path) -> Path:
    """The tiny model made to end its noise: a third of its vocabulary ends a reply."""
    folder = tmp_path / f"tiny-{world.checkout.package}-qwen"
    shutil.copytree(world.model, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(2, 400, 3))}))
    return folder


def on_curation(server: str, model: Path) -> list[str]:
    where = f"{{base_url: '{server}', model: tiny-world}}"
    answers = {"model": model, "dtype": "float32", "device": "cpu", "temperature": 1.0, "max_new_tokens": 48}
    return [
        f"llm={where}",
        f"captions={{frames_per_call: 8, generator: {{type: server, server: {where}}}}}",
        "segments={per_video: 2, min_seconds: 1, max_seconds: 3}",
        "filters={use: [identical, length]}",
        "frames.max=4",
        *(f"responses.{key}={value}" for key, value in answers.items()),
    ]


def on_training(world: Any) -> list[str]:
    """What differs from the 7B recipes: tiny model, CPU, two processes, two steps. The pairs are those of the curation."""
    values = {
        "model_name_or_path": world.model,
        "vision_tower": world.tower,
        "deepspeed": "null",
        "image_aspect_ratio": "square",
        "image_grid_pinpoints": "null",
        "use_cpu": True,
        "bf16": False,
        "tf32": False,
        "ddp_find_unused_parameters": False,
        "dataloader_num_workers": 0,
        "gradient_accumulation_steps": 1,
        "frames_upbound": 4,
        "model_max_length": 1024,
        "max_steps": 2,
    }
    if world.checkout.name == "longva":
        values["mm_spatial_pool_out_channels"] = 32
    return ["processes=2", *(f"flags.{key}={value}" for key, value in values.items())]


def tiny(world: Any, command: str) -> str:
    """The command with the tiny checkpoint for the one on the hub."""
    for name, path in [*((name, world.model) for name in HUB), *((name, world.tower) for name in TOWERS)]:
        command = command.replace(name, shlex.quote(str(path)))
    return command


def test_the_five_commands(world: Any, shell: Shell, talker: Path, tiny_server: str) -> None:
    _, doctor, curate, train, evaluate = FIVE[world.checkout.name]
    runs = shell.folder / "runs" / RECIPES[world.checkout.name]

    assert "Nothing found that stops a run." in shell(tiny(world, doctor))

    shell(curate, *on_curation(tiny_server, talker))
    assert json.loads((runs / "pairs" / "pairs.json").read_text())

    shell(train, *on_training(world))
    trained = next(runs.glob("*-TPO"))
    assert json.loads((trained / "trainer_state.json").read_text())["global_step"] == 2

    if importlib.util.find_spec("lmms_eval") is None:
        pytest.skip("all but the evaluation: lmms-eval is not installed here")
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    write_benchmarks(shell.folder / "data", 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3))
    small = ["max_frames_num=4", "device_map=auto", "device=cpu"]
    changes = ["data=data", "tasks=[videomme, mlvu_dev]", f"models.base={world.model}"]
    shell(evaluate, *changes, *(f"wrapper_args.{value}" for value in small))
    results = json.loads((runs / "evaluation" / "results.json").read_text())
    assert {label: entry["tasks"]["videomme"]["n"] for label, entry in results["models"].items()} == {
        "base": 5,
        "tpo": 5,
    }
    assert results["wrapper"]["upstream"]["name"] == world.checkout.title


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.mark.parametrize("block", ["patched", "launched"])
def test_the_scripts_own_command_line(world: Any, shell: Shell, block: str) -> None:
    if world.checkout.name == "longva":
        pytest.skip("the README shows it for LLaVA-NeXT")
    output = shell.folder / "out"
    for command in PATCHED if block == "patched" else LAUNCHED:
        here = command.replace("--nproc_per_node 8", f"--nproc_per_node 1 --master_port {free_port()}")
        said = shell(here, FLAGS=" ".join(world.flags(output, max_steps=2, gamma=0.7)))
    assert "gamma 0.7 (preset: 1.0)" in said
    assert json.loads((output / "trainer_state.json").read_text())["global_step"] == 2


def test_an_adapter_is_merged(world: Any, shell: Shell) -> None:
    if world.checkout.name == "longva":
        pytest.skip("the README shows it for LLaVA-NeXT")
    adapter, merged = shlex.split(MERGED[0])[-2:]
    changes = [*on_training(world), "processes=1", f"flags.data_path={world.data}", f"flags.video_folder={world.media}"]
    shell("tpo train llava_video/train_lora", *changes, f"flags.image_folder={world.media}")
    assert (shell.folder / adapter / "adapter_config.json").is_file()
    shell(MERGED[0])
    assert (shell.folder / merged / "config.json").is_file()
