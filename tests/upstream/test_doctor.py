"""`tpo doctor` and the name tests against the real code bases."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from tpo_plugin.integrations.llava_family import names
from tpo_plugin.integrations.llava_family.traps import traps

FROM = {  # the release of transformers from which on a repair is needed
    "deepspeed_none": "4.40",
    "gradient_accumulation_plugin": "4.46",
    "trainer_signatures": "4.46",
    "train_sampler_signature": "4.52",
    "layernorm_layers": "4.53",
    "pytorch_utils": "4.56",
}
MODELS = [
    *("lmms-lab/LLaVA-Video-7B-Qwen2", "lmms-lab/LongVA-7B", "a/Quyen", "a/llava-video-7b", "home/yi/llava-qwen"),
    *("copying/llava-qwen", "llama/longva-qwen", "mistral/llava-vicuna", "a/llava-zephyr", "a/llava-mixtral-vicuna"),
    *(
        "moe/llava-qwen",
        "a/llava-qwen-moe",
        "a/longva-qwen-moe",
        "a/llava-gemma",
        "a/longva-gemma-qwen",
        "mistral-qwen/x",
    ),
    *(
        "a/nous-hermes",
        "a/llava-nous-hermes",
        "a/nous-hermes-wizard-2",
        "a/llava-wizardlm-2",
        "a/llava-wizardlm-2-vicuna",
    ),
    *("a/llava-v1.5-qwen", "a/llava-v1.6-34b-qwen", "qwen/llava-vicuna/checkpoint-3", "llava-qwen", "longva-vicuna"),
]
TOWERS = [
    *("openai/clip-vit-large-patch14-336", "laion/x", "Lin-Chen/ShareGPT4V-7B", "google/siglip-so400m-patch14-384"),
    *("google/SigLIP", "hf:a/b", "imagebind_huge", "open_clip_hub:a", "DeepGlint-AI/mlcd-vit-bigG-patch14-336", "a/b"),
]
CLASS_CODE = """
import sys
from tpo_plugin.integrations.llava_family.repairs import repair_imports
package, path, name = sys.argv[1:]
repair_imports(package)
import importlib
model = getattr(importlib.import_module(f"{package}.model"), name).from_pretrained(path, attn_implementation="sdpa")
print("LOADED", type(model).__name__, any("q_proj.bias" in key and "vision" not in key for key in model.state_dict()))
"""
TOWER_CODE = """
import sys
from types import SimpleNamespace
from tpo_plugin.integrations.llava_family.repairs import repair_imports
repair_imports("llava")
from llava.model.multimodal_encoder.builder import build_vision_tower
tower = build_vision_tower(SimpleNamespace(mm_vision_tower=sys.argv[1], mm_vision_select_layer=-2))
print("LOADED", type(tower).__name__, len(tower.vision_tower.vision_model.encoder.layers))
"""


def doctor(world, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return world.run("-m", "tpo_plugin.cli", "doctor", world.checkout.path, *arguments)


def test_a_fit_environment(world) -> None:
    """Exit status 0, the repairs of just this transformers, both decoders, nothing wrong with the tiny checkpoint."""
    run = doctor(world, "--model", world.model, "--tower", world.tower, "--data", world.data)
    assert run.returncode == 0, run.stdout
    here = Version(version("transformers"))
    listed = {name for name in FROM if re.search(rf"^  {name} ", run.stdout, re.MULTILINE)}
    assert listed == {name for name, since in FROM.items() if here >= Version(since)}
    assert ("\n  config_defaults " in run.stdout) == (world.checkout.name == "llava_next")
    for expected in (
        f"\ntpo doctor: {world.checkout.title} at {world.checkout.path}",
        f"  transformers  {here}",
        "reads H.264 in mp4",
        "the checkout's own",
        "LlavaQwenForCausalLM, by 'qwen'",
        f"{world.data}  10 rows  ok",
        "give --attn_implementation sdpa",
        "Nothing found that stops a run.",
    ):
        assert expected in "\n" + run.stdout
    assert run.stdout.count("reads H.264 in mp4") == 2
    assert "trap" not in run.stdout


def test_a_misleading_folder_stops_and_the_cure_works(world, tmp_path: Path) -> None:
    folder = tmp_path / "copying"
    folder.mkdir()
    link = folder / world.model.name
    link.symlink_to(world.model)
    run = doctor(world, "--model", link, "--tower", world.tower)
    assert run.returncode == 1
    assert f"takes {link} for LlavaLlamaForCausalLM, because of 'yi' in 'copying'" in run.stdout
    loaded = world.run("-c", CLASS_CODE, world.checkout.package, link, "LlavaLlamaForCausalLM").stdout
    assert "LOADED LlavaLlamaForCausalLM False" in loaded, "upstream loads it without an error and drops the biases"
    right = world.run("-c", CLASS_CODE, world.checkout.package, link, "LlavaQwenForCausalLM").stdout
    assert "LOADED LlavaQwenForCausalLM True" in right


def test_names_mean_what_upstream_makes_of_them(world) -> None:
    package = world.checkout.package
    asked = json.dumps({"models": MODELS, "towers": [*TOWERS, str(world.tower)]})
    run = world.run(Path(__file__).with_name("sniff.py"), package, world.checkout.script, world.model, asked)
    assert run.returncode == 0, run.stdout
    found = json.loads(run.stdout.splitlines()[-1])

    def told(name: str | None) -> str | None:
        known = name in (*names.IMPORTED[package], names.LANGUAGE_ONLY, None)
        return name if known else f"{name} (not imported)"

    assert found["trained"] == {
        path: [told(names.training_class(path, package)), names.training_config(path)] for path in MODELS
    }
    assert found["loaded"] == {path: told(names.evaluation_class(path, package)) for path in MODELS}
    assert found["towers"] == {name: names.tower_class(name, package) for name in [*TOWERS, str(world.tower)]}


def test_a_local_siglip_loads_only_as_the_cure_says(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small SigLIP: as a folder it is a size mismatch; laid out by the shell commands of the cure it loads."""
    if world.checkout.name != "llava_next":
        pytest.skip("LongVA has no SigLIP")
    from transformers import SiglipVisionConfig, SiglipVisionModel

    folder = tmp_path / "a siglip"
    SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=56
        )
    ).save_pretrained(folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub home"))
    (trap,) = traps(None, str(folder), "llava")
    failed = world.run("-c", TOWER_CODE, folder)
    assert failed.returncode != 0
    (folder / "preprocessor_config.json").write_text("{}")
    assert "size mismatch" in world.run("-c", TOWER_CODE, folder).stdout
    name, _, commands = trap.cure.partition(", and where there is no network")
    subprocess.run(["bash", "-ec", commands.partition(": ")[2]], check=True)
    run = world.run("-c", TOWER_CODE, name.removeprefix("pass "))
    assert "LOADED SigLipVisionTower" in run.stdout, run.stdout
