"""The shipped recipes and the real scripts' own argument classes; a run of each from its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.options import UpstreamRecipe
from tpo_plugin.training.upstream import known_flags, words

PARSER = Path(__file__).with_name("parse_flags.py")
FOLDERS = {"llava_next": "llava_video", "longva": "longva"}
ON_CPU = {"use_cpu": True, "tf32": False}  # transformers refuses tf32 without a GPU that has it


@pytest.mark.parametrize("name", ["train", "train_lora"])
def test_the_scripts_parser_reads_a_recipe_as_it_is_written(world: Any, name: str) -> None:
    recipe = recipes.load(UpstreamRecipe, f"{FOLDERS[world.checkout.name]}/{name}")
    assert recipe.upstream == world.checkout.title
    assert set(recipe.flags) <= known_flags(world.checkout)
    flags = recipe.flags | ON_CPU
    done = world.run(PARSER, world.checkout.path, *words(flags, world.checkout.root))
    assert done.returncode == 0, done.stdout[-9000:]
    read = json.loads(done.stdout.splitlines()[-1])
    if name == "train":
        assert read.pop("deepspeed") == str(world.checkout.root / "scripts" / "zero3.json")
        del flags["deepspeed"]
    different = {key: (value, read[key]) for key, value in flags.items() if read[key] not in (value, [value])}
    assert different == ({"report_to": ("none", [])} if read["report_to"] == [] else {})


def overrides(world: Any, output: Path) -> list[str]:
    """What a recipe needs to run with the tiny model on the CPU."""
    values: dict[str, Any] = {
        "model_name_or_path": world.model,
        "vision_tower": world.tower,
        "data_path": world.data,
        "video_folder": world.media,
        "image_folder": world.media,
        "image_aspect_ratio": "square",
        "image_grid_pinpoints": None,
        "output_dir": output,
        "deepspeed": None,
        "bf16": False,
        "dataloader_num_workers": 0,
        "gradient_accumulation_steps": 1,
        "frames_upbound": 4,
        "model_max_length": 1024,
        "max_steps": 2,
        **ON_CPU,
    }
    if world.checkout.name == "longva":
        values["mm_spatial_pool_out_channels"] = 32  # of the tiny tower
    return [
        f"upstream={world.checkout.path}",
        *(f"flags.{key}={'null' if value is None else value}" for key, value in values.items()),
    ]


@pytest.mark.parametrize(("name", "processes"), [("train", 2), ("train_lora", 1)])
def test_a_recipe_runs(world: Any, tmp_path: Path, name: str, processes: int) -> None:
    output = tmp_path / "tiny-llava-longva-qwen"
    changes = [*overrides(world, output), f"processes={processes}"]
    if processes > 1:
        changes.append("flags.ddp_find_unused_parameters=false")
    done = world.run("-m", "tpo_plugin", "train", f"{FOLDERS[world.checkout.name]}/{name}", *changes)
    assert done.returncode == 0, done.stdout[-9000:]
    assert f"{world.checkout.path} -- --tpo True --tpo_preset {FOLDERS[world.checkout.name]}" in done.stdout, (
        "the command is shown"
    )
    assert json.loads((output / "trainer_state.json").read_text())["global_step"] == 2
    saved = yaml.safe_load((output / "recipe.yaml").read_text())
    assert saved["flags"]["max_steps"] == 2
    assert saved["flags"]["beta"] == (0.2 if world.checkout.name == "llava_next" else 0.3)


def test_a_failing_run_fails_the_command(world: Any, tmp_path: Path) -> None:
    command = ["-m", "tpo_plugin", "train", f"{FOLDERS[world.checkout.name]}/train", *overrides(world, tmp_path)]
    for processes, text in ((1, "raise it, lower --frames_upbound"), (2, "ChildFailedError")):
        done = world.run(*command, f"processes={processes}", "flags.model_max_length=60")
        assert done.returncode == 1
        assert text in done.stdout
    done = world.run(*command, "processes=1", "flags.frame_upbound=3")
    assert done.returncode == 1
    assert "no flag `frame_upbound`; did you mean `frames_upbound`" in done.stdout
    assert "Traceback" not in done.stdout


def test_lora_is_merged_into_a_checkpoint_of_its_own(world: Any, tmp_path: Path) -> None:
    output, merged = tmp_path / "lora", tmp_path / f"merged-{world.checkout.package}-qwen"
    recipe = f"{FOLDERS[world.checkout.name]}/train_lora"
    done = world.run(
        "-m", "tpo_plugin", "train", recipe, *overrides(world, output), "flags.learning_rate=0.01", "processes=1"
    )
    assert done.returncode == 0, done.stdout[-9000:]
    command = ("-m", "tpo_plugin", "merge", "--upstream", world.checkout.path)
    done = world.run(*command, output, merged)
    assert done.returncode == 0, done.stdout[-9000:]
    from safetensors.torch import load_file

    before, after = load_file(world.model / "model.safetensors"), load_file(merged / "model.safetensors")
    assert not [key for key in after if "lora_" in key]
    changed = {key.split(".")[-2] for key in before if not before[key].equal(after[key])}
    assert changed >= {"q_proj", "down_proj", "2"}, "adapters and projector"
    assert not changed & {"embed_tokens", "lm_head", "norm"}
    done = world.run(*command, world.model, tmp_path / "none")
    assert done.returncode == 1
    assert "holds no adapter" in done.stdout
